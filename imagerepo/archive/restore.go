package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/through"
)

// ErrWrong is wrapped by the error for a version, or a file, that is not what the catalog says.
var ErrWrong = content.ErrWrong

// Restored is what a restore writes.
type Restored struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	File    string `json:"file"` // the image's, when it was added
	Out     string `json:"out"`
	Device  bool   `json:"device"`
	Size    int64  `json:"size"` // bytes
	content.Plan
	Resumed int64 `json:"resumed"` // bytes that an earlier run has left, or that the device has already
	Space   int64 `json:"space"`   // bytes of the disk that are needed, temporary files too
	Free    int64 `json:"free"`    // bytes; of a device its size
}

// partialSuffix is what the name of a partial file ends in, and lockSuffix that of its lock.
const (
	partialSuffix = ".restoring"
	lockSuffix    = partialSuffix + ".lock"
)

// retries is how often a group is opened again that another process changes meanwhile.
const retries = 5

// opened is a version that can be read, whatever becomes of the archive.
type opened struct {
	g     *group
	v     catalog.Version
	files content.Files
	plan  content.Plan
}

func (o *opened) close() {
	o.files.Close()
	o.g.close()
}

// openVersion opens the files of a version, all of one state of the group.
func (s *Store) openVersion(ctx context.Context, group, version string) (*opened, error) {
	for try := 0; ; try++ {
		o, err := s.tryVersion(ctx, group, version)
		if err == nil {
			now, _, loadErr := catalog.Load(o.g.dir, group)
			if loadErr == nil && now.Generation == o.g.c.Generation {
				return o, nil
			}
			o.close()
			err = fmt.Errorf("the group %s keeps changing; run the command again", group)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if try == retries {
			return nil, err
		}
	}
}

func (s *Store) tryVersion(ctx context.Context, group, version string) (*opened, error) {
	g, err := s.open(group)
	if err != nil {
		return nil, err
	}
	steps, err := g.path(version)
	if err != nil {
		g.close()
		return nil, err
	}
	files, err := content.OpenFiles(ctx, g.dir, steps)
	if err != nil {
		g.close()
		return nil, err
	}
	return &opened{g, steps[len(steps)-1].Version, files, content.PlanOf(steps, s.reading())}, nil
}

// PlanRestore returns what Restore would do. It changes nothing.
func (s *Store) PlanRestore(ctx context.Context, group, version, out string, overwrite bool) (Restored, error) {
	r, o, t, err := s.planRestore(ctx, group, version, out, overwrite)
	if err == nil {
		t.close()
		o.close()
	}
	return r, err
}

// target is what a version is restored to.
type target struct {
	dir    atomicfile.Dir // of a file; zero for a device
	name   string
	device *os.File
}

func (t *target) close() {
	if t.device != nil {
		t.device.Close()
	} else {
		t.dir.Close()
	}
}

func (s *Store) planRestore(ctx context.Context, group, version, out string, overwrite bool) (r Restored, o *opened, t *target, err error) {
	if o, err = s.openVersion(ctx, group, version); err != nil {
		return r, nil, nil, err
	}
	r = Restored{Group: group, Version: version, File: o.v.Name, Out: out, Size: o.v.Size, Plan: o.plan}
	if t, err = openTarget(out, overwrite); err == nil {
		if err = s.measure(&r, t); err == nil {
			return r, o, t, nil
		}
		t.close()
	}
	o.close()
	return r, nil, nil, err
}

// openTarget opens what is written to.
func openTarget(out string, overwrite bool) (*target, error) {
	file, isOpen, err := through.Follow(out)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(out)
	switch {
	case isOpen || err == nil && !info.Mode().IsRegular() && !isBlockDevice(info):
		return nil, &fs.PathError{Op: "restore to", Path: out, Err: errors.New("neither a regular file nor a block device")}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err == nil && !overwrite:
		return nil, errExists(out)
	case err == nil && isBlockDevice(info):
		f, err := openDevice(out)
		return &target{device: f}, err
	}
	dir, err := atomicfile.Open(filepath.Dir(file))
	return &target{dir: dir, name: filepath.Base(file)}, err
}

// errExists returns the error for a path at which something is that may not be overwritten.
func errExists(out string) error {
	return &fs.PathError{Op: "restore to", Path: out, Err: fmt.Errorf("%w; use --overwrite to replace it", fs.ErrExist)}
}

// lock takes the lock of a file that is restored, which is removed when it is given back. A
// device was opened exclusively, and needs none.
func (t *target) lock(out string, overwrite bool) (unlock func(), err error) {
	if t.device != nil {
		return func() {}, nil
	}
	l, err := lockfile.Acquire(t.dir.Name(), t.name+lockSuffix)
	if err != nil {
		return nil, err
	}
	unlock = func() {
		t.dir.Remove(t.name + lockSuffix) // whoever has it open sees that it is another's, and tries again
		l.Release()
	}
	if _, err := t.dir.Lstat(t.name); err == nil && !overwrite { // one that was restored meanwhile
		unlock()
		return nil, errExists(out)
	}
	return unlock, nil
}

// measure compares what is needed with what there is.
func (s *Store) measure(r *Restored, t *target) (err error) {
	if t.device != nil {
		r.Device = true
		r.Space = r.Temporary
		if r.Free, err = t.device.Seek(0, io.SeekEnd); err == nil && r.Free < r.Size {
			err = fmt.Errorf("%w: the device %s has %d bytes, the version %d", ErrSpace, r.Out, r.Free, r.Size)
		}
		return err
	}
	t.dir.NoSync = s.o.NoSync
	has := min(diskspace.Used(t.dir, t.name+partialSuffix), r.Size)
	r.Space = r.Size - has + r.Temporary
	r.Free, err = s.checkSpace(t.dir, r.Space)
	return err
}

// Restore writes a version, of the trash too, to the path out: a file, which appears when it
// is complete, or a block device that nobody uses. What exists must be meant to be overwritten.
// Where an earlier call has left a part, that is compared, and the work goes on from there. The
// archive is not locked. The error wraps ErrWrong where the digest is wrong; then a file does not
// appear. It wraps ErrLocked where another process restores to the same file.
func (s *Store) Restore(ctx context.Context, group, version, out string, overwrite bool) (Restored, error) {
	r, o, t, err := s.planRestore(ctx, group, version, out, overwrite)
	if err != nil {
		return r, err
	}
	defer o.close()
	defer t.close()
	unlock, err := t.lock(out, overwrite)
	if err != nil {
		return r, err
	}
	defer unlock()
	scratch := t.dir
	if t.device != nil {
		scratch = o.g.dir
	}
	m := s.meter(r.Size)
	defer m.Begin("archive_restore", group+"/"+version)()
	c, err := content.Open(ctx, scratch, o.files, s.reading())
	if err != nil {
		return r, err
	}
	defer c.Close()
	w := &writer{ctx: ctx, from: c, v: o.v, meter: m}
	if t.device != nil {
		err = w.device(t.device)
	} else {
		err = w.file(t)
	}
	r.Resumed = w.resumed
	if err != nil {
		err = fmt.Errorf("restoring version %s of %s to %s: %w", version, group, out, err)
	}
	return r, err
}

// writer writes a version.
type writer struct {
	ctx     context.Context
	from    *content.Content
	v       catalog.Version
	meter   *meter.Meter
	resumed int64
}

// pieceSize is how much is written at a time, in bytes.
const pieceSize = 1 << 20

// pieces calls each with the pieces of the version, in their order, and compares the digest of
// all of them.
func (w *writer) pieces(each func(off int64, piece []byte) error) error {
	h := cksum.NewFor(cksum.Sums{BLAKE3: w.v.BLAKE3})
	buf := make([]byte, pieceSize)
	for off := int64(0); off < w.v.Size; {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		piece := buf[:min(pieceSize, w.v.Size-off)]
		if _, err := w.from.ReadAt(piece, off); err != nil && err != io.EOF {
			return err
		}
		h.Write(piece)
		if err := each(off, piece); err != nil {
			return err
		}
		off += int64(len(piece))
		w.meter.Add(int64(len(piece)))
	}
	if got := h.Sums().BLAKE3; got != w.v.BLAKE3 {
		return fmt.Errorf("%w: its BLAKE3 is %s, not %s", ErrWrong, got, w.v.BLAKE3)
	}
	return nil
}

// file writes the version to a file. What is right of a partial one stays.
func (w *writer) file(t *target) error {
	f, left, err := resume(t, w.v.Size)
	if err != nil {
		return err
	}
	has := make([]byte, pieceSize)
	err = w.pieces(func(off int64, piece []byte) error {
		if off+int64(len(piece)) <= left {
			if _, err := io.ReadFull(f, has[:len(piece)]); err == nil && bytes.Equal(has[:len(piece)], piece) {
				w.resumed += int64(len(piece))
				return nil
			}
		}
		if left >= 0 {
			left = -1 // nothing more is compared
			if err := f.Truncate(off); err != nil {
				return err
			}
		}
		_, err := f.Write(piece)
		return err
	})
	switch {
	case errors.Is(err, ErrWrong):
		f.Discard()
		return err
	case err != nil:
		return errors.Join(err, f.Keep())
	}
	return f.Commit()
}

// resume opens the partial file, and returns how many bytes it has.
func resume(t *target, size int64) (*atomicfile.File, int64, error) {
	partial := t.name + partialSuffix
	info, err := t.dir.Lstat(partial)
	if err != nil || !info.Mode().IsRegular() {
		f, err := t.dir.Begin(partial, t.name)
		return f, -1, err
	}
	left := min(info.Size(), size)
	f, err := t.dir.Resume(partial, t.name, left)
	return f, left, err
}

// device writes the version to a device, but for what that has already.
func (w *writer) device(f *os.File) error {
	has := make([]byte, pieceSize)
	err := w.pieces(func(off int64, piece []byte) error {
		if n, _ := f.ReadAt(has[:len(piece)], off); n == len(piece) && bytes.Equal(has[:n], piece) {
			w.resumed += int64(n)
			return nil
		}
		_, err := f.WriteAt(piece, off)
		return err
	})
	if err != nil {
		return err
	}
	return f.Sync()
}

// isBlockDevice reports whether a file is a block device.
func isBlockDevice(info fs.FileInfo) bool {
	return info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0
}

// openDevice opens a block device to write to it. One that is mounted, or in use otherwise, is
// an error.
func openDevice(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		err = fmt.Errorf("%w: it is mounted or otherwise in use; unmount it", err)
	}
	return f, err
}
