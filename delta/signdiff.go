package delta

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"

	"puavo-image-repository/delta/internal/blocks"
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
	// Short pieces need little of the target in memory; but to begin one costs as
	// much as a block's length.
	piece := max(256<<10, 32*b.BlockLen)
	return encode(ctx, dst, target, piece, progress, func() finder { return b.table.NewFinder(target) })
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
		return nil, fmt.Errorf("a delta cannot be verified without its base by strong sums of %d bytes, only by the %d of BLAKE2b", b.StrongLen, sums.MaxStrong)
	}
	if b.BlockLen > maxRecall {
		return nil, fmt.Errorf("a delta cannot be verified without its base by blocks of %d bytes, only by those of %d at most", b.BlockLen, maxRecall)
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
		return 0, malformed("the delta does not tell what block %d of the base is", b)
	}
	block := p
	if int64(len(p)) < length {
		block = make([]byte, length)
	}
	// The sum is that of a copy, as the target may change at any time.
	block = block[:copy(block, r.target[start:start+length])]
	strong := r.sums[b*int64(r.each())+4:][:r.StrongLen]
	if !bytes.Equal(sums.NewStrong(false).Sum(block), strong) {
		return 0, malformed("what the delta takes for block %d of the base is another", b)
	}
	return copy(p, block[off%int64(r.BlockLen):]), nil
}
