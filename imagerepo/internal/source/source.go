// Package source is the directory of images that a mirror is built from: which images
// it has, and whether each is still what it was when the run began.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Errors of images.
var (
	// ErrChanged is wrapped by the error for an image that is not what it was when
	// the run began.
	ErrChanged = errors.New("changed while it was read; run again when it is complete")
	// ErrUnseen is wrapped by the error for an image that cannot be looked at.
	ErrUnseen = errors.New("cannot read it")
)

// Found is what an image directory holds.
type Found struct {
	Images map[meta.Name]state.Stamp
	// Unusable are the files that have the name of an image and cannot be published,
	// with the reasons.
	Unusable map[meta.Name]error
	// Skipped are errors for files that end in .img and do not have the name of an
	// image, or are not regular files. The client's usual default link is none, nor is
	// another name of an image that is there.
	Skipped []error
}

// Names returns the names of all images, usable or not, sorted.
func (f Found) Names() []meta.Name {
	return slices.SortedFunc(func(yield func(meta.Name) bool) {
		for n := range f.Images {
			if !yield(n) {
				return
			}
		}
		maps.Keys(f.Unusable)(yield)
	}, meta.Name.Compare)
}

// Dir is an image directory. Its methods can be called concurrently.
type Dir struct {
	Path string // absolute
	Found

	mu sync.Mutex // guards the stamps in Found.Images
}

// Open finds the images in a directory. One that is a symbolic link out of it to a
// file that others may not read is unusable unless followLinks is set. Where the error
// is not nil, the Dir has what was found and skipped all the same.
func Open(dir string, followLinks bool) (*Dir, error) {
	found, err := Scan(os.DirFS(dir))
	d := &Dir{Path: dir, Found: found}
	if err != nil {
		return d, fmt.Errorf("image directory %s: %w", dir, err)
	}
	for n := range maps.Clone(found.Images) {
		if err := private(dir, n); err != nil && !followLinks {
			delete(d.Images, n)
			d.Unusable[n] = err
		}
	}
	d.Path, err = filepath.Abs(dir)
	return d, err
}

// Scan finds the images in the top folder of a directory. It ignores other files and
// folders. An empty image is most likely still being copied, so it is unusable. A
// directory without images is an error.
func Scan(dir fs.FS) (Found, error) {
	f := Found{Images: make(map[meta.Name]state.Stamp), Unusable: make(map[meta.Name]error)}
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return f, err
	}
	odd := make(map[string]error) // files that have no name of an image
	for _, e := range entries {
		if path.Ext(e.Name()) != ".img" {
			continue
		}
		if name, err := meta.ParseName(e.Name()); err != nil {
			odd[e.Name()] = err
		} else {
			f.add(dir, name)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(odd)) {
		if !f.isLink(dir, file) {
			f.Skipped = append(f.Skipped, odd[file])
		}
	}
	if len(f.Images)+len(f.Unusable) == 0 {
		return f, fmt.Errorf("%w: no images (files named <prefix>-<YYYY-MM-DD-hhmmss>-<arch>.img)", plan.ErrInput)
	}
	return f, nil
}

// defaultLinks are the names that Puavo's clients give to the image in use and to the one
// before it.
var defaultLinks = []string{"ltsp.img", "ltsp-backup.img"}

// isLink reports whether a file is a default link by its name, or another name of an image
// that was found.
func (f *Found) isLink(dir fs.FS, file string) bool {
	if slices.Contains(defaultLinks, file) {
		return true
	}
	info, err := fs.Stat(dir, file)
	if err != nil {
		return false
	}
	is := state.StampOf(info)
	for _, stamp := range f.Images {
		if is.Inode != 0 && is == stamp {
			return true
		}
	}
	return false
}

func (f *Found) add(dir fs.FS, name meta.Name) {
	file := name.String()
	info, err := fs.Stat(dir, file) // follows a symbolic link
	switch {
	case err != nil:
		f.Unusable[name] = fmt.Errorf("%w: %w", ErrUnseen, err)
	case !info.Mode().IsRegular():
		f.Skipped = append(f.Skipped, fmt.Errorf("%s is not a regular file", file))
	case info.Size() == 0:
		f.Unusable[name] = fmt.Errorf("%w: %s is empty; finish copying it, or remove it", plan.ErrInput, file)
	default:
		f.Images[name] = state.StampOf(info)
	}
}

// private returns an error for an image that is a symbolic link out of its directory
// to a file that others may not read: whoever made the link may not know that it
// publishes the file.
func private(imageDir string, n meta.Name) error {
	link := filepath.Join(imageDir, n.String())
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return err
	}
	target, err := filepath.EvalSymlinks(link)
	if err != nil {
		return err
	}
	home, err := filepath.EvalSymlinks(imageDir)
	if err != nil {
		return err
	}
	if home, err = filepath.Abs(home); err != nil {
		return err
	}
	if target, err = filepath.Abs(target); err != nil || filepath.Dir(target) == home {
		return err
	}
	info, err := os.Stat(target)
	if err == nil && info.Mode()&0o004 == 0 {
		err = fmt.Errorf("%s is a symbolic link out of the image directory, to %s, which other users cannot read (mode %04o); chmod that to 0644, or publish it with --follow-links",
			link, target, info.Mode().Perm())
	}
	return err
}

// File returns the path of an image.
func (d *Dir) File(n meta.Name) string { return filepath.Join(d.Path, n.String()) }

// Open opens an image for reading. What has its name and is no regular file is an
// ErrChanged, and not waited at.
func (d *Dir) Open(n meta.Name) (*os.File, error) {
	f, err := atomicfile.OpenRegular(d.File(n))
	if errors.Is(err, atomicfile.ErrNotRegular) {
		err = fmt.Errorf("%s %w", d.File(n), ErrChanged)
	}
	return f, err
}

// Stamp returns the stamp of an image as it was found, or as Renaming took it again.
func (d *Dir) Stamp(n meta.Name) state.Stamp {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Images[n]
}

// Unchanged returns an error for an image that is no longer what was found.
func (d *Dir) Unchanged(n meta.Name) error { return d.is(n, d.Stamp(n)) }

func (d *Dir) is(n meta.Name, stamp state.Stamp) error {
	info, err := os.Stat(d.File(n))
	if err == nil && state.StampOf(info) == stamp {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%s %w", d.File(n), ErrChanged)
}

// Renaming calls change, which gives names to the files with these inodes or takes
// names from them, and so changes their change times. It takes the stamp again of each
// image that is one of these files and was unchanged just before, and calls renamed
// with the old stamp and the new. One call works at a time.
func (d *Dir) Renaming(change func() error, renamed func(n meta.Name, was, now state.Stamp) error, inodes ...uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var same []meta.Name
	for n, stamp := range d.Images {
		if slices.Contains(inodes, stamp.Inode) && d.is(n, stamp) == nil {
			same = append(same, n)
		}
	}
	err := change()
	for _, n := range same {
		info, statErr := os.Stat(d.File(n))
		if statErr != nil {
			continue // whoever reads it will see
		}
		was := d.Images[n]
		if now, ok := was.Renamed(state.StampOf(info)); ok && now != was {
			d.Images[n] = now
			err = errors.Join(err, renamed(n, was, now))
		}
	}
	return err
}
