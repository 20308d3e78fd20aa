// Package guest makes a version of a disk of a guest in its group: from the disk, and from the
// newest version there.
//
// The disks of a guest get a version together. When the files of all of them are complete, it is
// decided that they all get it, see Decide; then the catalogs name it, one after the other. What
// is left of that when a run dies, the next does.
//
// The bitmap that began at a version is named after it, see Bitmap. So it is known whether a
// bitmap is that of the newest version: another bitmap has another name. The files that are made
// end in ".part" until the catalog of the group is about to name them:
//
//	<version>.img.part    the disk
//	<parent>.rdiff.part   makes its parent from it
//	<version>.pieces      the sums of its pieces, see package pieces; of the newest version only
package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/archive/internal/disk"
	"puavo-image-repository/imagerepo/archive/internal/increment"
	"puavo-image-repository/imagerepo/archive/internal/pieces"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/sharing"
)

// Part ends the name of a file that is made.
const Part = ".part"

// piecesSuffix ends the name of a list of sums.
const piecesSuffix = ".pieces"

// sampled is how many clean pieces are compared.
const sampled = 16

// Bitmap returns the name of the bitmap that began at a version.
func Bitmap(version string) string { return "puavo-" + version }

// Disk is a disk that is about to become a version. It is not for concurrent use.
type Disk struct {
	disk.Spec
	*disk.Disk
	dir    atomicfile.Dir
	newest string           // version of the group, "" for none
	parent *catalog.Version // nil without one that can be used
	old    *increment.Parent
	lost   string // why the version before cannot be used
}

// Plan is what it takes to make a version.
type Plan struct {
	disk.Spec
	Group  string `json:"group"`
	Size   int64  `json:"size"`             // bytes
	Parent string `json:"parent,omitempty"` // the version before
	Bitmap string `json:"bitmap,omitempty"` // that says what changed
	Full   string `json:"full,omitempty"`   // why all of the disk is read
	Read   int64  `json:"read"`             // bytes of the disk
	// Way is how the version before comes into the new file: reflink, copy, or none.
	Way   string `json:"way"`
	Space int64  `json:"space"` // bytes of the archive's disk, at most
}

// Open opens a disk, and the newest version of its group, which is nil if there is none; then
// dir is not used. It changes nothing. Whoever calls it calls Close.
func Open(ctx context.Context, dir atomicfile.Dir, newest *catalog.Version, spec disk.Spec) (*Disk, error) {
	d := &Disk{Spec: spec, dir: dir}
	bitmap := ""
	if newest != nil {
		d.newest, bitmap = newest.Version, Bitmap(newest.Version)
		if err := d.openParent(ctx, newest); err != nil {
			return nil, err
		}
	}
	var err error
	if d.Disk, err = disk.Open(ctx, spec, bitmap); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// openParent opens the newest version. One that is damaged is not used.
func (d *Disk) openParent(ctx context.Context, v *catalog.Version) error {
	f, list, err := OpenNewest(ctx, d.dir, v)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, content.ErrWrong):
		d.lose(v.Version)
		return nil
	case err != nil:
		return err
	}
	d.parent, d.old = v, &increment.Parent{File: f, Size: v.Size, List: list}
	return nil
}

// OpenNewest opens the file of a version that is whole, and returns the sums of its pieces. They
// are computed where they are missing.
func OpenNewest(ctx context.Context, dir atomicfile.Dir, v *catalog.Version) (f *os.File, l pieces.List, err error) {
	name, err := content.Locate(ctx, dir, catalog.Step{Version: *v, File: v.File()})
	if err != nil {
		return nil, nil, err
	}
	if f, err = dir.Open(name); err != nil {
		return nil, nil, err
	}
	if info, statErr := f.Stat(); statErr != nil || info.Size() != v.Size {
		f.Close()
		return nil, nil, cmp.Or(statErr, content.ErrWrong)
	}
	data, err := dir.ReadFile(v.Version+piecesSuffix, pieces.Count(v.Size)*int64(len(pieces.Sum{})))
	if err == nil {
		l, err = pieces.Parse(data, v.Size, v.BLAKE3)
	}
	if err == nil {
		return f, l, nil
	}
	if l, err = sum(ctx, f, v); err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, l, nil
}

// sum computes the sums of a version.
func sum(ctx context.Context, f *os.File, v *catalog.Version) (l pieces.List, err error) {
	buf := make([]byte, pieces.Size)
	for off := int64(0); off < v.Size; off += pieces.Size {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := f.ReadAt(buf[:min(pieces.Size, v.Size-off)], off)
		if err != nil && err != io.EOF {
			return nil, err
		}
		l = append(l, pieces.Of(v.Size, off, buf[:n]))
	}
	if l.Digest() != v.BLAKE3 {
		return nil, fmt.Errorf("%s: %w", f.Name(), content.ErrWrong)
	}
	return l, nil
}

// Close ends the use of the disk.
func (d *Disk) Close() {
	if d.old != nil {
		d.old.File.Close()
	}
	if d.Disk != nil {
		d.Disk.Close()
	}
}

// Plan returns what it takes to make a version in the group at path.
func (d *Disk) Plan(group, path string) Plan {
	p := Plan{Spec: d.Spec, Group: group, Size: d.Size, Way: "none"}
	zero := d.Zero.Bytes()
	p.Read = d.Size - zero
	p.Space = p.Read
	if d.parent == nil {
		p.Full = cmp.Or(d.lost, "it is the first version")
		return p
	}
	p.Parent, p.Full = d.parent.Version, d.Why
	if d.Dirty != nil {
		p.Bitmap, p.Read = Bitmap(p.Parent), d.dirtyBytes()
	}
	p.Way, p.Space = sharing.Reflink.String(), 2*min(p.Read, d.Size) // changed pieces, and the delta
	if !sharing.Reflinks(d.old.File.Name(), path) {
		p.Way = sharing.Copy.String()
		p.Space += allocated(d.old.File)
	}
	return p
}

// dirtyBytes returns how many bytes are read by the bitmap.
func (d *Disk) dirtyBytes() (n int64) {
	clean := 0
	for off := int64(0); off < d.Size; off += pieces.Size {
		end := min(off+pieces.Size, d.Size)
		switch {
		case d.Zero.All(off, end):
		case d.Dirty.Any(off, end):
			n += end - off
		case clean < sampled:
			clean++
			n += end - off
		}
	}
	return n
}

// allocated returns how many bytes of the disk a file takes.
func allocated(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}

// Options say how a version is made.
type Options struct {
	Version  string
	Stays    bool // the parent stays whole: no delta is made
	Read     func(ctx context.Context, n int) error
	Progress func(int64)
}

// Made is a version that was made.
type Made struct {
	increment.Result
	Waiting Waiting // without its group, and the name and times of the version
}

// Make makes a version. Its files end in Part. Where the version before turns out to be damaged,
// all of the disk is read, and that stays as it is.
func (d *Disk) Make(ctx context.Context, dir atomicfile.Dir, o Options) (m Made, err error) {
	m, err = d.make(ctx, dir, o)
	if errors.Is(err, increment.ErrWrong) {
		d.lose(d.newest)
		m, err = d.make(ctx, dir, o)
		m.Full = d.lost
	}
	if err == nil {
		err = d.Unchanged()
	}
	if err == nil {
		sums := o.Version + piecesSuffix + Part
		_, err = dir.Replace(sums+Part, sums, m.List.Encode()) // which flushes the names of the others too
	}
	if err != nil {
		return m, errors.Join(err, Clean(dir))
	}
	return m, nil
}

// make makes the file of a version, and the delta.
func (d *Disk) make(ctx context.Context, dir atomicfile.Dir, o Options) (m Made, err error) {
	job := increment.Job{
		Dir: dir, File: o.Version + ".img" + Part, Disk: d, Size: d.Size, Zero: d.Zero, Dirty: d.Dirty, Sample: sampled,
		Parent: d.old, Read: o.Read, Progress: o.Progress,
	}
	if d.parent != nil && !o.Stays {
		job.Delta = d.parent.Version + ".rdiff" + Part
	}
	if m.Result, err = increment.Make(ctx, job); err != nil {
		return m, err
	}
	m.Waiting = Waiting{Parent: d.newest, Lost: d.lost != "", Delta: m.Delta}
	if m.Delta.Size > 0 {
		m.Waiting.Delta.Parent = o.Version
	}
	digest := m.Digest()
	m.Waiting.Version = catalog.Version{Version: o.Version, Size: d.Size, BLAKE3: digest, Stored: catalog.Stored{Form: catalog.Whole, Size: d.Size, BLAKE3: digest}}
	return m, nil
}

// lose ends the use of the version before.
func (d *Disk) lose(version string) {
	d.lost = fmt.Sprintf("the version before, %s, is missing or damaged in the archive", version)
	if d.old != nil {
		d.old.File.Close()
	}
	d.parent, d.old = nil, nil
}

// Clean removes what was made and is not named by a catalog.
func Clean(dir atomicfile.Dir) error {
	return remove(dir, func(name string) bool { return strings.HasSuffix(name, Part) })
}

// Forget removes the sums of versions other than the newest.
func Forget(dir atomicfile.Dir, newest string) error {
	return remove(dir, func(name string) bool {
		version, ok := strings.CutSuffix(name, piecesSuffix)
		return ok && version != newest
	})
}

func remove(dir atomicfile.Dir, which func(name string) bool) error {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if which(e.Name()) {
			if err := dir.Remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}
