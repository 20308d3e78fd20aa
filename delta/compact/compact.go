package compact

import (
	"context"
	"io"
	"os"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/decode"
	"puavo-image-repository/delta/compact/internal/encode"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/delta/mmap"
)

// Codec is how a block was packed.
type Codec uint8

// LZO is LZO1X, as squashfs has it.
const LZO Codec = 1

// Block is a packed block of an image.
type Block struct {
	Offset, Size int64 // bytes in the image
	Codec        Codec
}

// Image is a base or a target.
type Image struct {
	// Bytes are all of the image. They must not change, but may be mapped from a file.
	Bytes []byte
	// Blocks are those that are known, in the order of their offsets and without overlap. What
	// lies between them, or has a codec that is not known, or turns out to be no such block, is
	// bytes as they are.
	Blocks []Block
}

// Object is what a compact delta says of its base or its target.
type Object = wire.Object

// Info is what a compact delta says of itself. All figures count bytes, but that of the groups.
type Info struct {
	Base, Target Object
	Length       int64 // of the file
	Memory       int64 // anonymous memory that Decode takes with four workers
	Unpacked     int64 // content of blocks of the base that Decode unpacks
	Coded        int64 // content of blocks of the target that Decode packs
	Groups       int
}

var (
	// ErrMagic is the error for what is no compact delta.
	ErrMagic = wire.ErrMagic
	// ErrFormat is wrapped by the errors for what is no valid one.
	ErrFormat = wire.ErrFormat
	// ErrBase is the error for a base that a compact delta is not for.
	ErrBase = decode.ErrBase
	// ErrChanged is wrapped by the errors for a base or target, mapped from a file, that
	// became shorter while it was read.
	ErrChanged = mmap.ErrChanged
)

// Magic is what every compact delta starts with.
const Magic = wire.Magic

// Options say how a compact delta is made.
type Options struct {
	// Memory bounds the anonymous memory of Encode, in bytes. It takes no less than 96 MiB and
	// 32 MiB for each core, or 192 MiB for each core. With more, it finds more: for images of
	// 1.5 GB up to 2 GiB.
	Memory int64
	// Effort is that of the search, "" is delta.Default. With delta.Fast, the streams are
	// compressed in a fifth of the time to what takes a fifth more.
	Effort delta.Effort
	Cores  int // 0 is all that the process may use. The delta does not depend on it.
	// Scratch returns an empty file that nobody else has, open for reading and writing, which
	// Encode closes. What all of them hold is at most the content of base and target, and the
	// target's content again three times.
	Scratch func() (*os.File, error)
}

// Encode writes to w the compact delta that makes target from base, which is an empty image
// for a delta without a base. Nothing is written before all is known. The same images,
// Memory and Effort always make the same delta. It does not apply the delta; a caller who
// must be sure does. Errors are those of ctx, of w and of the scratch files, and ErrChanged.
func Encode(ctx context.Context, w io.Writer, base, target Image, o Options) (Info, error) {
	counted := &counter{w: w}
	head, err := encode.Encode(ctx, counted, base.known(), target.known(), encode.Options(o))
	if err != nil {
		return Info{}, err
	}
	return infoOf(head, counted.n), nil
}

// known returns the image with the blocks whose codec is known.
func (m Image) known() encode.Image {
	blocks := make([]encode.Block, 0, len(m.Blocks))
	for _, b := range m.Blocks {
		if b.Codec == LZO {
			blocks = append(blocks, encode.Block{Offset: b.Offset, Size: b.Size})
		}
	}
	return encode.Image{Bytes: m.Bytes, Blocks: blocks}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func infoOf(h *wire.Head, length int64) Info {
	return Info{
		Base: h.Base, Target: h.Target, Length: length, Memory: h.Memory,
		Unpacked: h.Unpacked, Coded: h.Coded, Groups: len(h.Groups),
	}
}

// Delta is a compact delta whose head was read. Any number of goroutines may use it.
type Delta struct{ d *decode.Delta }

// Open reads the head of a compact delta from r, and nothing behind it. Errors are those of
// r, ErrMagic, those that wrap ErrFormat, and one for a version that is not known.
func Open(r io.Reader) (*Delta, error) {
	d, err := decode.Open(r)
	if err != nil {
		return nil, err
	}
	return &Delta{d}, nil
}

// Info returns what the delta says of itself.
func (d *Delta) Info() Info { return infoOf(d.d.Head()) }

// Start returns where in the file Decode must begin to read to begin with a group, from 0 on,
// and where in the target that group begins. For the number of groups, both are the ends.
func (d *Delta) Start(group int) (file, target int64) { return d.d.Start(group) }

// DecodeOptions say how a compact delta is applied.
type DecodeOptions struct {
	// Cores is how many groups are made concurrently, if memory permits; 0 is as many as the
	// process may use cores. It takes 128 MiB at most, however many they are.
	Cores int
	// From is the first group that is made. What was made of those before, the caller checks.
	From int
	// Trusted says that the caller has compared the base's size and digest with Info.
	Trusted bool
	// Compared says that the caller compares the digest of the whole target, so that Decode
	// need not take it as well.
	Compared bool
}

// Decode writes to w the target, or what is left of it from a group on. It reads r from where
// Start says. Unless the caller vouches for the base, all of it is read first. A group is
// written when its digest was compared. A target that was made from its start has the digest
// of Info, unless the caller compares that, or there is an error. Errors are those of ctx, r, base and w; ErrBase, before
// anything is written; and those that wrap ErrFormat.
func (d *Delta) Decode(ctx context.Context, r io.Reader, base io.ReaderAt, w io.Writer, o DecodeOptions) error {
	return d.d.Decode(ctx, r, base, w, decode.Options(o))
}
