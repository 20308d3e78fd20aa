// Package increment makes a version of a disk from its parent, the version before it, and from
// what changed since: the pieces that did not change are neither read from the disk nor
// compared.
//
//	parent's file --reflink or copy--> new file <--changed pieces-- disk
//	      |                               |
//	      '---- old bytes of those -------'----> reverse delta: makes the parent from the new file
//
// Where no bitmap says what changed, all of the disk is read, and the sums of the pieces say it;
// the new file and the delta are the same.
//
// A bitmap is believed, but not blindly: outside of the ranges that it calls dirty, the pieces
// that are read must be those of the parent, and so must some clean pieces chosen at random.
// Otherwise the whole disk is read.
package increment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/extents"
	"puavo-image-repository/imagerepo/archive/internal/pieces"
	"puavo-image-repository/imagerepo/atomicfile"
)

// ErrWrong is wrapped by the error for a parent that is not what its sums say.
var ErrWrong = errors.New("the archive's file is damaged; run archive verify")

// Parent is the version before.
type Parent struct {
	File *os.File
	Size int64
	List pieces.List
}

// Job is a version to make.
type Job struct {
	Dir   atomicfile.Dir
	File  string // that is written in Dir
	Delta string // likewise, if there is a parent; "" for none

	Disk io.ReaderAt
	Size int64 // bytes
	Zero extents.Map
	// Dirty is what changed since the parent; nil if that is not known.
	Dirty  extents.Map
	Sample int     // clean pieces that are compared
	Parent *Parent // nil for the first version
	// Read, which may be nil, is called before n bytes of the disk are read; its error ends all.
	Read func(ctx context.Context, n int) error
	// Progress, which may be nil, is called with the bytes of the disk that are done.
	Progress func(int64)
}

// Result is what was made.
type Result struct {
	List    pieces.List
	Read    int64  // bytes of the disk
	Changed int64  // pieces
	Reflink bool   // the new file shares the blocks of the parent's
	Full    string // why the bitmap was not used, though there was one
	Delta   catalog.Stored
}

// maker makes a version.
type maker struct {
	Job
	ctx     context.Context
	out     *atomicfile.File
	r       Result
	changed []bool // pieces of the new file
	zeros   run    // of pieces in the new file
	old     holes  // of the parent
	buf     [2][]byte
}

// run is the longest range of the new file known to be zero, in bytes, and the one that is
// going on.
type run struct{ start, end, now int64 }

// errBitmap is the error for a bitmap that is not the parent's.
var errBitmap = errors.New("the bitmap misses changes, so it did not begin at the parent")

// Make makes a version. Its file and the delta are complete, verified and flushed, under the
// names that the job has; after an error neither is there.
func Make(ctx context.Context, j Job) (Result, error) {
	full := ""
	for {
		m := &maker{Job: j, ctx: ctx, buf: [2][]byte{make([]byte, pieces.Size), make([]byte, pieces.Size)}}
		err := m.make()
		m.r.Full = full
		if !errors.Is(err, errBitmap) {
			return m.r, err
		}
		full, j.Dirty = err.Error(), nil
		if j.Progress != nil {
			j.Progress(-m.done())
		}
	}
}

// done returns how many bytes of the disk were reported.
func (m *maker) done() int64 { return min(int64(len(m.r.List))*pieces.Size, m.Size) }

func (m *maker) make() (err error) {
	if m.Parent == nil || m.Size != m.Parent.Size && min(m.Size, m.Parent.Size) <= pieces.Size {
		m.Dirty = nil // the sum of a single piece is of another kind
	}
	if m.out, err = m.Dir.Begin(m.File, m.File); err != nil {
		return err
	}
	defer m.out.Discard()
	if err := m.begin(); err != nil {
		return err
	}
	if err := m.pieces(); err != nil {
		return err
	}
	if err := errors.Join(m.out.Truncate(m.Size), m.out.Sync()); err != nil {
		return err
	}
	if err := m.verify(); err != nil {
		return err
	}
	if m.Parent != nil && m.Delta != "" {
		if err := m.delta(); err != nil {
			return err
		}
	}
	return m.out.Keep()
}

// begin shares the blocks of the parent, where the file system can.
func (m *maker) begin() error {
	m.changed = make([]bool, pieces.Count(m.Size))
	if m.Parent == nil {
		return nil
	}
	m.r.Reflink = m.out.Clone(m.Parent.File) == nil
	if m.r.Reflink && m.Parent.Size > m.Size {
		if err := m.out.Truncate(m.Size); err != nil {
			return err
		}
	}
	m.old = holes{f: m.Parent.File, size: m.Parent.Size}
	return nil
}

// pieces writes all pieces.
func (m *maker) pieces() error {
	sampled := m.sample()
	for i := range int64(len(m.changed)) {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		off := i * pieces.Size
		n := min(pieces.Size, m.Size-off)
		var sum pieces.Sum
		var err error
		if m.mustRead(off, n) || sampled[i] {
			sum, err = m.read(off, n, sampled[i])
		} else {
			sum, err = m.keep(off, n)
		}
		if err != nil {
			return err
		}
		m.r.List = append(m.r.List, sum)
		if m.Progress != nil {
			m.Progress(n)
		}
	}
	return nil
}

// whole reports whether the parent has a piece of the same bytes, and the same kind of sum.
func (m *maker) whole(off, n int64) bool {
	p := m.Parent
	return p != nil && off < p.Size && min(pieces.Size, p.Size-off) == n && (p.Size <= pieces.Size) == (m.Size <= pieces.Size)
}

// mustRead reports whether a piece may have changed.
func (m *maker) mustRead(off, n int64) bool {
	return m.Dirty == nil || !m.whole(off, n) || m.Dirty.Any(off, off+n)
}

// sample chooses clean pieces to compare, of those that are not zero.
func (m *maker) sample() map[int64]bool {
	chosen := make(map[int64]bool)
	if m.Dirty == nil {
		return chosen
	}
	var clean []int64
	for i := range pieces.Count(m.Size) {
		off := i * pieces.Size
		if n := min(pieces.Size, m.Size-off); !m.mustRead(off, n) && !m.Zero.All(off, off+n) {
			clean = append(clean, i)
		}
	}
	for k := 0; k < m.Sample && len(clean) > 0; k++ {
		at := rand.IntN(len(clean))
		chosen[clean[at]] = true
		clean[at] = clean[len(clean)-1]
		clean = clean[:len(clean)-1]
	}
	return chosen
}

// read takes a piece from the disk. A clean one must not have changed.
func (m *maker) read(off, n int64, clean bool) (sum pieces.Sum, err error) {
	piece := m.buf[0][:n]
	if m.Zero.All(off, off+n) {
		clear(piece)
	} else if err := m.fromDisk(piece, off); err != nil {
		return sum, err
	}
	sum = pieces.Of(m.Size, off, piece)
	same := m.whole(off, n) && sum == m.Parent.List[off/pieces.Size]
	if same {
		return sum, m.put(off, piece, isZero(piece))
	}
	if clean {
		return sum, errBitmap
	}
	m.changed[off/pieces.Size] = true
	m.r.Changed++
	if err := m.checkClean(off, piece); err != nil {
		return sum, err
	}
	return sum, m.write(off, piece)
}

// fromDisk reads from the disk.
func (m *maker) fromDisk(piece []byte, off int64) error {
	if m.Job.Read != nil {
		if err := m.Job.Read(m.ctx, len(piece)); err != nil {
			return err
		}
	}
	n, err := m.Disk.ReadAt(piece, off)
	m.r.Read += int64(n)
	switch {
	case m.ctx.Err() != nil:
		return m.ctx.Err()
	case n == len(piece):
		return nil
	case err == nil || err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading the disk at %d: %w", off+int64(n), err)
}

// checkClean compares the ranges of a changed piece that the bitmap calls clean with the parent.
func (m *maker) checkClean(off int64, piece []byte) error {
	if m.Dirty == nil || !m.whole(off, int64(len(piece))) {
		return nil
	}
	old, err := m.parent(off, m.buf[1])
	if err != nil {
		return err
	}
	for _, e := range m.Dirty.In(off, off+int64(len(piece))) {
		if from, to := e.Offset-off, e.Offset-off+e.Length; !e.Set && !bytes.Equal(old[from:to], piece[from:to]) {
			return errBitmap
		}
	}
	return nil
}

// parent reads a piece of the parent into buf, and compares it with its sum.
func (m *maker) parent(off int64, buf []byte) ([]byte, error) {
	old := buf[:min(pieces.Size, m.Parent.Size-off)]
	if _, err := m.Parent.File.ReadAt(old, off); err != nil {
		return nil, fmt.Errorf("%s at %d: %w", m.Parent.File.Name(), off, err)
	}
	if pieces.Of(m.Parent.Size, off, old) != m.Parent.List[off/pieces.Size] {
		return nil, fmt.Errorf("%s at %d: %w", m.Parent.File.Name(), off, ErrWrong)
	}
	return old, nil
}

// keep takes a piece from the parent.
func (m *maker) keep(off, n int64) (pieces.Sum, error) {
	sum := m.Parent.List[off/pieces.Size]
	zero, err := m.old.all(off, n)
	if err != nil || zero || m.r.Reflink {
		m.note(off, n, zero)
		return sum, err
	}
	piece, err := m.parent(off, m.buf[0])
	if err != nil {
		return sum, err
	}
	return sum, m.put(off, piece, isZero(piece))
}

// put writes a piece that is the parent's, unless it shares that.
func (m *maker) put(off int64, piece []byte, zero bool) error {
	m.note(off, int64(len(piece)), zero)
	if zero || m.r.Reflink {
		return nil
	}
	_, err := m.out.WriteAt(piece, off)
	return err
}

// write writes a piece that changed. Zeros stay a hole where there is one.
func (m *maker) write(off int64, piece []byte) error {
	zero := isZero(piece)
	m.note(off, int64(len(piece)), zero)
	if zero && (!m.r.Reflink || off >= m.Parent.Size) {
		return nil
	}
	_, err := m.out.WriteAt(piece, off)
	return err
}

// note remembers the longest range of zeros.
func (m *maker) note(off, n int64, zero bool) {
	if !zero {
		m.zeros.now = off + n
		return
	}
	if off+n-m.zeros.now > m.zeros.end-m.zeros.start {
		m.zeros.start, m.zeros.end = m.zeros.now, off+n
	}
}

// verify compares what was written of the new file with its sums.
func (m *maker) verify() error {
	for i, changed := range m.changed {
		if !changed {
			continue
		}
		if err := m.ctx.Err(); err != nil {
			return err
		}
		off := int64(i) * pieces.Size
		piece := m.buf[0][:min(pieces.Size, m.Size-off)]
		if _, err := m.out.ReadAt(piece, off); err != nil {
			return fmt.Errorf("%s at %d: %w", m.File, off, err)
		}
		if pieces.Of(m.Size, off, piece) != m.r.List[i] {
			return fmt.Errorf("%s at %d: what was written reads differently; is the disk of the archive broken?", m.File, off)
		}
	}
	return nil
}

var zeroes [pieces.Size]byte

func isZero(p []byte) bool { return bytes.Equal(p, zeroes[:len(p)]) }

// ChangedBytes returns how many bytes the pieces have that changed.
func (r *Result) ChangedBytes() int64 { return r.Changed * pieces.Size }

// Digest returns the digest of a version that was made.
func (r *Result) Digest() cksum.Digest256 { return r.List.Digest() }
