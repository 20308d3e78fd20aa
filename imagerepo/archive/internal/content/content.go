// Package content reads versions of a group: the file of one that is stored whole, and others
// through the deltas that make them.
//
// What the commands of a delta copy is read where the next newer version has it, and so on
// down to the one that is whole: there is no image in between. For that the commands of all
// these deltas are in memory, 16 bytes each. Where these are too many, or a delta is a compact
// one, the version that it makes is written to a temporary file that has no name:
//
//	a whole file <- layer <- layer <- temporary file <- layer <- who reads
//	                  |        |            ^             |
//	               literals of deltas       |          literals
//	                                 a compact delta,
//	                              or one with many commands
package content

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

// Plan is what it takes to read a version.
type Plan struct {
	Deltas    int   `json:"deltas"`
	Memory    int64 `json:"memory"`    // bytes, besides mapped files
	Temporary int64 `json:"temporary"` // bytes of temporary files at a time
	Read      int64 `json:"read"`      // bytes of the files that make it
}

// How much memory a compact delta takes, and an rdiff delta that is applied to a temporary
// file, in bytes.
const (
	compactMemory = 128 << 20
	patchMemory   = 4 << 20
)

// PlanOf returns what it takes to read the version that steps make. memory is for the
// commands of deltas, in bytes.
func PlanOf(steps []catalog.Step, memory int64) (p Plan) {
	var commands, below int64 // in memory, and the temporary file below them
	for _, s := range steps {
		p.Read += s.Stored.Size
		if s.Stored.Form == catalog.Whole {
			continue
		}
		p.Deltas++
		if fits(s, memory-commands) {
			commands += s.Stored.Commands * commandMemory
			p.Memory = max(p.Memory, commands)
			continue
		}
		extra := int64(patchMemory)
		if s.Stored.Form == catalog.Compact {
			extra = compactMemory
		}
		p.Memory = max(p.Memory, commands+extra)
		p.Temporary = max(p.Temporary, below+s.Size)
		commands, below = 0, s.Size
	}
	return p
}

// fits reports whether the commands of a delta fit into memory.
func fits(s catalog.Step, memory int64) bool {
	return s.Stored.Form == catalog.Rdiff && s.Stored.Commands*commandMemory <= memory
}

// Content is a version that can be read.
type Content struct {
	source
	mapped []byte   // all of it, nil if it is not one file
	unmap  []func() // of all files
}

// ReadAt reads from the version. Any number of goroutines may call it.
func (c *Content) ReadAt(p []byte, off int64) (n int, err error) {
	fault := mmap.Guard(func() error {
		n, err = c.source.ReadAt(p, off)
		return nil
	})
	if fault != nil {
		return 0, fault
	}
	return n, err
}

// Close ends the use of the files.
func (c *Content) Close() {
	for _, unmap := range c.unmap {
		unmap()
	}
	c.unmap = nil
}

// file is a mapped file.
type file []byte

func (f file) Size() int64 { return int64(len(f)) }

func (f file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(f)) {
		return 0, io.EOF
	}
	n := copy(p, f[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Open returns the version that files make, with temporary files in dir. memory is for the
// commands of deltas, in bytes. Whoever calls it closes it. The files can be closed, and removed,
// before.
func Open(ctx context.Context, dir atomicfile.Dir, files Files, memory int64) (*Content, error) {
	c := &Content{}
	left := memory
	for i, f := range files.open {
		s := files.steps[i]
		err := mmap.Guard(func() (err error) {
			left, err = c.step(ctx, dir, f, s, left, memory)
			return err
		})
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return c, nil
}

// step puts the version of a step on top of what it starts from, and returns how much memory
// is left.
func (c *Content) step(ctx context.Context, dir atomicfile.Dir, f *os.File, s catalog.Step, left, memory int64) (int64, error) {
	data, unmap, err := mmap.Map(f)
	if err != nil {
		return 0, err
	}
	c.unmap = append(c.unmap, func() { unmap() })
	switch {
	case s.Stored.Form == catalog.Whole:
		c.source, c.mapped = file(data), data
		if int64(len(data)) != s.Size {
			return 0, fmt.Errorf("it has %d bytes, not the %d that the catalog says", len(data), s.Size)
		}
		return left, nil
	case fits(s, left):
		c.mapped = nil
		c.source, err = newLayer(ctx, c.source, file(data), s.Size, s.Stored.Commands)
		return left - s.Stored.Commands*commandMemory, err
	}
	return memory, c.replace(ctx, dir, func(w io.Writer) error {
		if s.Stored.Form == catalog.Compact {
			return decode(ctx, f, c, w)
		}
		return delta.Patch(ctx, w, c, f, s.Size)
	})
}

// decode applies a compact delta.
func decode(ctx context.Context, r io.Reader, base io.ReaderAt, w io.Writer) error {
	d, err := compact.Open(r)
	if err != nil {
		return err
	}
	// Whoever reads the version compares its digest, and a wrong base fails by groups before.
	return d.Decode(ctx, r, base, w, compact.DecodeOptions{Trusted: true})
}

// CompactSize returns the size of what a compact delta makes.
func CompactSize(r io.Reader) (int64, error) {
	d, err := compact.Open(r)
	if err != nil {
		return 0, err
	}
	return d.Info().Target.Size, nil
}

// replace puts what write writes to a temporary file in the place of all that there is.
func (c *Content) replace(ctx context.Context, dir atomicfile.Dir, write func(io.Writer) error) error {
	f, err := dir.Scratch()
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := cmp.Or(write(w), ctx.Err()); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("a temporary file in %s: %w", dir.Name(), err)
	}
	data, unmap, err := mmap.Map(f)
	if err != nil {
		return err
	}
	c.Close()
	c.source, c.mapped, c.unmap = file(data), data, []func(){func() { unmap() }}
	return nil
}

// Bytes returns all of the version, mapped from its file, or from a temporary one in dir.
func (c *Content) Bytes(ctx context.Context, dir atomicfile.Dir) ([]byte, error) {
	if c.mapped == nil {
		err := c.replace(ctx, dir, func(w io.Writer) error {
			_, err := io.Copy(w, reader{ctx, io.NewSectionReader(c, 0, c.Size())})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return c.mapped, nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
