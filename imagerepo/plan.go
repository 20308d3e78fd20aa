package imagerepo

import (
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
)

// Action is what a plan does about a file.
type Action string

const (
	// Of an image: Link puts it into the mirror, Replace puts it in the place of
	// another content of that name, after withdrawing that from the documents.
	// BaseOnly leaves an image out that only extra_rdiffs names, as a base. Retired is
	// that of an image that left the image directory and still serves as a base, by
	// its signature.
	Link     Action = "link"
	Replace  Action = "replace"
	BaseOnly Action = "base"
	Retired  Action = "retired"
	// Of a delta: Make makes it; Drop leaves it out as not worth having. Omit, which
	// only a result can be, leaves out one that cannot be made, and tells why.
	Make Action = "make"
	Drop Action = "drop"
	Omit Action = "omit"
	// Of both: Keep leaves it as it is. Check keeps it if it proves right, which no
	// record tells; if not, what is the tool's own is made again.
	Keep  Action = "keep"
	Check Action = "check"
)

// Plan is what a run will do. Making one changes nothing, and the same input
// gives the same plan.
type Plan struct {
	Series []PlannedSeries `json:"series"`
	Images []PlannedImage  `json:"images"` // sorted by name
	Deltas []PlannedDelta  `json:"deltas"` // those of one base beside each other
	Remove []PlannedRemove `json:"remove"` // sorted by path

	// Failed are the series of which nothing can be made; they stay published as they
	// are. What is in the other lists is of the others.
	Failed []FailedSeries `json:"failed,omitempty"`

	// Adopted says that the mirror, or part of it, was not made by the tool or that
	// its records are lost, and is taken over. LeftAlone are the folders of the tool
	// that made it, of no use any more, and Unowned the files, by their paths in the
	// mirror, that documents name, that are not wanted any more, and of which no
	// record tells that the tool has put them there.
	Adopted   bool     `json:"adopted"`
	LeftAlone []string `json:"left_alone,omitempty"`
	Unowned   []string `json:"unowned,omitempty"`

	Estimate Estimate `json:"estimate"`
}

// groups returns the deltas by their bases.
func (p Plan) groups() (groups [][]PlannedDelta) {
	for _, d := range p.Deltas {
		if n := len(groups); n > 0 && groups[n-1][0].Base == d.Base {
			groups[n-1] = append(groups[n-1], d)
		} else {
			groups = append(groups, []PlannedDelta{d})
		}
	}
	return groups
}

// PlannedSeries is a series with its images, oldest first, and the deltas of
// each in the order they have in the meta.
type PlannedSeries struct {
	Name   string              `json:"name"`
	Images []string            `json:"images"`
	Deltas map[string][]string `json:"deltas"` // by image
}

// PlannedImage is an image of the image directory.
type PlannedImage struct {
	Image  `json:"-"`
	File   string `json:"file"`
	Size   int64  `json:"size"`
	Action Action `json:"action"`
	// Read says that the image must be read for its digests and its signature;
	// Touched that these are known and one digest may tell that they still hold.
	Read    bool `json:"read"`
	Touched bool `json:"touched,omitempty"`
}

// PlannedDelta is a delta between two images.
type PlannedDelta struct {
	File         string    `json:"file"`
	Base, Target meta.Name `json:"-"`
	Action       Action    `json:"action"`
	Size         int64     `json:"size,omitempty"` // where it is known
	TargetSize   int64     `json:"target_size"`
	// Retired says that of the base only the signature is left.
	Retired  bool  `json:"retired,omitempty"`
	baseSize int64 // bytes
}

// open reports whether there is something to do about a delta.
func (d PlannedDelta) open() bool { return d.Action != Keep && d.Action != Drop }

// FailedSeries is a series of which nothing can be made.
type FailedSeries struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	err    error
}

// PlannedRemove is a file of an earlier run that nothing will name any more.
type PlannedRemove struct {
	Path string `json:"path"` // in the mirror
	Size int64  `json:"size"`
	// Due is when it is removed; zero is now.
	Due    time.Time `json:"due,omitzero"`
	name   string
	forget bool // the record is removed too
}

// Policy says which deltas are made, and for how long files are kept that nothing
// names any more.
type Policy struct {
	Targets    int     `json:"targets"`    // for how many of the newest images
	Bases      int     `json:"bases"`      // from how many others at most, the nearest; 0: from all
	Downgrades bool    `json:"downgrades"` // also to an older image
	MaxRatio   float64 `json:"max_ratio"`  // the largest share of its target that a delta may have
	// KeepSignatures says that an image that left the image directory stays a base,
	// by its signature.
	KeepSignatures bool          `json:"keep_signatures"`
	Grace          time.Duration `json:"grace"` // nanoseconds
}

// decide says what to do about a delta between images of these digests, with its
// record and the stamp of the file in the mirror, which may both be missing.
func (p Policy) decide(record *state.Record, file state.Stamp, base, target cksum.Sums) Action {
	of := record != nil && record.Base == base.BLAKE3 && record.Target == target.BLAKE3
	right := of && !record.Dropped && record.Summed() && record.Stamp.Matches(file)
	switch {
	case of && record.Dropped && p.tooLarge(record.Sums.Size, target.Size):
		return Drop
	case right && p.tooLarge(file.Size, target.Size):
		return Drop
	case right:
		return Keep
	case file != state.Stamp{}:
		return Check
	default:
		return Make
	}
}

// tooLarge reports whether a delta of that size is not worth having.
func (p Policy) tooLarge(delta, target int64) bool {
	return float64(delta) > p.MaxRatio*float64(target)
}

// bases returns the bases wanted for the image at i of a series: of the newest
// images all others, sorted, with those retired images that could have been in
// the series, and then the extra ones.
func (p Policy) bases(s meta.SeriesConfig, i int, retired []meta.Name) []meta.Name {
	target := s.Images[i]
	var bases []meta.Name
	if i >= len(s.Images)-p.Targets {
		others := slices.Concat(s.Images[:i], s.Images[i+1:])
		for _, n := range retired {
			if n.Series() == target.Series() && !slices.Contains(s.Images, n) {
				others = append(others, n)
			}
		}
		bases = p.nearest(others, target)
	}
	for _, extra := range s.Extra[target] {
		if extra != target && !slices.Contains(bases, extra) {
			bases = append(bases, extra)
		}
	}
	return bases
}

// nearest returns those of the images that may be bases of the target and are
// nearest to it, sorted. The nearest are the newest before it; after them come the
// ones that follow.
func (p Policy) nearest(images []meta.Name, target meta.Name) []meta.Name {
	slices.SortFunc(images, meta.Name.Compare)
	after, _ := slices.BinarySearchFunc(images, target, meta.Name.Compare)
	near := slices.Clone(images[:after])
	slices.Reverse(near)
	if p.Downgrades {
		near = append(near, images[after:]...)
	}
	if p.Bases > 0 && len(near) > p.Bases {
		near = near[:p.Bases]
	}
	slices.SortFunc(near, meta.Name.Compare)
	return near
}
