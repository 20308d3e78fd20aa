package wire

import "puavo-image-repository/delta/compact/internal/piece"

// The streams of a section, in their order.
const (
	OpStream = iota
	RunStream
	LengthStream
	PlaceStream
	LiteralStream
	DifferenceStream
	TokenStream
	StreamCount
)

// StreamSet has the streams of a group, or of a section.
type StreamSet [StreamCount][]byte

// The operations, in the low bits of their numbers.
const (
	OpKeep     = 0 // bytes of the base as they are
	OpBlock    = 1 // content, which is packed
	OpBytes    = 2 // content, as it is
	OpReserved = 3
	OpBits     = 2
)

// The codes of places that are no distances.
const (
	OnDifferences = 0 // the copy goes on, and the run before it is differences
	OnLiterals    = 1 // the copy goes on
)

// PlaceCode returns the code of the distance from where the last copy would go on, for a
// copy behind literals.
func PlaceCode(distance int64) int64 {
	switch {
	case distance == 0:
		return OnLiterals
	case distance > 0:
		return distance << 1
	default:
		return -distance<<1 | 1
	}
}

// PlaceDistance returns the distance of a code.
func PlaceDistance(code int64) int64 {
	switch {
	case code <= OnLiterals:
		return 0
	case code&1 == 0:
		return code >> 1
	default:
		return -(code >> 1)
	}
}

// Workers is how many workers the memory figure of a head is for.
const Workers = 4

// WindowLen is how many bytes of the base are read at once, unless a block has more.
const WindowLen = 256 << 10

// MemoryFor returns how much anonymous memory in bytes applying takes with some workers.
func (h *Head) MemoryFor(workers int) int64 {
	const (
		sections = 2*Streams + piece.Most // their streams, and a piece that is unpacked
		perEntry = 64                     // of an extent or a group
		perPart  = 16 + 8                 // of a copy, and of differences
		model    = 3 << 20                // of the token codec
		perByte  = 12 + 4 + 12            // of a block: its tables, its tokens, what it is packed and unpacked from
	)
	worker := int64(Content + GroupParts*perPart + model + perByte*h.Block + WindowLen)
	return sections + perEntry*int64(len(h.Extents)+len(h.Groups)) + int64(workers)*worker
}
