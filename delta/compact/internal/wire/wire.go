// Package wire reads and writes the head of a compact delta, which the documentation of
// package compact specifies.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"puavo-image-repository/cksum"
)

// Magic is what every compact delta starts with.
const Magic = "\x89CDELTA\n"

// Version is that of the format.
const Version = 1

// The limits of a file, whatever it says.
const (
	MaxSize     = 1 << 48   // bytes of base or target
	MaxBlock    = 1 << 20   // bytes of content of a block
	MaxRatio    = 32        // times the length of a block that its content may have
	MaxExtents  = 1 << 20   // blocks of the base that are unpacked
	MaxGroups   = 1 << 18   //
	Content     = 8 << 20   // bytes of content of a group
	GroupTarget = 64 << 20  // bytes of the target that a group makes
	GroupBlocks = 64        // of a group
	GroupOps    = 4096      // of a group
	GroupParts  = 128 << 10 // commands of a group, and parts of their copies

	SectionGroups = 4096            // of a section
	Streams       = 12 << 20        // bytes of the streams of a section
	SectionLen    = Streams + 1<<20 // bytes of a section

	required   = 1<<16 - 1 // flags that must be known
	mostTables = 32 << 20  // bytes of the tables
)

// Unpackable returns how many bytes of content of extents a group may unpack that makes
// length bytes of the target.
func Unpackable(length int64) int64 { return 64*length + 16<<20 }

// Object is what is known of a base or a target.
type Object struct {
	Size   int64           // bytes
	BLAKE3 cksum.Digest256 // of all of it
}

// Extent is a block of the base that copies are taken from.
type Extent struct {
	Offset  int64 // in the base
	Packed  int   // bytes in the base
	Content int   // bytes that it makes
}

// Section is a part of the file that has the streams of some groups.
type Section struct {
	Length int64 // bytes in the file
	Groups int
}

// Group is a part of the target.
type Group struct {
	Length int64    // bytes of the target
	Sum    [16]byte // the first half of their BLAKE3
}

// Head is what a file starts with.
type Head struct {
	Depth, Allowance int // of the token codec
	Base, Target     Object
	Memory           int64 // bytes that applying takes with four workers
	Unpacked         int64 // bytes of content of base blocks that are unpacked, one counted for each group that needs it
	Coded            int64 // bytes of content of the target's blocks that are packed
	Block            int   // bytes of the largest content of a block in base and target
	Extents          []Extent
	Sections         []Section
	Groups           []Group
}

// The layout of the fixed part.
const (
	offVersion   = 8
	offDepth     = 9
	offAllowance = 10
	offFlags     = 12
	offBase      = 16
	offTarget    = 56
	offMemory    = 96
	offUnpacked  = 104
	offCoded     = 112
	offBlock     = 120
	offExtents   = 124
	offSections  = 128
	offGroups    = 132
	offTables    = 136
	offDigest    = 140
	fixedLen     = 172
)

var le = binary.LittleEndian

var (
	// ErrMagic is the error for what is no compact delta.
	ErrMagic = errors.New("not a compact delta")
	// ErrFormat is wrapped by errors for what is none that is valid.
	ErrFormat = errors.New("the compact delta is damaged")
)

// Malformed returns an error that wraps ErrFormat.
func Malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFormat, fmt.Errorf(format, args...))
}

// digest returns the digest of the fixed part, but the digest itself, and of the tables.
func digest(fixed, tables []byte) (d cksum.Digest256) {
	h := cksum.NewBLAKE3()
	h.Write(fixed[:offDigest])
	h.Write(tables)
	h.Sum(d[:0])
	return d
}
