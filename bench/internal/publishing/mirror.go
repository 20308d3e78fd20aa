package publishing

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"puavo-image-repository/bench/internal/files"
)

// private is the folder of a mirror that is not published.
const private = ".repo"

// mirror is a directory that is sent.
type mirror struct {
	dir   string
	files []string // their paths from dir
	size  int64    // of all
}

func newMirror(dir string) (mirror, error) {
	m := mirror{dir: dir}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == filepath.Join(dir, private) {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		m.files, m.size = append(m.files, name), m.size+info.Size()
		return err
	})
	if err == nil && m.size == 0 {
		err = fmt.Errorf("%s: nothing in it can be sent", dir)
	}
	return m, err
}

// paths returns the paths of all files.
func (m mirror) paths() (all []string) {
	for _, name := range m.files {
		all = append(all, filepath.Join(m.dir, name))
	}
	return all
}

// arrived returns an error unless a directory has all files of the mirror, and not its
// private folder.
func (m mirror) arrived(ctx context.Context, dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, private)); err == nil {
		return fmt.Errorf("what arrived is not the mirror alone: it has %s", private)
	}
	for _, name := range m.files {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := files.Same(filepath.Join(dir, name), filepath.Join(m.dir, name)); err != nil {
			return fmt.Errorf("what arrived is not the mirror: %w", err)
		}
	}
	return nil
}

// flush flushes all files of a directory to the disk.
func flush(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}
