package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"puavo-image-repository/delta/compact/internal/piece"
)

// Read reads a head, and not a byte behind it. It takes memory for what the head has, at
// most 64 bytes for each of the extents and groups it says it has, after their digest.
func Read(r io.Reader) (*Head, error) {
	fixed := make([]byte, fixedLen)
	n, err := io.ReadFull(r, fixed)
	if n >= len(Magic) && string(fixed[:len(Magic)]) != Magic || n < len(Magic) && isEnd(err) {
		return nil, ErrMagic
	}
	if err != nil {
		return nil, cut(err)
	}
	h, err := parseFixed(fixed)
	if err != nil {
		return nil, err
	}
	// The tables are read as they arrive, whatever length is said.
	var tables bytes.Buffer
	want := int64(le.Uint32(fixed[offTables:]))
	if got, err := io.CopyN(&tables, r, want); got < want {
		return nil, cut(err)
	}
	if d := digest(fixed, tables.Bytes()); !bytes.Equal(d[:], fixed[offDigest:]) {
		return nil, Malformed("its head has another digest than it says")
	}
	h.Extents = make([]Extent, le.Uint32(fixed[offExtents:]))
	h.Sections = make([]Section, le.Uint32(fixed[offSections:]))
	h.Groups = make([]Group, le.Uint32(fixed[offGroups:]))
	if err := h.parseTables(tables.Bytes()); err != nil {
		return nil, Malformed("the tables: %w", err)
	}
	return h, h.check()
}

func isEnd(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }

func cut(err error) error {
	if isEnd(err) {
		return Malformed("it is cut off: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// parseFixed returns what the fixed part says.
func parseFixed(b []byte) (*Head, error) {
	h := &Head{
		Depth: int(b[offDepth]), Allowance: int(b[offAllowance]),
		Memory: int64(le.Uint64(b[offMemory:])), Unpacked: int64(le.Uint64(b[offUnpacked:])), Coded: int64(le.Uint64(b[offCoded:])),
	}
	h.Base.get(b[offBase:])
	h.Target.get(b[offTarget:])
	extents, sections, groups := le.Uint32(b[offExtents:]), le.Uint32(b[offSections:]), le.Uint32(b[offGroups:])
	block := le.Uint32(b[offBlock:])
	switch flags := le.Uint32(b[offFlags:]); {
	case b[offVersion] != Version:
		return nil, fmt.Errorf("the compact delta has version %d, which this program does not read; it reads version %d", b[offVersion], Version)
	case flags&required != 0 || b[offFlags-1] != 0:
		return nil, fmt.Errorf("the compact delta needs what this program does not have (flags %#x); use a newer program", flags)
	case uint64(h.Base.Size) > MaxSize || uint64(h.Target.Size) > MaxSize:
		return nil, Malformed("sizes of %d and %d bytes", uint64(h.Base.Size), uint64(h.Target.Size))
	case h.Memory < 0 || h.Unpacked < 0 || h.Coded < 0:
		return nil, Malformed("a figure of 2^63 or more")
	case block > MaxBlock || extents > MaxExtents || groups > MaxGroups || sections > groups || le.Uint32(b[offTables:]) > mostTables:
		return nil, Malformed("blocks of %d bytes, %d extents, %d sections and %d groups", block, extents, sections, groups)
	}
	h.Block = int(block)
	return h, nil
}

func (o *Object) get(b []byte) {
	o.Size = int64(le.Uint64(b))
	copy(o.BLAKE3[:], b[8:])
}

// parseTables fills in the extents, the sections and the groups.
func (h *Head) parseTables(tables []byte) error {
	left := bytes.NewReader(tables)
	src := bufio.NewReader(left)
	var r piece.Reader
	extents, err := r.Read(src, nil, piece.Most)
	if err != nil {
		return err
	}
	if err := parseExtents(extents, h.Extents); err != nil {
		return err
	}
	index, err := r.Read(src, extents, piece.Most)
	if err != nil {
		return err
	}
	if err := h.parseIndex(index); err != nil {
		return err
	}
	for i := range h.Groups {
		if _, err := io.ReadFull(src, h.Groups[i].Sum[:]); err != nil {
			return errors.New("they are cut off")
		}
	}
	if n := left.Len() + src.Buffered(); n > 0 {
		return fmt.Errorf("they have %d bytes too many", n)
	}
	return nil
}

func parseExtents(b []byte, extents []Extent) error {
	c := Cursor{Bytes: b}
	var end, content int64
	for i := range extents {
		e := Extent{Offset: end + c.Int(MaxSize), Packed: int(c.Int(MaxBlock))}
		content += c.Signed(MaxBlock)
		if content < 0 || content > MaxBlock {
			return fmt.Errorf("an extent of %d bytes", content)
		}
		e.Content = int(content)
		end = e.Offset + int64(e.Packed)
		extents[i] = e
	}
	return c.End()
}

func (h *Head) parseIndex(b []byte) error {
	c := Cursor{Bytes: b}
	for i := range h.Sections {
		h.Sections[i] = Section{Length: c.Int(SectionLen), Groups: int(c.Int(MaxGroups))}
	}
	for i := range h.Groups {
		h.Groups[i].Length = c.Int(GroupTarget)
	}
	return c.End()
}

// check checks what the parts of a head say of each other.
func (h *Head) check() error {
	for i, e := range h.Extents {
		if e.Packed < 1 || e.Packed > e.Content || e.Content > h.Block || e.Offset+int64(e.Packed) > h.Base.Size {
			return Malformed("extent %d: %d bytes at %d of %d make %d bytes", i, e.Packed, e.Offset, h.Base.Size, e.Content)
		}
	}
	groups := 0
	for i, s := range h.Sections {
		if groups += s.Groups; s.Groups < 1 || groups > len(h.Groups) {
			return Malformed("section %d has %d groups", i, s.Groups)
		}
	}
	var size int64
	for i, g := range h.Groups {
		if size += g.Length; g.Length < 1 {
			return Malformed("group %d is empty", i)
		}
	}
	if h.Depth < 1 || h.Allowance < 1 || h.Coded > MaxRatio*h.Target.Size || h.Unpacked > Unpackable(h.Target.Size)+Unpackable(0)*int64(groups) {
		return Malformed("depth %d, allowance %d, or more work than its target is worth", h.Depth, h.Allowance)
	}
	if groups != len(h.Groups) || size != h.Target.Size {
		return Malformed("%d groups of %d bytes for %d groups of %d bytes", groups, size, len(h.Groups), h.Target.Size)
	}
	return nil
}
