package increment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/pieces"
	"puavo-image-repository/imagerepo/atomicfile"
)

// grain is the range of a changed piece that is a copy or a literal of its own, in bytes.
const grain = 4 << 10

// errDelta is the error for a delta that does not make the parent.
var errDelta = errors.New("the delta that was made does not make the version before")

// delta writes the delta that makes the parent of the new file, and verifies it.
func (m *maker) delta() error {
	f, err := m.Dir.Begin(m.Delta, m.Delta)
	if err != nil {
		return err
	}
	defer f.Discard()
	h := cksum.NewFor(cksum.Sums{BLAKE3: cksum.Digest256{1}})
	w := &reverse{m: m, w: delta.NewWriter(io.MultiWriter(f, h))}
	if err := w.pieces(); err != nil {
		return err
	}
	stats, err := w.w.Close()
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	sums := h.Sums()
	m.r.Delta = catalog.Stored{Form: catalog.Rdiff, Size: sums.Size, BLAKE3: sums.BLAKE3, Commands: stats.Copies + stats.Literals}
	if err := m.check(f, sums.Size); err != nil {
		return fmt.Errorf("%s: %w", m.Delta, err)
	}
	return f.Keep()
}

// reverse writes the parent's pieces as a delta from the new file.
type reverse struct {
	m    *maker
	w    *delta.Writer
	zero int64 // where the next zeros are copied from
}

// unchanged reports whether the parent's piece at off is that of the new file.
func (m *maker) unchanged(off int64) bool {
	return off < m.Size && m.whole(off, min(pieces.Size, m.Size-off)) && !m.changed[off/pieces.Size]
}

func (w *reverse) pieces() error {
	m := w.m
	for off := int64(0); off < m.Parent.Size; off += pieces.Size {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		n := min(pieces.Size, m.Parent.Size-off)
		if m.unchanged(off) {
			if err := w.w.Copy(off, n); err != nil {
				return err
			}
			continue
		}
		if err := w.piece(off); err != nil {
			return err
		}
	}
	return nil
}

// kind is what a range of the parent is made from.
type kind byte

const (
	literal kind = iota
	same         // the same range of the new file
	zero         // zeros of the new file
)

// piece writes a piece that changed: grains that are alike become one command.
func (w *reverse) piece(off int64) error {
	old, err := w.m.parent(off, w.m.buf[0])
	if err != nil {
		return err
	}
	now := w.m.buf[1][:max(0, min(int64(len(old)), w.m.Size-off))]
	if len(now) > 0 {
		if _, err := w.m.out.ReadAt(now, off); err != nil {
			return err
		}
	}
	for at := 0; at < len(old); {
		k, end := w.kindOf(old, now, at), min(at+grain, len(old))
		for end < len(old) && w.kindOf(old, now, end) == k {
			end = min(end+grain, len(old))
		}
		if err := w.write(k, off+int64(at), old[at:end]); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (w *reverse) kindOf(old, now []byte, at int) kind {
	part := old[at:min(at+grain, len(old))]
	switch {
	case at+len(part) <= len(now) && bytes.Equal(part, now[at:at+len(part)]):
		return same
	case w.m.zeros.end-w.m.zeros.start >= grain && isZero(part):
		return zero
	}
	return literal
}

func (w *reverse) write(k kind, off int64, p []byte) error {
	switch k {
	case same:
		return w.w.Copy(off, int64(len(p)))
	case literal:
		return w.w.Literal(p)
	}
	for left := int64(len(p)); left > 0; {
		if w.zero < w.m.zeros.start || w.zero >= w.m.zeros.end {
			w.zero = w.m.zeros.start
		}
		n := min(left, w.m.zeros.end-w.zero)
		if err := w.w.Copy(w.zero, n); err != nil {
			return err
		}
		w.zero += n
		left -= n
	}
	return nil
}

// check reads the delta as who restores does, and compares what it makes with the parent, but
// for pieces that are copied from where they are and did not change.
func (m *maker) check(f *atomicfile.File, size int64) error {
	end := int64(0)
	err := delta.Walk(m.ctx, io.NewSectionReader(f, 0, size), func(c delta.Command) error {
		from := io.ReaderAt(m.out)
		if c.Literal {
			from = f
		}
		if c.Length > m.Parent.Size-end || !c.Literal && (c.From < 0 || c.Length > m.Size-c.From) {
			return errDelta
		}
		err := m.compare(from, c, end)
		end += c.Length
		return err
	})
	if err == nil && end != m.Parent.Size {
		err = errDelta
	}
	return err
}

// compare compares what a command makes with the parent from off.
func (m *maker) compare(from io.ReaderAt, c delta.Command, off int64) error {
	for done := int64(0); done < c.Length; {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		at := off + done
		n := min(c.Length-done, pieces.Size-at%pieces.Size)
		if !(!c.Literal && c.From == off && m.unchanged(at/pieces.Size*pieces.Size)) {
			if err := equal(from, c.From+done, m.Parent.File, at, m.buf[0][:n], m.buf[1][:n]); err != nil {
				return err
			}
		}
		done += n
	}
	return nil
}

// equal compares two ranges.
func equal(a io.ReaderAt, atA int64, b *os.File, atB int64, bufA, bufB []byte) error {
	if _, err := a.ReadAt(bufA, atA); err != nil {
		return err
	}
	if _, err := b.ReadAt(bufB, atB); err != nil {
		return err
	}
	if !bytes.Equal(bufA, bufB) {
		return errDelta
	}
	return nil
}
