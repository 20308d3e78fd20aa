package delta

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"puavo-image-repository/delta/internal/blocks"
	"puavo-image-repository/delta/internal/match"
	"puavo-image-repository/delta/internal/sums"
	"puavo-image-repository/delta/mmap"
)

// Blocks finds the blocks of a base by its signature. It never changes, so any
// number of goroutines may Diff against it concurrently, until Close.
type Blocks struct {
	Signature
	sums  []byte // as in the signature
	table *blocks.Table
}

// LoadSignature parses a signature and makes its table, on all cores. The result
// refers to the signature, which must not change, and takes another 7 to 16 bytes
// of memory a block. Errors in the signature wrap ErrFormat; those of a mapped file
// that became shorter are ErrChanged.
func LoadSignature(ctx context.Context, signature []byte) (b *Blocks, err error) {
	err = mmap.Guard(func() error {
		b, err = loadSignature(ctx, signature)
		return err
	})
	return b, err
}

func loadSignature(ctx context.Context, signature []byte) (*Blocks, error) {
	s, err := readHeader(bytes.NewReader(signature))
	if err != nil {
		return nil, err
	}
	sums := signature[signatureHeader:]
	if err := s.count(int64(len(sums))); err != nil {
		return nil, err
	}
	form := blocks.Form{Weak: s.weak(), MD4: s.md4(), BlockLen: s.BlockLen, StrongLen: s.StrongLen}
	table, err := blocks.New(ctx, form, sums, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	return &Blocks{s, sums, table}, nil
}

// Close frees the memory, which is outside Go's heap. Call it once, when no
// goroutine uses the blocks.
func (b *Blocks) Close() { b.table.Close() }

// Diff writes to dst the delta that makes target from the signature's base. The
// delta copies whole blocks, as rdiff's does. In all else Blocks.Diff does what
// Index.Diff does. Copies are only as certain as the strong sums are long.
func (b *Blocks) Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (Stats, error) {
	s := search{b.piece(), runtime.GOMAXPROCS(0), func() finder { return b.table.NewFinder(target) }}
	return encode(ctx, dst, target, s, progress)
}

// piece is the length of the pieces that a target is searched in, in bytes. Short
// pieces need little of the target in memory; but to begin one costs as much as a
// block's length.
func (b *Blocks) piece() int { return max(256<<10, 32*b.BlockLen) }

const (
	// streamMemory is how many bytes of a target DiffStream holds, unless two pieces
	// have more.
	streamMemory = 128 << 20
	// longestPending is how many bytes, that may yet become a literal, DiffStream holds
	// besides.
	longestPending = 1 << 20
)

// DiffStream does what Diff does for a target that is read once. The delta is the same,
// but that literals over 1 MiB are cut in parts. Of the target it holds in memory 2 MiB,
// and 0.6 MiB a core, for blocks of 8 KiB or less; for longer ones up to 190 MiB, or 110
// blocks if these are more. It passes the errors of target on.
func (b *Blocks) DiffStream(ctx context.Context, dst io.Writer, target io.Reader, progress func(n int)) (Stats, error) {
	if progress == nil {
		progress = func(int) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{r: target, piece: b.piece(), before: b.BlockLen - 1, behind: b.table.Behind()}
	out := newEncoder(ctx, dst, nil)
	var group sync.WaitGroup
	defer group.Wait() // nobody looks at the signature after the return
	defer cancel()
	for searched := s.most(); ; {
		p, err := s.next(ctx)
		if err != nil {
			return Stats{}, err
		}
		if p != nil {
			group.Go(func() { p.search(ctx, b.table) })
		}
		for len(s.pending) > 0 && (p == nil || len(s.pending) > searched) {
			n, err := s.encode(out)
			if err != nil {
				return Stats{}, err
			}
			progress(n)
		}
		if p == nil {
			return out.finish()
		}
	}
}

// stream reads a target in pieces.
type stream struct {
	r     io.Reader
	ended bool
	// Of each piece, and of what a Finder looks at before and behind it, the length.
	piece, before, behind int

	pending []*part  // those that were read and not encoded, in order
	free    [][]byte // to be used again
	rest    []byte   // the end of the last part, with which the next begins
	start   int      // of rest in the target
	lo      int      // of the next piece in rest
}

// part is the piece data[lo:hi] of a target, and what a Finder looks at around it.
type part struct {
	data    []byte
	start   int // of data in the target
	lo, hi  int
	matches []match.Match
	done    chan error // of the search; it has room for one
}

// most returns how many parts are searched while the next one is read.
func (s *stream) most() int {
	return min(2*runtime.GOMAXPROCS(0), max(1, streamMemory/(s.before+s.piece+s.behind)-1))
}

// next reads the next part. It returns nil at the end.
func (s *stream) next(ctx context.Context) (*part, error) {
	p := &part{start: s.start, lo: s.lo, done: make(chan error, 1)}
	if n := len(s.free); n > 0 {
		p.data, s.free = s.free[n-1], s.free[:n-1]
	}
	p.data = append(p.data[:0], s.rest...) // which may be the same memory
	if err := s.fill(ctx, p); err != nil {
		return nil, err
	}
	p.hi = min(p.lo+s.piece, len(p.data))
	if p.hi == p.lo {
		return nil, nil
	}
	keep := max(0, p.hi-s.before)
	s.rest, s.start, s.lo = p.data[keep:], p.start+keep, p.hi-keep
	s.pending = append(s.pending, p)
	return p, nil
}

// fill reads what a part lacks. It allocates memory as the bytes arrive.
func (s *stream) fill(ctx context.Context, p *part) error {
	size := p.lo + s.piece + s.behind
	for !s.ended && len(p.data) < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.data = slices.Grow(p.data, min(size-len(p.data), 256<<10))
		n, err := io.ReadAtLeast(s.r, p.data[len(p.data):min(cap(p.data), size)], 1)
		p.data = p.data[:len(p.data)+n]
		if err == io.EOF {
			s.ended = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// search finds the matches in a part.
func (p *part) search(ctx context.Context, table *blocks.Table) {
	p.done <- mmap.Guard(func() (err error) {
		p.matches, err = table.NewFinder(p.data).Find(ctx, p.lo, p.hi)
		return err
	})
}

// encode encodes the first of the pending parts, once it is searched, and returns the
// length of its piece. What may become a literal is kept, at least its last bytes, as
// the base's last block may begin there.
func (s *stream) encode(out *encoder) (int, error) {
	p := s.pending[0]
	if err := <-p.done; err != nil {
		return 0, err
	}
	out.target = append(out.target, p.data[p.lo:p.hi]...)
	for _, m := range p.matches {
		m.Target += p.start
		if err := out.copy(m); err != nil {
			return 0, err
		}
	}
	s.pending = s.pending[1:]
	s.free = append(s.free, p.data)
	return p.hi - p.lo, out.drop(longestPending+s.before, s.before)
}

// Recall returns a base for Verify where the signature's own base, of baseSize
// bytes, is not available. It has those blocks of the base that delta copies, and
// takes them from target, where the delta puts them. Each read of a block checks
// its strong sum; if the sum differs, or the delta does not copy the block, the
// error wraps ErrFormat. So a read returns what the base has, whatever delta and
// target are. A delta that copies other ranges than whole blocks, as those of
// Index.Diff do, mostly gives that error.
//
// Recall reads the delta once, and takes 8 bytes of memory a block. It refuses a
// signature without whole sums of BLAKE2b, which proves nothing, or of blocks over
// 1 MiB; and, with ErrFormat, a signature that does not fit baseSize, a delta that
// does not fit target, and a delta for whose copies it would have to sum more than
// twice the target's bytes. The base it returns refers to target and to the
// signature, which must stay, but not to b, which may be closed. If one is a mapped
// file that became shorter, reads return ErrChanged. Any number of goroutines may
// read it concurrently.
func (b *Blocks) Recall(ctx context.Context, target []byte, baseSize int64, delta io.Reader) (Source, error) {
	if b.StrongLen < sums.MaxStrong { // as MD4 always is
		return nil, fmt.Errorf("verifying a delta without its base needs strong sums of %[2]d bytes (BLAKE2b), not %[1]d", b.StrongLen, sums.MaxStrong)
	}
	if b.BlockLen > maxRecall {
		return nil, fmt.Errorf("verifying a delta without its base needs blocks of at most %[2]d bytes, not %[1]d", b.BlockLen, maxRecall)
	}
	if !b.Fits(baseSize) {
		return nil, malformed("a signature of %d blocks of %d bytes is not that of a base of %d", b.Blocks, b.BlockLen, baseSize)
	}
	r := &recalled{Signature: b.Signature, sums: b.sums, size: baseSize, target: target, stands: make([]int64, b.Blocks)}
	if err := r.learn(ctx, delta); err != nil {
		return nil, err
	}
	return r, nil
}

// maxRecall is the length of the longest blocks that are recalled, in bytes: a block
// is summed, and in memory, whenever a part of it is read.
const maxRecall = 1 << 20

// recalled is a base that is known by its signature and a target.
type recalled struct {
	Signature
	sums   []byte
	size   int64 // of the base
	target []byte
	stands []int64 // position+1 of each block in the target; 0 is not known
}

// learn reads from a delta where in the target the blocks stand.
func (r *recalled) learn(ctx context.Context, delta io.Reader) error {
	cs, err := newCommands(delta, true)
	if err != nil {
		return err
	}
	room := 2*int64(len(r.target)) + 16*int64(r.BlockLen) // of the blocks that the delta copies
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := cs.next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := c.check(r.size, int64(len(r.target))-at); err != nil {
			return err
		}
		if err := cs.skip(ctx, c); err != nil {
			return err
		}
		if room -= r.note(c, at); room < 0 {
			return malformed("the delta copies too many parts of blocks")
		}
		at += c.length
	}
}

// note notes the blocks of a copy that begins in the target at at, and returns the
// length of them all. It may begin within a block, where the encoder cut off what
// was matched twice; the whole block stands there all the same.
func (r *recalled) note(c command, at int64) (length int64) {
	if c.literal {
		return 0
	}
	n := int64(r.BlockLen)
	for b := c.offset / n; b*n < c.offset+c.length; b++ {
		length += r.length(b)
		start := at + b*n - c.offset
		if end := start + r.length(b); start >= 0 && end <= int64(len(r.target)) && r.stands[b] == 0 {
			r.stands[b] = start + 1
		}
	}
	return length
}

// length returns the length of a block, of which the last may be short.
func (r *recalled) length(b int64) int64 {
	return min(int64(r.BlockLen), r.size-b*int64(r.BlockLen))
}

// Size returns the size of the base in bytes.
func (r *recalled) Size() int64 { return r.size }

// ReadAt reads as io.ReaderAt says.
func (r *recalled) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, malformed("a copy from offset %d", off)
	}
	err = mmap.Guard(func() error {
		for n < len(p) {
			m, err := r.read(p[n:], off+int64(n))
			n += m
			if err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

// read reads to the end of a block at most. It takes the whole block, into p if it
// fits there.
func (r *recalled) read(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	b := off / int64(r.BlockLen)
	start, length := r.stands[b]-1, r.length(b)
	if start < 0 {
		return 0, malformed("the delta does not determine block %d of the base", b)
	}
	block := p
	if int64(len(p)) < length {
		block = make([]byte, length)
	}
	// The sum is that of a copy, as the target may change at any time.
	block = block[:copy(block, r.target[start:start+length])]
	strong := r.sums[b*int64(r.each())+4:][:r.StrongLen]
	if !bytes.Equal(sums.NewStrong(false).Sum(block), strong) {
		return 0, malformed("the delta assumes a different block %d of the base", b)
	}
	return copy(p, block[off%int64(r.BlockLen):]), nil
}
