package compact

import (
	"os"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/token"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/delta/mmap"
)

// Codec is how a block was packed.
type Codec uint8

const (
	// LZO is LZO1X, as squashfs has it.
	LZO Codec = 1
)

// Block is a packed block of an image.
type Block struct {
	Offset, Size int64 // bytes in the image
	Codec        Codec
}

// Image is a base or a target, all of its bytes and the blocks that are known in it. What
// lies between blocks, and blocks with a codec that is not known, or that turn out not to be
// what they should, are bytes as they are.
type Image struct {
	Bytes []byte // often mapped from a file
	// Blocks are in the order of their offsets and do not overlap.
	Blocks []Block
}

// Object is what is known of a base or a target.
type Object = wire.Object

// Info is what a compact delta says of itself.
type Info struct {
	Base, Target Object
	// Length is that of the file, in bytes.
	Length int64
	// Memory is the anonymous memory in bytes that Decode takes with four workers.
	Memory int64
	// Unpacked and Coded are the work of Decode: bytes of content of blocks of the base to
	// unpack, and of blocks of the target to pack.
	Unpacked, Coded int64
	Groups          int
}

var (
	// ErrMagic is the error for what is no compact delta.
	ErrMagic = wire.ErrMagic
	// ErrFormat is wrapped by the errors for what is no valid one.
	ErrFormat = wire.ErrFormat
	// ErrChanged is wrapped by the errors for a base or target, mapped from a file, that
	// became shorter while it was read.
	ErrChanged = mmap.ErrChanged
)

// Options say how a compact delta is made.
type Options struct {
	// Memory bounds what Encode takes, in bytes, but for mapped files; it takes 64 MiB, and 64
	// MiB for each core, at least.
	Memory int64
	Effort delta.Effort // of the search, "" is delta.Default
	Cores  int          // 0 is all that the process may use. The result does not depend on it.
	// Scratch returns an empty file that nobody else has, which Encode closes. It holds what
	// the blocks of base or target make, or the streams: in all files together at most
	// ScratchSize.
	Scratch func() (*os.File, error)
}

const mib = 1 << 20

// effort is that of the token codec.
var effort = token.Default
