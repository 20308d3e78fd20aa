package delta

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync"

	"puavo-image-repository/delta/internal/match"
	"puavo-image-repository/delta/mmap"
)

// ErrChanged is wrapped by the errors for a base or target, mapped from a file,
// that became shorter while it was read.
var ErrChanged = mmap.ErrChanged

// Effort is how hard Diff looks for matches.
type Effort string

const (
	Fast    Effort = "fast"
	Default Effort = "default"
	Best    Effort = "best"
)

// ParseEffort returns the effort of that name.
func ParseEffort(s string) (Effort, error) {
	if _, ok := efforts[Effort(s)]; !ok {
		return "", fmt.Errorf("effort %q, want fast, default or best", s)
	}
	return Effort(s), nil
}

// What the efforts are, as bench compares them.
var efforts = map[Effort]match.Effort{
	Fast:    {Sampling: 8, Gap: 24, Slack: 1 << 10, Patience: 7},
	Default: {Sampling: 6, Gap: 10, Slack: 4 << 10, Patience: 10},
	Best:    {Sampling: 4, Gap: 10, Slack: 4 << 10, Patience: 14},
}

// Options say how an Index is made and used.
type Options struct {
	// Memory bounds the table of the Index, in bytes; it takes 64 KiB at least.
	Memory int64
	Effort Effort // "" is Default
	// Cores is how many cores a Diff searches on, and so how much memory it takes; 0
	// is all that the process may use. The delta does not depend on it.
	Cores int
}

// Index finds content in a base. It never changes, so any number of goroutines may
// Diff against it concurrently. It refers to the base's bytes, which must not
// change before Close.
type Index struct {
	index  *match.Index
	effort match.Effort
	cores  int
}

// NewIndex makes the index of base, of less than 1 TiB, on all cores. It returns
// ctx's error when that ends first.
func NewIndex(ctx context.Context, base []byte, o Options) (*Index, error) {
	x, err := match.New(ctx, base, o.Memory, o.effort(), runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	return &Index{x, o.effort(), o.cores()}, nil
}

func (o Options) effort() match.Effort { return efforts[cmp.Or(o.Effort, Default)] }

func (o Options) cores() int { return cmp.Or(o.Cores, runtime.GOMAXPROCS(0)) }

// Indexing is an index that is made in steps, by whoever reads the base anyway. The
// Index is the one that NewIndex makes. An Indexing is not for concurrent use.
type Indexing struct {
	index *Index // nil once it was handed over, or closed
	adder *match.Adder
	size  int // of the base, in bytes
	done  int // bytes of it that are indexed
}

// Begin begins the index of base, of less than 1 TiB.
func Begin(base []byte, o Options) (*Indexing, error) {
	x, err := match.Begin(base, o.Memory, o.effort())
	if err != nil {
		return nil, err
	}
	return &Indexing{index: &Index{x, o.effort(), o.cores()}, adder: x.From(0), size: len(base)}, nil
}

// Add goes on to the first end bytes of the base, on the caller's goroutine. It reads
// up to 127 bytes behind them, and a run of zeros or the like to its end. Its errors are
// that of ctx and ErrChanged; after one, all that is left is to Close.
func (x *Indexing) Add(ctx context.Context, end int) error {
	if end <= x.done {
		return nil
	}
	err := x.adder.To(ctx, end)
	if err == nil {
		x.done = end
	}
	return err
}

// Index hands over the Index, which the caller closes, or nil where Add has not come
// to the end of the base.
func (x *Indexing) Index() *Index {
	if x.index == nil || x.done < x.size {
		return nil
	}
	done := x.index
	x.index = nil
	return done
}

// Close frees the memory of an index that was not handed over.
func (x *Indexing) Close() {
	if x.index != nil {
		x.index.Close()
		x.index = nil
	}
}

// Close frees the index's memory, which is outside Go's heap. Call it once, when no
// goroutine uses the index.
func (x *Index) Close() { x.index.Close() }

// Diff writes to dst the delta that makes target from the index's base, and returns
// what the delta consists of. It works on as many cores as the options say; the same
// base, options and target always give the same delta. Commands reach dst no later
// than 32 MiB of the target after them, so that what reads the delta at the same time
// looks at the same places of base and target; but a copy or a literal is written
// when it has ended. progress, which may be nil, is called with the number of bytes
// of target searched or written since its last call; the search goes on at most 12
// MiB a core while it does not return. Errors are those of dst and ctx, or ErrChanged;
// the bytes written before an error are no delta. In addition to the index it needs
// about 10 MiB a core: a literal's bytes are written from target, so memory does not
// grow with them.
func (x *Index) Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (Stats, error) {
	s := search{pieceLen, x.cores, func() finder { return x.index.NewFinder(target, x.effort) }}
	return encode(ctx, dst, target, s, progress)
}

// Copy says that Length bytes of a target from Target are those of the base from Base.
type Copy struct{ Target, Base, Length int64 }

// Copies calls emit, on the caller's goroutine, with what base and target have in common:
// the copies that Diff chooses from, in the order of the target and without overlap. Of
// those, Diff leaves out what a literal is shorter for, and joins what goes on. Everything
// else is as for Diff; the first error of emit ends the search.
func (x *Index) Copies(ctx context.Context, target []byte, emit func(Copy) error) error {
	s := search{pieceLen, x.cores, func() finder { return x.index.NewFinder(target, x.effort) }}
	done := 0
	return findAll(ctx, len(target), s, func(found []match.Match, _ int) error {
		for _, m := range found {
			over := max(0, done-m.Target)
			if m.Len <= over {
				continue
			}
			done = m.Target + m.Len
			if err := emit(Copy{int64(m.Target + over), int64(m.Base + over), int64(m.Len - over)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// finder finds the matches in target[lo:hi], in order and without overlap. The last
// may end behind hi, and the first may begin before lo: the encoder then cuts off
// what an earlier piece has matched. A finder is not for concurrent use.
type finder interface {
	Find(ctx context.Context, lo, hi int) ([]match.Match, error)
}

// pieceLen is the length of the pieces that a target is searched in, in bytes.
// Matches end at the border of a piece; where they go on behind it, the encoder
// makes one copy of both.
const pieceLen = 4 << 20

// search is how a target is searched.
type search struct {
	piece     int // bytes
	cores     int
	newFinder func() finder // of a core
}

// mostHeld is how many bytes of the target the encoder goes on before it writes out
// the commands of those before.
const mostHeld = 32 << 20

// encode writes the delta of the matches that a search finds.
func encode(ctx context.Context, dst io.Writer, target []byte, s search, progress func(n int)) (stats Stats, err error) {
	if progress == nil {
		progress = func(int) {}
	}
	err = mmap.Guard(func() error {
		out := newEncoder(ctx, dst, target)
		err := findAll(ctx, len(target), s, func(found []match.Match, n int) error {
			for _, m := range found {
				if err := out.copy(m); err != nil {
					return err
				}
			}
			progress(n)
			return out.release(mostHeld)
		})
		if err != nil {
			return err
		}
		stats, err = out.finish()
		return err
	})
	if err != nil {
		return Stats{}, err
	}
	return stats, nil
}

// findAll searches a target of that size, a piece a core at a time, and calls
// emit with the matches of each piece and its length, in order.
func findAll(ctx context.Context, size int, s search, emit func(found []match.Match, n int) error) error {
	type result struct {
		found []match.Match
		err   error
	}
	piece := s.piece
	pieces := (size + piece - 1) / piece
	results := make([]chan result, pieces)
	for i := range results {
		results[i] = make(chan result, 1)
	}
	// Work goes on while emit writes, but not far ahead of it.
	ahead := min(3*s.cores, pieces)
	todo := make(chan int, ahead)
	for i := range ahead {
		todo <- i
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait() // nobody looks at the target after the return
	defer close(todo)
	defer cancel()
	for range min(s.cores, pieces) {
		group.Go(func() {
			f := s.newFinder()
			for i := range todo {
				var r result
				r.err = mmap.Guard(func() (err error) {
					r.found, err = f.Find(ctx, i*piece, min((i+1)*piece, size))
					return err
				})
				results[i] <- r
			}
		})
	}
	for i := range pieces {
		r := <-results[i]
		if r.err != nil {
			return r.err
		}
		if err := emit(r.found, min(piece, size-i*piece)); err != nil {
			return err
		}
		results[i] = nil
		if i+ahead < pieces {
			todo <- i + ahead
		}
	}
	return nil
}

// encoder writes the commands of a delta. Copies arrive in the order of the
// target; what lies between them becomes literals.
type encoder struct {
	ctx    context.Context
	w      *bufio.Writer
	target []byte  // from start on
	start  int     // bytes of the target that were dropped
	done   int     // bytes of the target that are in the delta or in last
	last   command // a copy not yet written, since the next may continue it
	head   [17]byte
	held   int // what done was when the commands were last written out
	stats  Stats
}

func newEncoder(ctx context.Context, dst io.Writer, target []byte) *encoder {
	e := &encoder{ctx: ctx, w: bufio.NewWriterSize(dst, 256<<10), target: target}
	// A bufio.Writer keeps its error, so that only flushes and long writes need
	// to look at it.
	e.w.Write(binary.BigEndian.AppendUint32(e.head[:0], deltaMagic))
	return e
}

// copy adds a match, less what of it lies before done.
func (e *encoder) copy(m match.Match) error {
	if over := e.done - m.Target; over > 0 {
		m = match.Match{Target: e.done, Base: m.Base + over, Len: m.Len - over}
	}
	if m.Len <= 0 {
		return nil
	}
	if m.Target == e.done && e.last.length > 0 && e.last.offset+e.last.length == int64(m.Base) {
		e.last.length += int64(m.Len)
		e.done += m.Len
		return nil
	}
	c := command{offset: int64(m.Base), length: int64(m.Len)}
	if !c.worthwhile() {
		return nil
	}
	if err := e.literal(m.Target); err != nil {
		return err
	}
	e.flush()
	e.last = c
	e.done = m.Target + m.Len
	return nil
}

// literal writes the bytes of target from done to end.
func (e *encoder) literal(end int) error {
	if end == e.done {
		return nil
	}
	e.flush()
	e.write(command{literal: true, length: int64(end - e.done)})
	for e.done < end {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		part := e.target[e.done-e.start : min(end, e.done+patchBuffer)-e.start]
		if _, err := e.w.Write(part); err != nil {
			return err
		}
		e.done += len(part)
	}
	return nil
}

// end returns the number of bytes of the target that are known.
func (e *encoder) end() int { return e.start + len(e.target) }

// drop forgets those bytes of the target that are done. If the others are more than
// most, all but the last keep of them become a literal.
func (e *encoder) drop(most, keep int) error {
	if e.end()-e.done > most {
		if err := e.literal(e.end() - keep); err != nil {
			return err
		}
	}
	if n := min(e.done-e.start, len(e.target)); n > 0 {
		e.target = e.target[:copy(e.target, e.target[n:])]
		e.start += n
	}
	return nil
}

// flush writes the pending copy.
func (e *encoder) flush() {
	if e.last.length > 0 {
		e.write(e.last)
		e.last = command{}
	}
}

// release writes out the commands of all that is done, but for a pending copy, if that
// is most bytes of the target or more.
func (e *encoder) release(most int) error {
	if e.done-e.held < most {
		return nil
	}
	e.held = e.done
	return e.w.Flush()
}

func (e *encoder) write(c command) {
	e.stats.add(c)
	e.w.Write(c.appendHeader(e.head[:0]))
}

// finish writes what is left of the target and the end of the delta.
func (e *encoder) finish() (Stats, error) {
	if err := e.literal(e.end()); err != nil {
		return Stats{}, err
	}
	e.flush()
	e.w.WriteByte(opEnd)
	return e.stats, e.w.Flush()
}
