// Package pull makes and updates a copy of a repository, for a school's bootserver, a second
// site, a public mirror, or several builders that are served together.
//
//	upstream documents, verified ── selection ── documents of the copy ─┐
//	                                                                     ├─ edition ── DIR
//	mirrors of upstream, images and deltas of DIR ── fetch or rebuild ───┘
//
// Package edition changes the copy, in phases, so that its clients find at every instant what
// its documents say. Only what changed is fetched, and a run uses what an interrupted one has
// fetched. Package upstream reads the documents, selection chooses from them, and filler gets
// the images and deltas.
//
// # Two kinds of copies
//
// A whole copy has all that its one upstream has, the documents and their signatures byte for
// byte. Every other copy is one of its own: a selection, several upstreams, or another base of
// the urls. Its documents are made here, from the meta of upstream, unsigned or signed with
// keys of its own. It has no torrents, as those of upstream name the hosts of upstream. A
// directory does not change from one kind to the other.
//
// # Upstreams
//
// Each source is a repository: one URL or directory, or several of the same repository,
// separated by commas. Its documents come from the first that answers, and each file from the
// first that has it. No two sources may have a series of the same name.
//
// # Deltas that upstream lacks
//
// With Options.MakeDeltas the copy gets the deltas to its newest three images that upstream
// lacks, from as many of the others as Policy.Deltas says. They are made of the copy's own
// images, after those are published, and published by an edition of their own. One that is too
// large to be worth it, or has no room, is not made again while both images stay as they are.
//
// # Trust
//
// If roots are trusted, all that upstream says is verified as by a client, and what was seen
// of it is remembered: an older edition is refused. There is one root for all sources, or one
// for each, in their order. The page for people and the CKSUMS of a whole copy have no
// signatures; CKSUMS is compared with the meta.
//
// # What is never lost
//
// A run ends before it changes anything if the copy would lose a whole series, or more than
// half of its images, and likewise if upstream has lost that since the last run.
// Options.AllowRemoval permits it.
//
// # Room
//
// Where the size of the copy is limited, or room must stay free, it gets less than was chosen,
// see package selection. If new files have no room while old ones are there, the old ones go
// first, without a grace, in an edition of its own. Each series keeps one image in that.
//
// # Files
//
//	.pull/lock       held while a run works
//	.pull/pull.json  how the last run went, and what upstream had, see Record
//	.pull/trust/     what was seen of each upstream that is trusted
//	.pull/edition/   the documents that the copy publishes, or is about to
//	.pull/partial/   files that are not whole
//	.pull/made/      deltas that are made here
//	.published.json  what was put there, see package edition
//
// A directory that a build made is refused, and a build refuses that of a pull.
package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/edition"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/imagerepo/pull/internal/filler"
	"puavo-image-repository/imagerepo/pull/internal/selection"
	"puavo-image-repository/imagerepo/pull/internal/upstream"
)

var (
	// ErrInput is wrapped by the error for an upstream that cannot be copied.
	ErrInput = upstream.ErrInput
	// ErrUntrusted is wrapped by the error for an upstream that is not signed as the trusted
	// root says.
	ErrUntrusted = tuf.ErrRefused
	// ErrRemoval is wrapped by the error for a run that would remove too much.
	ErrRemoval = errors.New("too much would be lost")
	// ErrDir is wrapped by the error for a directory that cannot hold the copy.
	ErrDir = errors.New("not the directory of a pull")
	// ErrLocked is wrapped by the error for a directory in which another run works.
	ErrLocked = lockfile.ErrHeld
)

// What is chosen, see package selection.
type (
	// Policy says which images and deltas are copied.
	Policy = selection.Policy
	// Uses says how many devices use an image.
	Uses = selection.Uses
	// Dropped is a file for which there is no room.
	Dropped = selection.Dropped
	// File is a file that has come, and from where.
	File = filler.File
)

// All, as Policy.Deltas, is all deltas.
const All = selection.All

// ParseUses parses a keep-list, see package selection.
func ParseUses(data []byte) (Uses, error) { return selection.ParseUses(data) }

// Signer signs the documents of a copy; trust.Keys does.
type Signer interface {
	edition.Signer
	Sign(ctx context.Context, mirror atomicfile.Dir) (changed bool, err error)
}

// Verify says how closely a file is looked at that the copy has.
type Verify = edition.Verify

// The ways, from the fastest to the slowest.
const (
	ByName    = edition.ByName
	BySize    = edition.BySize
	ByReading = edition.ByReading
)

// Patience says when a web site is given up. Zero fields are the usual ones.
type Patience = fetch.Patience

// Options say what is copied, and how. Sources and Dir are needed.
type Options struct {
	Sources []string // see the package documentation
	Dir     string   // of the copy, which Run makes
	Policy  Policy
	URL     string // base of the urls of a copy of its own, without a final slash; "" makes them relative

	MaxSize int64 // of all images and deltas, in bytes; 0 is no limit
	Reserve int64 // bytes that stay free on the disk
	// MakeDeltas makes the deltas to the newest images that upstream lacks.
	MakeDeltas bool
	// NoRebuild fetches all images as a whole.
	NoRebuild bool

	Trust []string // paths of root.json files, see the package documentation; without one, no signatures are verified
	Sign  Signer   // signs a copy of its own; may be nil
	// AllowRemoval permits a run that removes all images of a series, or more than half of all,
	// or signatures.
	AllowRemoval bool

	// Verify says how files of the copy are looked at; "" is BySize. If the last run that has
	// read all is longer ago than ReadEvery, it is ByReading; 0 is never.
	Verify    Verify
	ReadEvery time.Duration
	Grace     time.Duration // after which orphans are removed

	CACertificate string // path of a PEM file of certificates to trust besides the system's
	RateLimit     int64  // bytes a second from all upstreams together; 0 is no limit
	Patience      Patience
	Jobs          int  // files at a time; less than 1 is 1
	NoSync        bool // flushes no files

	Log *slog.Logger // nil discards messages
	// Progress, which may be nil, is called with the bytes got and in all, from several
	// goroutines; Stage with what is worked on; Got with each image and delta that has come.
	Progress func(done, total int64)
	Stage    func(stage, file string)
	Got      func(File)

	pauses []time.Duration // of tests, see package upstream
}

func (o Options) checked() (Options, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Verify == "" {
		o.Verify = BySize
	}
	o.Jobs = max(o.Jobs, 1)
	switch {
	case len(o.Sources) == 0 || o.Dir == "":
		return o, errors.New("pull.Options: Sources and Dir must be given")
	case len(o.Trust) > 1 && len(o.Trust) != len(o.Sources):
		return o, fmt.Errorf("%d roots to trust for %d repositories, want one for all, or one for each", len(o.Trust), len(o.Sources))
	}
	return o, o.Policy.Series.Check()
}

// isWhole reports whether the copy is to have all of its upstream, with its documents.
func (o Options) isWhole() bool {
	return o.Policy.IsWhole() && len(o.Sources) == 1 && o.URL == "" && o.MaxSize == 0 && o.Reserve == 0 && o.Sign == nil && !o.MakeDeltas
}

// why returns which options make the copy one of its own.
func (o Options) why() string {
	var all []string
	for what, is := range map[string]bool{
		"a selection": !o.Policy.IsWhole(), "several repositories": len(o.Sources) > 1, "a base of the urls": o.URL != "",
		"a limit of its size": o.MaxSize > 0 || o.Reserve > 0, "keys of its own": o.Sign != nil, "deltas made here": o.MakeDeltas,
	} {
		if is {
			all = append(all, what)
		}
	}
	return strings.Join(all, ", ")
}

// Plan is what a run does.
type Plan struct {
	Whole bool `json:"whole"` // the copy has all of upstream, and its documents
	edition.Plan
	Sources []From    `json:"sources"` // how each file comes that is new or changed
	Dropped []Dropped `json:"dropped"` // for which there is no room
	Fetch   int64     `json:"fetch"`   // bytes from upstream, if all goes well
}

// From says how a file comes: as a whole, or an image from another and a delta.
type From struct {
	File  string `json:"file"`
	Base  string `json:"base,omitempty"`
	Delta string `json:"delta,omitempty"`
	Fetch int64  `json:"fetch"` // bytes, 0 if the copy has or gets the delta anyway
}

// Summary is what a run did.
type Summary struct {
	Dir string `json:"dir"`
	edition.Summary
	Fetched int64   `json:"fetched"` // bytes from upstream, documents too
	Rebuilt int64   `json:"rebuilt"` // images that were made here
	Made    int     `json:"deltas_made"`
	Seconds float64 `json:"seconds"`
	Record  Record  `json:"upstream"`
}

// MakePlan returns what Run would do. It changes nothing and takes no lock.
func MakePlan(ctx context.Context, o Options) (Plan, error) {
	o, err := o.checked()
	if err != nil {
		return Plan{}, err
	}
	c, err := openToLook(ctx, o)
	if err != nil {
		return Plan{}, err
	}
	p, err := c.plan(ctx)
	return p, errors.Join(err, c.close())
}

// Run makes or updates a copy. It returns what it planned, and what it did even if that
// failed. Where upstream is published again meanwhile, it starts over.
func Run(ctx context.Context, o Options) (p Plan, s Summary, err error) {
	if o, err = o.checked(); err != nil {
		return p, s, err
	}
	c, err := openToChange(ctx, o)
	if err != nil {
		return p, s, err
	}
	began := time.Now()
	p, s, err = c.run(ctx)
	s.Dir, s.Seconds, s.Fetched = o.Dir, time.Since(began).Seconds(), c.fetched.Load()
	s.Record, err = c.remember(began, err)
	return p, s, errors.Join(err, c.close())
}
