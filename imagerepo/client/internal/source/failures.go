package source

import (
	"errors"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/client/internal/route"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/meta"
)

// ErrTooSlow is wrapped by the error for a source that is left for another, and taken
// again if that does no better.
var ErrTooSlow = errors.New("too slow to end in time")

// maxDeltas is how many steps may fail before only full images are left. A mirror can
// name any number of deltas that it does not have.
const maxDeltas = 32

// Failures are what has failed, so that no choice falls on it again. For a file that is
// wrong that is as long as the image is incomplete; all else may be right in the next
// run.
type Failures struct {
	Wrong []assemble.Wrong // files that are wrong: in a mirror, or in all

	refused map[assemble.Wrong]bool // files that a mirror does not give now
	silent  map[string]int          // how often a mirror gave no answer
	gone    map[string]bool         // mirrors that do not answer at all, or break the connection
	slow    map[string]bool         // mirrors that are too slow, while there are others
	count   int                     // of failures in this run
}

// NewFailures returns what earlier runs have found wrong.
func NewFailures(begun map[meta.Name]assemble.Begun) *Failures {
	f := &Failures{refused: make(map[assemble.Wrong]bool), silent: make(map[string]int), gone: make(map[string]bool), slow: make(map[string]bool)}
	for _, b := range begun {
		for _, w := range b.Wrong {
			if !slices.Contains(f.Wrong, w) {
				f.Wrong = append(f.Wrong, w)
			}
		}
	}
	return f
}

// Add adds the error of a step.
func (f *Failures) Add(s route.Step, err error) {
	f.count++
	_, file := s.File()
	this := assemble.Wrong{Mirror: s.Mirror, Source: file.Sums.SHA512}
	switch {
	case errors.Is(err, ErrTooSlow):
		f.slow[s.Mirror] = true
	case errors.Is(err, assemble.ErrIncomplete):
		f.gone[s.Mirror] = true
	case errors.Is(err, fetch.ErrNoAnswer): // at first, some firewall may be against the file
		f.refused[this] = true
		f.silent[s.Mirror]++
		f.gone[s.Mirror] = f.silent[s.Mirror] > 1
	case errors.Is(err, fetch.ErrChanged):
		f.refused[this] = true
	case errors.Is(err, assemble.ErrUnfit):
		f.Wrong = append(f.Wrong, assemble.Wrong{Source: this.Source})
	case errors.Is(err, assemble.ErrVerify), errors.Is(err, delta.ErrFormat):
		f.Wrong = append(f.Wrong, this)
	default:
		f.refused[this] = true
	}
}

// exclude reports whether a step must not be chosen.
func (f *Failures) exclude(s route.Step, source cksum.Digest512) bool {
	this := assemble.Wrong{Mirror: s.Mirror, Source: source}
	return f.gone[s.Mirror] || f.slow[s.Mirror] || f.refused[this] || !s.IsFull() && f.count >= maxDeltas ||
		slices.Contains(f.Wrong, this) || slices.Contains(f.Wrong, assemble.Wrong{Source: source})
}

// ForgiveSlow takes slow sources back, and reports whether there are any.
func (f *Failures) ForgiveSlow() bool {
	any := len(f.slow) > 0
	clear(f.slow)
	return any
}

// Except returns the failures as they would be if a mirror were too slow. It shares the
// others with f.
func (f *Failures) Except(mirror string) *Failures {
	e := *f
	e.slow = map[string]bool{mirror: true}
	for m := range f.slow {
		e.slow[m] = true
	}
	return &e
}

// WithoutFile returns the failures as they would be if a step failed. f stays as it is.
func (f *Failures) WithoutFile(s route.Step) *Failures {
	_, file := s.File()
	e := *f
	e.Wrong = append(slices.Clip(f.Wrong), assemble.Wrong{Mirror: s.Mirror, Source: file.Sums.SHA512})
	return &e
}
