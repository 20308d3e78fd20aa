package wire

import (
	"encoding/binary"

	"puavo-image-repository/delta/compact/internal/piece"
)

// Append appends a head to dst. It does not check that the head can be read.
func (h *Head) Append(dst []byte) ([]byte, error) {
	tables, err := h.tables()
	if err != nil {
		return nil, err
	}
	fixed := make([]byte, fixedLen)
	copy(fixed, Magic)
	fixed[offVersion], fixed[offDepth], fixed[offAllowance] = Version, byte(h.Depth), byte(h.Allowance)
	h.Base.put(fixed[offBase:])
	h.Target.put(fixed[offTarget:])
	le.PutUint64(fixed[offMemory:], uint64(h.Memory))
	le.PutUint64(fixed[offUnpacked:], uint64(h.Unpacked))
	le.PutUint64(fixed[offCoded:], uint64(h.Coded))
	le.PutUint32(fixed[offBlock:], uint32(h.Block))
	le.PutUint32(fixed[offExtents:], uint32(len(h.Extents)))
	le.PutUint32(fixed[offSections:], uint32(len(h.Sections)))
	le.PutUint32(fixed[offGroups:], uint32(len(h.Groups)))
	le.PutUint32(fixed[offTables:], uint32(len(tables)))
	d := digest(fixed, tables)
	copy(fixed[offDigest:], d[:])
	return append(append(dst, fixed...), tables...), nil
}

func (o Object) put(b []byte) {
	le.PutUint64(b, uint64(o.Size))
	copy(b[8:], o.BLAKE3[:])
}

// tables returns the extents and the index, each a piece, and the digests of the groups.
func (h *Head) tables() ([]byte, error) {
	tables, err := piece.Append(nil, appendExtents(nil, h.Extents), piece.Best)
	if err == nil {
		tables, err = piece.Append(tables, h.appendIndex(nil), piece.Best)
	}
	for _, g := range h.Groups {
		tables = append(tables, g.Sum[:]...)
	}
	return tables, err
}

func appendExtents(dst []byte, extents []Extent) []byte {
	var end int64
	content := 0
	for _, e := range extents {
		dst = binary.AppendUvarint(dst, uint64(e.Offset-end))
		dst = binary.AppendUvarint(dst, uint64(e.Packed))
		dst = binary.AppendVarint(dst, int64(e.Content-content))
		end, content = e.Offset+int64(e.Packed), e.Content
	}
	return dst
}

func (h *Head) appendIndex(dst []byte) []byte {
	for _, s := range h.Sections {
		dst = binary.AppendUvarint(dst, uint64(s.Length))
		dst = binary.AppendUvarint(dst, uint64(s.Groups))
	}
	for _, g := range h.Groups {
		dst = binary.AppendUvarint(dst, uint64(g.Length))
	}
	return dst
}
