// Package plan says what a run does to a mirror, as values: which files it links,
// makes, keeps and removes. Package imagerepo makes a Plan before a run changes
// anything, and prints it as JSON; a run only carries it out.
//
// The same images, mirror and Policy give the same plan.
package plan

import (
	"errors"
	"path"
	"time"

	"puavo-image-repository/meta"
)

// Errors that a plan can end with.
var (
	// ErrInput is wrapped by the errors for input of which nothing can be made: no
	// image at all, an empty one, or one that contradicts itself.
	ErrInput = errors.New("unusable input")
	// ErrConfig is wrapped by the errors for a series file that is wrong.
	ErrConfig = errors.New("wrong series file")
	// ErrNoSeries is wrapped by the error for a choice of series that no series fits.
	ErrNoSeries = errors.New("no series matches")
	// ErrSpace is wrapped by the error for a disk that probably has too little free space.
	ErrSpace = errors.New("not enough free space")
	// ErrRemoval is wrapped by the error for a run that would remove too many images.
	ErrRemoval = errors.New("too many published images would be removed")
)

// Action is what a run does about a file.
type Action string

const (
	// Link puts an image into the mirror.
	Link Action = "link"
	// Replace puts an image in the place of another content of its name, after
	// withdrawing that from the documents.
	Replace Action = "replace"
	// BaseOnly leaves out an image that only extra_rdiffs names, as a base.
	BaseOnly Action = "base"
	// Retired is the action for an image that left the image directory and still
	// serves as a base, by its signature, see Image.Sign.
	Retired Action = "retired"

	// Make makes a delta.
	Make Action = "make"
	// Drop leaves out a delta that is not worth having.
	Drop Action = "drop"
	// Await decides about a delta when its images have been read: it is kept if they
	// are what it was made of.
	Await Action = "await"
	// Omit leaves out a delta that could not be made. Only a result has it.
	Omit Action = "omit"

	// Keep leaves an image or a delta as it is.
	Keep Action = "keep"
	// Check keeps an image or a delta if it proves right, which no record says. If it
	// is wrong, the tool's own is made again, and anything else left alone.
	Check Action = "check"
)

// Plan is what a run will do.
type Plan struct {
	Series []Series  `json:"series"`
	Images []Image   `json:"images"` // sorted by name
	Deltas []Delta   `json:"deltas"` // those of one base next to each other
	Remove []Removal `json:"remove"` // sorted by path

	// Compact are the compact deltas that are wanted, sorted by file.
	Compact []CompactDelta `json:"compact,omitempty"`

	// Torrents are those of images and deltas, sorted by the names of these.
	Torrents []Torrent `json:"torrents,omitempty"`

	// Failed are the series of which nothing can be made; they stay published as they
	// are. The other lists leave them out.
	Failed []Failure `json:"failed,omitempty"`

	// Adopted says that the mirror, or part of it, was not made by the tool or that
	// its records are lost, and is taken over. LeftAlone are the folders of the tool
	// that made it, no longer of use. Unowned are the paths in the mirror of orphans
	// that stay, since no record says that the tool put them there.
	Adopted   bool     `json:"adopted"`
	LeftAlone []string `json:"left_alone,omitempty"`
	Unowned   []string `json:"unowned,omitempty"`

	Estimate Estimate `json:"estimate"`
}

// Bases returns the deltas grouped by their bases.
func (p Plan) Bases() (groups [][]Delta) {
	for _, d := range p.Deltas {
		if n := len(groups); n > 0 && groups[n-1][0].Base == d.Base {
			groups[n-1] = append(groups[n-1], d)
		} else {
			groups = append(groups, []Delta{d})
		}
	}
	return groups
}

// Series is a series with its images, oldest first, and the deltas to each image in
// the order they have in the meta.
type Series struct {
	Name   string              `json:"name"`
	Images []string            `json:"images"`
	Deltas map[string][]string `json:"deltas"` // by target
	// Choices say of each image of the image directory, oldest first, why it is published,
	// or that it is not, where Policy.Keep decides that. Images are those that are kept.
	Choices []Choice `json:"choices,omitempty"`
}

// Image is what is planned of an image.
type Image struct {
	Name   meta.Name `json:"-"`
	File   string    `json:"file"`
	Size   int64     `json:"size"` // bytes
	Action Action    `json:"action"`
	// Read says that the image must be read for its digests. Touched says that these are
	// known, and that one digest may show that they still hold.
	Read    bool `json:"read"`
	Touched bool `json:"touched,omitempty"`
	// Sign says that the signature of a retired image is made, before its file leaves the
	// mirror. If the file proves to be another than was published, there is none, and the
	// image is no base.
	Sign bool `json:"sign,omitempty"`
	// Copied says that the image is copied, since it cannot share its bytes with the
	// mirror: a build has tried that; of a plan alone it is most likely so.
	Copied bool `json:"copied,omitempty"`
}

// Published reports whether the documents name the image.
func (im Image) Published() bool { return im.Action != BaseOnly && im.Action != Retired }

// Delta is what is planned of a delta between two images.
type Delta struct {
	File         string    `json:"file"`
	Base, Target meta.Name `json:"-"`
	Action       Action    `json:"action"`
	Size         int64     `json:"size,omitempty"` // bytes, where it is known
	BaseSize     int64     `json:"-"`              // bytes
	TargetSize   int64     `json:"target_size"`    // bytes
	// Retired says that only the signature of the base is left.
	Retired bool `json:"retired,omitempty"`
}

// Open reports whether the run is expected to have work for the delta. One that awaits
// its images and whose size is known will most likely be kept.
func (d Delta) Open() bool {
	return d.Action != Keep && d.Action != Drop && !(d.Action == Await && d.Size > 0)
}

// Work is the work for the delta in bytes: the target is diffed, and made once more to
// verify the delta.
func (d Delta) Work() int64 { return 2 * d.TargetSize }

// Failure is a series of which nothing can be made.
type Failure struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Err    error  `json:"-"`
}

// Removal is an orphan: a file of the tool's own that the documents will no longer
// name.
type Removal struct {
	Path string `json:"path"` // in the mirror
	Size int64  `json:"size"` // bytes
	// Due is when it is removed. Zero means by this run.
	Due time.Time `json:"due,omitzero"`
	// Forget says that its record is removed too.
	Forget bool `json:"-"`
}

// Name returns the name of the file.
func (r Removal) Name() string { return path.Base(r.Path) }

// Estimate is what a run is expected to need.
type Estimate struct {
	Seconds float64 `json:"seconds"` // by the last run's rate, or that of a usual machine
	Read    int64   `json:"read"`    // bytes of images and deltas, from the disk or its cache
	Write   int64   `json:"write"`   // bytes
	Memory  int64   `json:"memory"`  // bytes at the peak, besides mapped files
	Space   int64   `json:"space"`   // bytes that the mirror grows by, before anything is removed
	Copies  int64   `json:"copies"`  // bytes of Space for images that are copied, see Image.Copied
	Free    int64   `json:"free"`    // bytes free on its disk
	Orphans int64   `json:"orphans"` // bytes of orphans that wait for their removal
}
