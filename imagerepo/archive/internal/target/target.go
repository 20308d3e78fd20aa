// Package target is what a version is restored to: a file, or a block device.
//
//	<name>.restoring        what is there of a file, until that is complete and has its name
//	<name>.restoring.lock   keeps a second restore from it; removed in the end
//
// A part that an earlier run has left is compared with the version from its start, and the work
// goes on where it ends or differs. What a device has already is not written again. A device is
// opened exclusively: one that is mounted is refused.
package target

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
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/through"
)

// partial ends the name of a partial file, and lock that of its lock.
const (
	partial = ".restoring"
	lock    = partial + ".lock"
)

// Target is an open target. It is not for concurrent use.
type Target struct {
	// Dir is the directory of a file; zero for a device.
	Dir       atomicfile.Dir
	name      string // of the file in it
	device    *os.File
	path      string
	overwrite bool
}

// Open opens what is at a path, or will be. What exists must be meant to be overwritten, or the
// error wraps fs.ErrExist. With noSync a file is not flushed. Whoever calls it calls Close.
func Open(path string, overwrite, noSync bool) (*Target, error) {
	file, isOpen, err := through.Follow(path)
	if err != nil {
		return nil, err
	}
	t := &Target{name: filepath.Base(file), path: path, overwrite: overwrite}
	info, err := os.Stat(path)
	switch {
	case isOpen || err == nil && !info.Mode().IsRegular() && !isBlockDevice(info):
		return nil, &fs.PathError{Op: "restore to", Path: path, Err: errors.New("neither a regular file nor a block device")}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err == nil && !overwrite:
		return nil, t.exists()
	case err == nil && isBlockDevice(info):
		t.device, err = openDevice(path)
	default:
		t.Dir, err = atomicfile.Open(filepath.Dir(file))
		t.Dir.NoSync = noSync
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// exists returns the error for a path at which something is that may not be overwritten.
func (t *Target) exists() error {
	return &fs.PathError{Op: "restore to", Path: t.path, Err: fmt.Errorf("%w; use --overwrite to replace it", fs.ErrExist)}
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

// Close ends the use of the target.
func (t *Target) Close() {
	if t.device != nil {
		t.device.Close()
	} else {
		t.Dir.Close()
	}
}

// IsDevice reports whether it is a device.
func (t *Target) IsDevice() bool { return t.device != nil }

// DeviceSize returns the size of a device, in bytes.
func (t *Target) DeviceSize() (int64, error) { return t.device.Seek(0, io.SeekEnd) }

// Used returns how many bytes of the disk the partial file takes.
func (t *Target) Used() int64 { return diskspace.Used(t.Dir, t.name+partial) }

// Lock takes the lock of a file, which is removed when it is given back. A device was opened
// exclusively, and needs none. The error wraps lockfile.ErrHeld where another has it.
func (t *Target) Lock() (unlock func(), err error) {
	if t.device != nil {
		return func() {}, nil
	}
	l, err := lockfile.Acquire(t.Dir.Name(), t.name+lock)
	if err != nil {
		return nil, err
	}
	unlock = func() {
		t.Dir.Remove(t.name + lock) // whoever has it open sees that it is another's, and tries again
		l.Release()
	}
	if _, err := t.Dir.Lstat(t.name); err == nil && !t.overwrite { // one that was restored meanwhile
		unlock()
		return nil, t.exists()
	}
	return unlock, nil
}

// Source is what is written.
type Source struct {
	io.ReaderAt
	Size   int64 // bytes
	BLAKE3 cksum.Digest256
	// Progress is called with the bytes done since its last call.
	Progress func(int64)
}

// Write writes all of a source, and returns how many bytes were there already. The error wraps
// content.ErrWrong where the digest is wrong; then a file does not appear.
func (t *Target) Write(ctx context.Context, s Source) (resumed int64, err error) {
	if t.device != nil {
		return t.writeDevice(ctx, s)
	}
	return t.writeFile(ctx, s)
}

// pieceSize is how much is written at a time, in bytes.
const pieceSize = 1 << 20

// pieces calls each with the pieces of the source, in their order, and compares the digest of
// all of them.
func (s *Source) pieces(ctx context.Context, each func(off int64, piece []byte) error) error {
	h := cksum.NewFor(cksum.Sums{BLAKE3: s.BLAKE3})
	buf := make([]byte, pieceSize)
	for off := int64(0); off < s.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := buf[:min(pieceSize, s.Size-off)]
		if _, err := s.ReadAt(piece, off); err != nil && err != io.EOF {
			return err
		}
		h.Write(piece)
		if err := each(off, piece); err != nil {
			return err
		}
		off += int64(len(piece))
		s.Progress(int64(len(piece)))
	}
	if got := h.Sums().BLAKE3; got != s.BLAKE3 {
		return fmt.Errorf("%w: its BLAKE3 is %s, not %s", content.ErrWrong, got, s.BLAKE3)
	}
	return nil
}

// writeFile writes to a file. What is right of a partial one stays.
func (t *Target) writeFile(ctx context.Context, s Source) (resumed int64, err error) {
	f, left, err := t.resume(s.Size)
	if err != nil {
		return 0, err
	}
	has := make([]byte, pieceSize)
	err = s.pieces(ctx, func(off int64, piece []byte) error {
		if off+int64(len(piece)) <= left {
			if _, err := io.ReadFull(f, has[:len(piece)]); err == nil && bytes.Equal(has[:len(piece)], piece) {
				resumed += int64(len(piece))
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
	case errors.Is(err, content.ErrWrong):
		f.Discard()
		return resumed, err
	case err != nil:
		return resumed, errors.Join(err, f.Keep())
	}
	return resumed, f.Commit()
}

// resume opens the partial file, and returns how many bytes it has.
func (t *Target) resume(size int64) (*atomicfile.File, int64, error) {
	name := t.name + partial
	info, err := t.Dir.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		f, err := t.Dir.Begin(name, t.name)
		return f, -1, err
	}
	left := min(info.Size(), size)
	f, err := t.Dir.Resume(name, t.name, left)
	return f, left, err
}

// writeDevice writes to a device, but for what that has already.
func (t *Target) writeDevice(ctx context.Context, s Source) (resumed int64, err error) {
	has := make([]byte, pieceSize)
	err = s.pieces(ctx, func(off int64, piece []byte) error {
		if n, _ := t.device.ReadAt(has[:len(piece)], off); n == len(piece) && bytes.Equal(has[:n], piece) {
			resumed += int64(n)
			return nil
		}
		_, err := t.device.WriteAt(piece, off)
		return err
	})
	if err != nil {
		return resumed, err
	}
	return resumed, t.device.Sync()
}
