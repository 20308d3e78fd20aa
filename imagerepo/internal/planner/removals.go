package planner

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/internal/loss"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// addRemovals plans the removal of what is the tool's own and no longer wanted.
func (p *planner) addRemovals() {
	wanted := make(map[string]bool) // true: the file, false: its record alone
	for _, s := range p.plan.Series {
		wanted[s.Name+".json"] = true
	}
	for _, im := range p.plan.Images {
		wanted[im.File] = im.Published()
	}
	for _, d := range p.plan.Deltas {
		wanted[d.File] = d.Action != plan.Drop
	}
	for _, c := range p.plan.Compact {
		if c.Action != plan.Make {
			wanted[c.File] = c.Action != plan.Drop
		}
	}
	for _, t := range p.plan.Torrents {
		wanted[mirror.TorrentOf(t.File)] = true
	}
	for _, name := range p.in.Holds.Names() {
		published, known := wanted[name]
		if stamp, there := p.in.Holds.Has(name); !published && !p.failed.Has(name) {
			p.addRemoval(name, stamp, there, known)
		}
	}
	slices.Sort(p.plan.Unowned)
	slices.SortFunc(p.plan.Remove, func(a, b plan.Removal) int { return strings.Compare(a.Path, b.Path) })
}

// addRemoval plans the removal of a file, and of its record unless that is wanted, or
// notes that it stays since it is not the tool's own.
func (p *planner) addRemoval(name string, stamp state.Stamp, there, recordWanted bool) {
	file := mirror.PathOf(name)
	switch {
	case there && !p.in.Holds.Owns(name):
		if p.in.Holds.Listed[name] {
			p.plan.Unowned = append(p.plan.Unowned, file)
		}
	case there, !recordWanted && p.in.Holds.Records[name] != nil:
		p.plan.Remove = append(p.plan.Remove, plan.Removal{Path: file, Size: stamp.Size, Due: p.due(name), Forget: !recordWanted})
	}
}

// due returns when an orphan is removed; zero means by this run. A meta is no payload:
// whoever has read it needs no other copy. A damaged file is of no use to anybody. A torrent
// goes with its file at the latest.
func (p *planner) due(name string) time.Time {
	since := p.orphaned(name)
	suspect := slices.Contains(p.in.Suspect, mirror.PathOf(name))
	if file, ok := mirror.FileOf(name); ok {
		if of := p.orphaned(file); of.Before(since) {
			since = of
		}
		suspect = suspect || slices.Contains(p.in.Suspect, mirror.PathOf(file))
	}
	due := since.Add(p.in.Policy.Grace)
	if path.Ext(name) == ".json" || suspect || !due.After(p.in.Now) {
		return time.Time{}
	}
	return due
}

// orphaned returns since when a file is an orphan: now if it becomes one, or a clock went back.
func (p *planner) orphaned(name string) time.Time {
	record := p.in.Holds.Records[name]
	if record == nil || record.Orphaned == 0 || time.Unix(record.Orphaned, 0).After(p.in.Now) {
		return p.in.Now
	}
	return time.Unix(record.Orphaned, 0)
}

// CheckRemovals refuses a plan by which too much would be lost, see package loss.
func CheckRemovals(in Input, p plan.Plan, imageDir string) error {
	stays := staying(in, p)
	lost := loss.Of(in.Documents, stays, arriving(in.Documents, p))
	addUnlisted(lost, in, stays)
	if !lost.TooMuch() {
		return nil
	}
	var b strings.Builder
	for _, n := range lost.Gone() {
		fmt.Fprintf(&b, "\n  %s", n)
	}
	return fmt.Errorf("%w: %d of %d are no longer in %s, in no series, or not kept:%s\nIs it the right directory, and completely mounted? Nothing was changed. To remove them, give --allow-removal once",
		plan.ErrRemoval, len(lost.Gone()), lost.All(), imageDir, b.String())
}

// addUnlisted counts the images that the tool has put into the mirror and that no
// document names, because it is lost. Their series are those of their names.
func addUnlisted(lost *loss.Loss, in Input, stays func(meta.Name) bool) {
	images, gone := make(map[string][]meta.Name), make(map[string][]meta.Name)
	for name, record := range in.Holds.Records {
		n, err := meta.ParseOldName(name)
		_, there := in.Holds.Has(name)
		if err != nil || lost.Has(n) || !there || !record.Placed || record.Orphaned != 0 {
			continue
		}
		images[n.Series()] = append(images[n.Series()], n)
		if !stays(n) {
			gone[n.Series()] = append(gone[n.Series()], n)
		}
	}
	for series := range images {
		lost.Add(images[series], gone[series])
	}
}

// staying returns a function that reports whether an image stays published, or is
// damaged: then it cannot.
func staying(in Input, p plan.Plan) func(meta.Name) bool {
	failed := make(map[string]error)
	maps.Copy(failed, in.Failed)
	for _, f := range p.Failed {
		failed[f.Name] = f.Err
	}
	files := FilesOf(failed, in.Series, in.Documents)
	planned := make(map[meta.Name]bool)
	for _, im := range p.Images {
		planned[im.Name] = im.Published()
	}
	return func(n meta.Name) bool {
		return planned[n] || files.Has(n.String()) || slices.Contains(in.Suspect, n.String())
	}
}

// arriving returns the newest version of the images that are not published yet, by
// the names of their series.
func arriving(documents []meta.Series, p plan.Plan) map[string]string {
	published := make(map[string]bool)
	for _, s := range documents {
		for _, im := range s.Images {
			published[im.Name.String()] = true
		}
	}
	newest := make(map[string]string)
	for _, s := range p.Series {
		for _, file := range s.Images {
			if published[file] {
				continue
			}
			n, _ := meta.ParseName(file) // it came from a Name
			newest[s.Name] = max(newest[s.Name], n.Version)
			newest[n.Series()] = max(newest[n.Series()], n.Version)
		}
	}
	return newest
}
