package planner

import (
	"maps"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Compact returns the compact deltas that a policy wants for these series, each once, sorted by
// file, without actions: to the newest image of each series, or along the rdiff deltas, from
// bases that some series has, and the newest without a base. Of those that would have one name
// and different targets it returns the first, by series and image.
func Compact(series []meta.Series, policy plan.Compact) []plan.CompactDelta {
	published := make(map[meta.Name]bool)
	for _, s := range series {
		for _, im := range s.Images {
			published[im.Name] = true
		}
	}
	wanted := make(map[string]*plan.CompactDelta)
	for _, s := range series {
		for _, c := range compactOf(s, policy) {
			had := wanted[c.File]
			switch {
			case c.Base != (meta.Name{}) && !published[c.Base]:
			case had == nil:
				c.Series = []string{s.Name}
				wanted[c.File] = &c
			case had.Target == c.Target && !slices.Contains(had.Series, s.Name):
				had.Series = append(had.Series, s.Name)
				had.Rival = min(had.Rival, c.Rival)
			}
		}
	}
	all := make([]plan.CompactDelta, 0, len(wanted))
	for _, file := range slices.Sorted(maps.Keys(wanted)) {
		slices.Sort(wanted[file].Series)
		all = append(all, *wanted[file])
	}
	return all
}

// compactOf returns those of one series.
func compactOf(s meta.Series, policy plan.Compact) (all []plan.CompactDelta) {
	newest := s.Newest()
	if newest == nil {
		return nil
	}
	if policy.Full {
		all = append(all, compactDelta(meta.Name{}, newest))
	}
	switch policy.Mode {
	case plan.CompactNewest:
		for _, im := range s.Images[:len(s.Images)-1] {
			all = append(all, compactDelta(im.Name, newest))
		}
	case plan.CompactAll:
		for i := range s.Images {
			for _, d := range s.Images[i].Diffs {
				all = append(all, compactDelta(d.Base, &s.Images[i]))
			}
		}
	}
	return all
}

func compactDelta(base meta.Name, target *meta.Image) plan.CompactDelta {
	rival := target.Sums.Size
	if d, ok := target.Diff(base); ok {
		rival = d.Sums.Size
	}
	return plan.CompactDelta{File: meta.CompactName(base, target.Name), Base: base, Target: target.Name, Rival: rival, TargetSize: target.Sums.Size}
}

// addCompact plans the compact deltas of the series that are built.
func (p *planner) addCompact() {
	var series []meta.Series
	built := make(map[string]bool)
	for _, s := range p.plan.Series {
		built[s.Name] = true
		series = append(series, p.foreseen(s))
	}
	for _, s := range p.in.Documents { // a series that is kept may have a base
		if p.failed[s.Name] && !built[s.Name] {
			series = append(series, s)
		}
	}
	for _, c := range Compact(series, p.in.Policy.Compact) {
		if !slices.ContainsFunc(c.Series, func(name string) bool { return built[name] }) {
			continue
		}
		c.Action = p.compactAction(c)
		switch stamp, _ := p.in.Holds.Has(c.File); c.Action {
		case plan.Keep, plan.Drop:
			c.Size = p.in.Holds.Records[c.File].Sums.Size
		case plan.Check:
			c.Size = stamp.Size
		}
		p.adopt(c.File)
		p.plan.Compact = append(p.plan.Compact, c)
	}
}

// foreseen returns the document that a series will have, as far as compact deltas depend on it.
func (p *planner) foreseen(s plan.Series) meta.Series {
	doc := meta.Series{Name: s.Name}
	for _, file := range s.Images {
		n, _ := meta.ParseName(file) // it came from a Name
		im := meta.Image{Name: n, File: meta.File{Sums: cksum.Sums{Size: p.images[n].Size}}}
		for _, file := range s.Deltas[file] {
			if d := p.deltas[file]; d.Action != plan.Drop {
				im.Diffs = append(im.Diffs, meta.Diff{Filename: file, Base: d.Base, File: meta.File{Sums: cksum.Sums{Size: d.Size}}})
			}
		}
		doc.Images = append(doc.Images, im)
	}
	return doc
}

// compactAction returns what a run does about a compact delta. What may not be touched, and
// what is known to be damaged, counts as not there.
func (p *planner) compactAction(c plan.CompactDelta) plan.Action {
	stamp, there := p.in.Holds.Has(c.File)
	record := p.in.Holds.Records[c.File]
	if slices.Contains(p.in.Suspect, mirror.PathOf(c.File)) || there && !p.in.Holds.Takes(c.File) {
		return plan.Make
	}
	base, fresh, touched := p.contentOf(c.Base)
	target, targetFresh, targetTouched := p.contentOf(c.Target)
	a := compacts.Decide(record, stamp, base, target)
	switch known := record != nil && (record.Dropped || record.Summed() && record.Stamp.Matches(stamp)); {
	case (fresh || targetFresh) && known: // it holds if they are what the delta was made of
		return plan.Await
	case (touched || targetTouched) && (a == plan.Keep || a == plan.Drop):
		return plan.Await
	}
	return a
}

// contentOf returns the BLAKE3 of an image, and whether that will only be known, or may only
// hold, when the image was read. It is zero for no image.
func (p *planner) contentOf(n meta.Name) (digest cksum.Digest256, fresh, touched bool) {
	if n == (meta.Name{}) {
		return digest, false, false
	}
	if record := p.in.Holds.Records[n.String()]; record.Summed() {
		digest = record.Sums.BLAKE3
	}
	if im := p.images[n]; im != nil {
		fresh, touched = isNew(im), im.Touched
	}
	return digest, fresh, touched
}

// compactName parses the name of a compact delta for the series that its images have by their
// names.
func compactName(file string) (meta.Name, error) {
	base, _, err := meta.ParseCompactName(file)
	if err == nil && base == (meta.Name{}) {
		return meta.ParseOldName(strings.TrimSuffix(file, mirror.CompactExt) + ".img")
	}
	return base, err
}
