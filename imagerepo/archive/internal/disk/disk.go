// Package disk reads disks of virtual machines: raw files, block devices, qcow2 files and NBD
// exports.
//
// Reads of a raw disk go to the file. A qcow2 file is served by a qemu-nbd of its own, which
// ends with its connection, and is then read as any export:
//
//	raw file, block device <----------------------------- reads
//	qcow2 file <- qemu-nbd <- Unix socket <- package nbd <- reads
//	                 ^
//	                 |---- nbdinfo: what is zero, what changed
//
// A qcow2 file that rests on another file is refused: a guest or whoever made it can name any
// file of this machine. Its header is read before a tool opens it, which would open the other.
package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"puavo-image-repository/imagerepo/archive/internal/extents"
	"puavo-image-repository/imagerepo/archive/internal/nbd"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta/untrusted"
)

// ErrRefused is wrapped by the error for a disk that is not read.
var ErrRefused = errors.New("this disk is not backed up")

// Disk is an open disk.
type Disk struct {
	Size int64       // bytes
	Zero extents.Map // nil where it is not known what is zero
	// Dirty is what changed since the bitmap began; nil if it is not known, for the reason Why.
	Dirty extents.Map
	Why   string

	from      io.ReaderAt
	unchanged func() error
	ends      []func() // last first
}

// ReadAt reads from the disk.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) { return d.from.ReadAt(p, off) }

// Unchanged returns an error if it is certain that somebody has written to the disk since it
// was opened.
func (d *Disk) Unchanged() error {
	if d.unchanged == nil {
		return nil
	}
	return d.unchanged()
}

// Close ends the use of the disk.
func (d *Disk) Close() {
	for _, end := range slices.Backward(d.ends) {
		end()
	}
	d.ends = nil
}

// Open opens a disk, with the bitmap of this name if it has that; "" is none. Whoever calls it
// calls Close. Reads fail when ctx ends.
func Open(ctx context.Context, s Spec, bitmap string) (*Disk, error) {
	d := &Disk{}
	open := map[Format]func(context.Context, Spec, string) error{Raw: d.raw, QCOW2: d.qcow2, NBD: d.export}[s.Format]
	if err := open(ctx, s, bitmap); err != nil {
		d.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("disk %s: %w", untrusted.Show(s.Source), err)
	}
	return d, nil
}

// raw opens a file or a block device.
func (d *Disk) raw(ctx context.Context, s Spec, _ string) error {
	info, err := os.Stat(s.Source)
	if err != nil {
		return err
	}
	isDevice := info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
	if !info.Mode().IsRegular() && !isDevice {
		return fmt.Errorf("%w: it is %s", ErrRefused, atomicfile.Describe(info.Mode()))
	}
	f, err := os.Open(s.Source)
	if err != nil {
		return err
	}
	d.from, d.ends = f, append(d.ends, func() { f.Close() })
	d.Why = "a raw disk has no bitmap"
	if d.Size, err = f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if d.Size < 1 {
		return fmt.Errorf("%w: it is empty", ErrRefused)
	}
	head := make([]byte, len(qcow2Magic))
	if _, err := f.ReadAt(head, 0); err == nil && string(head) == qcow2Magic && !isDevice && !s.Explicit {
		return fmt.Errorf("%w: it begins as a qcow2 file does; say qcow2:%s, or raw:%s if its guest has written that", ErrRefused, s.Source, s.Source)
	}
	if isDevice {
		return nil
	}
	d.unchanged = func() error { return sameFile(f, info) }
	return d.holes(ctx, s)
}

// sameFile returns an error if an open file was changed.
func sameFile(f *os.File, before fs.FileInfo) error {
	now, err := f.Stat()
	if err == nil && (now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime())) {
		err = fmt.Errorf("disk %s: it was written to while it was read; stop the guest, or back up a snapshot or an NBD export", f.Name())
	}
	return err
}

// holes finds what is zero of a raw file. Where that fails, all is read.
func (d *Disk) holes(ctx context.Context, s Spec) error {
	out, err := run(ctx, extents.MaxOutput, "qemu-img", "map", "--output=json", "--force-share", node("raw", s.Source))
	if err == nil {
		d.Zero, err = extents.ImageZeros(out, d.Size)
	}
	if err != nil {
		d.Zero = nil // the tool is missing, or rounds an odd size: it only saves reading
	}
	return ctx.Err()
}

// node returns a file as QEMU's tools take it, whatever is in its name.
func node(format, path string) string {
	type node struct {
		Driver   string `json:"driver"`
		Filename string `json:"filename,omitempty"`
		File     *node  `json:"file,omitempty"`
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	data, _ := json.Marshal(node{Driver: format, File: &node{Driver: "file", Filename: path}}) // it has nothing that cannot be written
	if format == string(QCOW2) {
		data = append([]byte(`{"backing":null,`), data[1:]...) // whatever it says, nothing else is opened
	}
	return "json:" + string(data)
}

// export opens an NBD export.
func (d *Disk) export(ctx context.Context, s Spec, bitmap string) error {
	a, err := nbd.ParseURI(s.Source)
	if err != nil {
		return err
	}
	return d.connect(ctx, a, bitmap)
}

// connect connects to an export, and asks what is known of it.
func (d *Disk) connect(ctx context.Context, a nbd.Address, bitmap string) error {
	c, err := nbd.Dial(ctx, a)
	if err != nil {
		return err
	}
	d.from, d.Size, d.ends = c, c.Size(), append(d.ends, func() { c.Close() })
	out, err := run(ctx, maxInfo, "nbdinfo", "--json", a.URI())
	if err != nil {
		return err
	}
	e, err := extents.ParseExport(out)
	if err == nil && e.Size != d.Size {
		err = fmt.Errorf("%w: the export has %d bytes, and for nbdinfo %d", extents.ErrFormat, d.Size, e.Size)
	}
	if err != nil {
		return fmt.Errorf("nbdinfo: %w", err)
	}
	const allocation, dirty = "base:allocation", "qemu:dirty-bitmap:"
	if slices.Contains(e.Contexts, allocation) {
		if d.Zero, err = contextMap(ctx, a, allocation, d.Size, extents.Zeros); err != nil {
			return err
		}
	}
	switch {
	case bitmap == "": // Why may be known
	case !slices.Contains(e.Contexts, dirty+bitmap):
		d.Why = "the export has no bitmap " + bitmap
	default:
		d.Dirty, err = contextMap(ctx, a, dirty+bitmap, d.Size, extents.Dirty)
	}
	return err
}

// contextMap returns a map of an export.
func contextMap(ctx context.Context, a nbd.Address, name string, size int64, parse func([]byte, int64) (extents.Map, error)) (extents.Map, error) {
	out, err := run(ctx, extents.MaxOutput, "nbdinfo", "--json", "--map="+name, a.URI())
	if err != nil {
		return nil, err
	}
	m, err := parse(out, size)
	if err != nil {
		return nil, fmt.Errorf("nbdinfo --map=%s: %w", name, err)
	}
	return m, nil
}
