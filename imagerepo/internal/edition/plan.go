package edition

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/loss"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Plan is what a run does at a destination, in this order.
type Plan struct {
	Destination string `json:"destination"`
	// New is payload that is sent under its name, torrents after the others. Changed is payload
	// that is sent aside, and gets its name once no document names it.
	New     []File `json:"new"`
	Changed []File `json:"changed"`
	// Signed are signed files that nobody reads before the timestamp names them.
	Signed []string `json:"signed"`
	// Withdraw are the documents from which changed files are taken before these get their
	// names, and the signed files that this takes.
	Withdraw []string `json:"withdraw"`
	// Documents are written after all payload has its name, then Trust: the timestamp and
	// new roots.
	Documents []string `json:"documents"`
	Trust     []string `json:"trust"`
	// Signs says that the run will sign what it withdraws, or the edition, for which a dry run
	// has no keys. It then writes more files of tuf, whose names have the time of signing.
	Signs  bool   `json:"signs,omitempty"`
	Remove []File `json:"remove"`
	Kept   int    `json:"kept"` // files that stay as they are

	Bytes    int64 `json:"bytes"`    // to be sent
	Requests int64 `json:"requests"` // about, without those of Signs
	// Seconds is how long sending takes at the rate of the last run, 0 if that is unknown.
	Seconds float64 `json:"seconds,omitempty"`
}

// File is a file of a plan.
type File struct {
	Name string    `json:"name"`
	Size int64     `json:"size"`
	Due  time.Time `json:"due,omitzero"` // when an orphan is removed; zero: by this run
}

// Nothing reports whether the plan changes nothing.
func (p Plan) Nothing() bool {
	return len(p.New)+len(p.Changed)+len(p.Signed)+len(p.Withdraw)+len(p.Documents)+len(p.Trust) == 0 && !p.Signs &&
		!slices.ContainsFunc(p.Remove, func(f File) bool { return f.Due.IsZero() })
}

// comparison is how an edition differs from what a destination holds. Each name of the
// edition is in one of its fields; orphans are those of the record that are in none.
type comparison struct {
	fresh   []string // payload, and signed files that the timestamp will name
	changed []string // payload
	writes  []string // documents that differ
	same    []string
	orphans []string
}

// compare compares an edition with what a destination holds, by name; a content that is
// unknown is zero.
func compare(e *edition, holds map[string]record.Content, recorded map[string]record.Entry) (c comparison) {
	all := e.all()
	versioned := make(map[string]bool)
	for _, d := range e.trusted {
		versioned[d.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		have, exists := holds[name]
		switch {
		case exists && have == all[name]:
			c.same = append(c.same, name)
		case isPayload(name) && exists:
			c.changed = append(c.changed, name)
		case isPayload(name), versioned[name]:
			c.fresh = append(c.fresh, name)
		default:
			c.writes = append(c.writes, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		if _, published := all[name]; !published {
			c.orphans = append(c.orphans, name)
		}
	}
	return c
}

// checkRemoval refuses an edition by which a destination would lose too much.
func checkRemoval(e *edition, v *Inventory, destination string) error {
	if !slices.ContainsFunc(e.series, func(s meta.Series) bool { return len(s.Images) > 0 }) {
		return fmt.Errorf("%w: it has no images; permit that once with --allow-removal", ErrMirror)
	}
	lost := loss.Between(v.series, e.series)
	addWithdrawn(lost, e, v)
	if !lost.TooMuch() {
		return nil
	}
	var b strings.Builder
	for _, n := range lost.Gone() {
		fmt.Fprintf(&b, "\n  %s", n)
	}
	return fmt.Errorf("%w: %d of the %d images at %s are not in it:%s\nIs it the right mirror, and built from all images? Nothing was changed. To remove them, permit it once with --allow-removal",
		ErrMirror, len(lost.Gone()), lost.All(), untrusted.Show(destination), b.String())
}

// addWithdrawn counts images that no document names, since a run withdrew them and ended before
// it published them again. Their series are those of their names.
func addWithdrawn(lost *loss.Loss, e *edition, v *Inventory) {
	newest := make(map[string]string)
	for name := range e.payload {
		if n, err := meta.ParseOldName(name); err == nil {
			newest[n.Series()] = max(newest[n.Series()], n.Version)
		}
	}
	images, gone := make(map[string][]meta.Name), make(map[string][]meta.Name)
	for name, entry := range v.record.Files {
		n, err := meta.ParseOldName(name)
		if _, exists := v.files[name]; err != nil || !exists || entry.Orphaned != 0 || lost.Has(n) {
			continue
		}
		images[n.Series()] = append(images[n.Series()], n)
		if _, stays := e.payload[name]; !stays && newest[n.Series()] <= n.Version {
			gone[n.Series()] = append(gone[n.Series()], n)
		}
	}
	for series := range images {
		lost.Add(images[series], gone[series])
	}
}

// due returns when an orphan is removed; the zero time stands for this run. An orphan without
// a date in the record becomes one in this run.
func due(e record.Entry, grace time.Duration, now time.Time) time.Time {
	since := now
	if e.Orphaned != 0 && time.Unix(e.Orphaned, 0).Before(now) {
		since = time.Unix(e.Orphaned, 0)
	}
	if at := since.Add(grace); at.After(now) {
		return at
	}
	return time.Time{}
}

// removals returns the orphans, each with the time of its removal: documents and then torrents
// first, so that none names a file that is gone.
func removals(orphans []string, v *Inventory, grace time.Duration, now time.Time) (all []File) {
	for _, name := range orphans {
		all = append(all, File{name, v.files[name].Size, due(v.record.Files[name], grace, now)})
	}
	slices.SortStableFunc(all, func(a, b File) int { return removalRank(a.Name) - removalRank(b.Name) })
	return all
}

func removalRank(name string) int {
	switch {
	case isTorrent(name):
		return 1
	case isPayload(name):
		return 2
	}
	return 0
}
