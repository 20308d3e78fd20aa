package squashfs

import "errors"

const (
	maxMetadata   = 8 << 10 // bytes of a metadata block
	keptMetadata  = 256     // blocks that are kept
	keptFragments = 8       // the same
	blockWork     = 4 << 10 // units of work for a block, besides its bytes
)

// metadata is a metadata block.
type metadata struct {
	bytes []byte
	next  uint64 // offset of the one after it
}

// readMetadata returns the metadata block at an offset.
func (r *Reader) readMetadata(off uint64) (metadata, error) {
	if b, ok := r.metadata[off]; ok {
		return b, nil
	}
	var size [2]byte
	if err := r.readAt(size[:], off); err != nil {
		return metadata{}, err
	}
	n := int(le.Uint16(size[:]))
	plain := n&0x8000 != 0
	n &= 0x7fff
	bytes, err := r.readBlock(make([]byte, maxMetadata), off+2, n, plain)
	if err != nil {
		return metadata{}, err
	}
	if len(r.metadata) == keptMetadata {
		clear(r.metadata)
	}
	b := metadata{bytes, off + 2 + uint64(n)}
	r.metadata[off] = b
	return b, nil
}

// readBlock returns what the n bytes at an offset make, which it puts into dst,
// and which is at least a byte.
func (r *Reader) readBlock(dst []byte, off uint64, n int, plain bool) ([]byte, error) {
	if n == 0 || n > len(dst) {
		return nil, damaged("%d bytes at offset %d for a block of %d", n, off, len(dst))
	}
	if err := r.spend(blockWork + 2*n + len(dst)); err != nil {
		return nil, err
	}
	if plain {
		return dst[:n], r.readAt(dst[:n], off)
	}
	if r.decompress == nil {
		return nil, unsupported(methods[r.compression].name)
	}
	if cap(r.stored) < n {
		r.stored = make([]byte, n)
	}
	stored := r.stored[:n]
	if err := r.readAt(stored, off); err != nil {
		return nil, err
	}
	return r.unpack(dst, stored, off)
}

// unpack returns what the stored bytes from an offset make, which it puts into dst.
func (r *Reader) unpack(dst, stored []byte, off uint64) ([]byte, error) {
	if r.decompress == nil {
		return nil, unsupported(methods[r.compression].name)
	}
	got, err := r.guarded(dst, stored)
	if not, ok := errors.AsType[unsupported](err); ok {
		return nil, not
	}
	if err == nil && got == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, damaged("the block at offset %d: %s: %w", off, methods[r.compression].name, err)
	}
	return dst[:got], nil
}

// cursor reads metadata from somewhere on. After an error it reads zeros.
type cursor struct {
	r     *Reader
	bytes []byte // what is left of the block
	next  uint64 // offset of the block after it
	err   error
}

// cursor returns one that begins at start in the metadata block at off.
func (r *Reader) cursor(off uint64, start int) cursor {
	b, err := r.readMetadata(off)
	if err == nil && start > len(b.bytes) {
		err = damaged("byte %d of the %d in the metadata block at offset %d", start, len(b.bytes), off)
	}
	if err != nil {
		return cursor{r: r, err: err}
	}
	return cursor{r: r, bytes: b.bytes[start:], next: b.next}
}

// read fills p.
func (c *cursor) read(p []byte) {
	for len(p) > 0 && c.err == nil {
		if len(c.bytes) == 0 {
			var b metadata
			b, c.err = c.r.readMetadata(c.next)
			c.bytes, c.next = b.bytes, b.next
			continue
		}
		n := copy(p, c.bytes)
		p, c.bytes = p[n:], c.bytes[n:]
	}
	clear(p)
}

func (c *cursor) u16() uint16 {
	var b [2]byte
	c.read(b[:])
	return le.Uint16(b[:])
}

func (c *cursor) u32() uint32 {
	var b [4]byte
	c.read(b[:])
	return le.Uint32(b[:])
}

func (c *cursor) u64() uint64 {
	var b [8]byte
	c.read(b[:])
	return le.Uint64(b[:])
}

// skip reads n bytes, at most 16.
func (c *cursor) skip(n int) {
	var b [16]byte
	c.read(b[:n])
}
