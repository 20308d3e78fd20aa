package farming

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/delta/mmap"
)

// Cost is what a delta takes on one core, in CPU-seconds, and its size in bytes.
type Cost struct {
	Index, Make, Check float64 // of the index of the base, of the rest, and of applying it
	Bytes              float64
}

// Change is a base and a target, with what both deltas of them take.
type Change struct {
	Name           string
	Base, Target   float64 // bytes
	RDiff, Compact Cost
}

// Known are the changes of the real images. What rdiff deltas take is by --measure of bench farm;
// what compact ones take, which is too long to be measured again, by bench/COMPACT.md.
var Known = []Change{
	{
		"large change", 1269211136, 1467101184,
		Cost{Index: 0.97, Make: 3.05, Check: 2.67, Bytes: 495.21e6},
		Cost{Make: 872.05, Check: 98.66, Bytes: 285.32e6},
	},
	{
		"small change", 1601703936, 1467101184,
		Cost{Index: 1.46, Make: 0.41, Check: 0.17, Bytes: 4.59e6},
		Cost{Make: 24.16, Check: 4.83, Bytes: 0.52e6},
	},
	{
		"three applications more", 1467101184, 1601703936,
		Cost{Index: 0.55, Make: 0.61, Check: 0.53, Bytes: 138.36e6},
		Cost{Make: 292.65, Check: 24.90, Bytes: 97.71e6},
	},
}

// KnownMoving is what moving an image over TLS takes, by --measure of bench farm.
var KnownMoving = Moving{Send: 0.67e-9, Receive: 1.55e-9}

// cpu returns the CPU-seconds that this process has taken, and then the call.
func cpu(do func() error) (seconds float64, err error) {
	var before, after unix.Rusage
	err = unix.Getrusage(unix.RUSAGE_SELF, &before)
	err = cmp.Or(err, do(), unix.Getrusage(unix.RUSAGE_SELF, &after))
	return spent(before, after), err
}

func spent(before, after unix.Rusage) float64 {
	of := func(r unix.Rusage) int64 { return r.Utime.Nano() + r.Stime.Nano() }
	return float64(of(after)-of(before)) / 1e9
}

// MeasureRDiff measures the rdiff delta of two files, in a directory for what it writes.
func MeasureRDiff(ctx context.Context, base, target, tmp string) (c Cost, err error) {
	from, to, f, closing, err := open(base, target, tmp)
	if err != nil {
		return c, err
	}
	defer closing()
	var x *delta.Index
	if c.Index, err = cpu(func() error {
		x, err = delta.NewIndex(ctx, from, delta.Options{Memory: int64(max(64<<20, len(from)/16)), Cores: 1})
		return err
	}); err != nil {
		return c, err
	}
	defer x.Close()
	if c.Make, err = cpu(func() error {
		w := bufio.NewWriterSize(f, 1<<20)
		_, err := x.Diff(ctx, w, to, nil)
		return cmp.Or(err, w.Flush())
	}); err != nil {
		return c, err
	}
	return c.applied(f, func(r io.Reader) error {
		h := cksum.New() // that of what is published
		return delta.Check(ctx, from, to, io.TeeReader(r, h), nil)
	})
}

// MeasureCompact measures the compact delta of two files, likewise.
func MeasureCompact(ctx context.Context, base, target, tmp string) (c Cost, err error) {
	from, to, f, closing, err := open(base, target, tmp)
	if err != nil {
		return c, err
	}
	defer closing()
	scratch := func() (*os.File, error) {
		s, err := os.CreateTemp(tmp, "scratch")
		if err == nil {
			err = os.Remove(s.Name())
		}
		return s, err
	}
	if c.Make, err = cpu(func() error {
		w := bufio.NewWriterSize(f, 1<<20)
		_, err := compact.Encode(ctx, w, image(from), image(to), compact.Options{Memory: 600 << 20, Cores: 1, Scratch: scratch})
		return cmp.Or(err, w.Flush())
	}); err != nil {
		return c, err
	}
	in, err := os.Open(base)
	if err != nil {
		return c, err
	}
	defer in.Close()
	return c.applied(f, func(r io.Reader) error {
		d, err := compact.Open(r)
		if err != nil {
			return err
		}
		return d.Decode(ctx, r, in, cksum.NewBLAKE3(), compact.DecodeOptions{Cores: 1})
	})
}

func image(data []byte) compact.Image {
	return compact.Image{Bytes: data, Blocks: squashfs.Blocks(data)}
}

// applied adds what applying the delta in a file takes.
func (c Cost) applied(f *os.File, apply func(io.Reader) error) (Cost, error) {
	info, err := f.Stat()
	if err != nil {
		return c, err
	}
	c.Bytes = float64(info.Size())
	c.Check, err = cpu(func() error {
		return apply(bufio.NewReaderSize(io.NewSectionReader(f, 0, info.Size()), 1<<20))
	})
	return c, err
}

// open maps two files, and makes one for their delta in a directory, until closing is called.
func open(base, target, tmp string) (from, to []byte, f *os.File, closing func(), err error) {
	from, unmapBase, err := mmap.Open(base)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	to, unmapTarget, err := mmap.Open(target)
	if err != nil {
		return nil, nil, nil, nil, errors.Join(err, unmapBase())
	}
	unmap := func() error { return cmp.Or(unmapBase(), unmapTarget()) }
	if f, err = os.Create(filepath.Join(tmp, "delta")); err != nil {
		return nil, nil, nil, nil, errors.Join(err, unmap())
	}
	return from, to, f, func() { _ = cmp.Or(unmap(), f.Close(), os.Remove(f.Name())) }, nil // what follows fails too
}
