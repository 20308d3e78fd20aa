package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

// Files are the open files that make a version.
type Files struct {
	steps []catalog.Step
	open  []*os.File
}

// OpenFiles opens the files of a path in the catalog. Whoever calls it calls Close.
func OpenFiles(ctx context.Context, dir atomicfile.Dir, steps []catalog.Step) (f Files, err error) {
	f.steps = steps
	for _, s := range steps {
		name, err := Locate(ctx, dir, s)
		if err != nil {
			f.Close()
			return f, err
		}
		file, err := dir.Open(name)
		if err != nil {
			f.Close()
			return f, err
		}
		f.open = append(f.open, file)
	}
	return f, nil
}

// OpenExactly opens files whatever they hold. Whoever calls it calls Close.
func OpenExactly(dir atomicfile.Dir, steps []catalog.Step) (f Files, err error) {
	f.steps = steps
	for _, s := range steps {
		file, err := dir.Open(s.File)
		if err != nil {
			f.Close()
			return f, err
		}
		f.open = append(f.open, file)
	}
	return f, nil
}

// Close closes the files.
func (f *Files) Close() {
	for _, file := range f.open {
		file.Close()
	}
	f.open = nil
}

// Locate returns the name of a step's file: that which it will have, or that with ".new"
// which it has until the change that made it is complete. Where both are there, size and
// digest say which is meant.
func Locate(ctx context.Context, dir atomicfile.Dir, s catalog.Step) (string, error) {
	old, oldErr := dir.Lstat(s.File)
	if oldErr != nil && !errors.Is(oldErr, fs.ErrNotExist) {
		return "", oldErr
	}
	fresh, err := dir.Lstat(s.File + catalog.New)
	switch {
	case errors.Is(err, fs.ErrNotExist) && oldErr != nil && s.Before != "":
		_, err := dir.Lstat(s.Before)
		return s.Before, err
	case errors.Is(err, fs.ErrNotExist):
		return s.File, oldErr
	case err != nil:
		return "", err
	case oldErr != nil || old.Size() != s.Stored.Size && fresh.Size() == s.Stored.Size:
		return s.File + catalog.New, nil
	case fresh.Size() != s.Stored.Size:
		return s.File, nil
	}
	if err := Check(ctx, dir, s.File, s.Stored, nil); errors.Is(err, ErrWrong) {
		return s.File + catalog.New, nil
	} else if err != nil {
		return "", err
	}
	return s.File, nil
}

// ErrWrong is wrapped by the error for a file that is not what the catalog says.
var ErrWrong = errors.New("it is not what the catalog says; restore it from another copy of the store")

// Check compares a file with the catalog. progress, which may be nil, is called with the bytes
// read since its last call.
func Check(ctx context.Context, dir atomicfile.Dir, name string, want catalog.Stored, progress func(int64)) error {
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() != want.Size {
		return fmt.Errorf("%s: %w: it has %d bytes, not %d", f.Name(), ErrWrong, info.Size(), want.Size)
	}
	got, err := Digest(ctx, f, cksum.Sums{BLAKE3: want.BLAKE3}, progress)
	if err == nil && got.BLAKE3 != want.BLAKE3 {
		err = fmt.Errorf("%s: %w: its BLAKE3 is %s, not %s", f.Name(), ErrWrong, got.BLAKE3, want.BLAKE3)
	}
	return err
}

// Digest returns those digests of a stream that like has.
func Digest(ctx context.Context, r io.Reader, like cksum.Sums, progress func(int64)) (cksum.Sums, error) {
	h := cksum.NewFor(like)
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return cksum.Sums{}, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if progress != nil {
			progress(int64(n))
		}
		if err == io.EOF {
			return h.Sums(), nil
		} else if err != nil {
			return cksum.Sums{}, err
		}
	}
}
