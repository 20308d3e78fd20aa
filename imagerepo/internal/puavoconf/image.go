package puavoconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"puavo-image-repository/imagerepo/internal/puavoconf/squashfs"
	"puavo-image-repository/meta/untrusted"
)

const (
	maxFile     = 4 << 20  // bytes of a file of definitions
	maxTotal    = 32 << 20 // bytes of all of them
	maxNames    = 4096     // names in their directory
	maxSettings = 1 << 16  // settings in all of them
)

// none returns an error that wraps [ErrNone] and says why.
func none(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrNone, fmt.Errorf(format, args...))
}

// unusable returns an error of the squashfs. It wraps [ErrNone] unless it is one
// of reading the image, or of an image that is not all there.
func unusable(err error) error {
	if errors.Is(err, squashfs.ErrRead) || errors.Is(err, squashfs.ErrCut) {
		return err
	}
	return none("%w", err)
}

// path returns the path of a file of definitions, safe to be printed.
func path(name string) string {
	return untrusted.Show("/" + dir + "/" + name)
}

// readFiles returns the files of definitions, sorted by name.
func readFiles(ctx context.Context, image io.ReaderAt, size int64) ([]file, error) {
	r, err := squashfs.Open(ctx, image, size)
	if err != nil {
		return nil, unusable(err)
	}
	entries, err := list(r)
	if err != nil {
		return nil, err
	}
	return readEntries(entries)
}

// list returns the *.json entries of the directory, sorted by name.
func list(r *squashfs.Reader) ([]squashfs.Entry, error) {
	d, err := r.Find(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none("the image has no /%s", dir)
	}
	if err != nil {
		return nil, unusable(fmt.Errorf("/%s in the image cannot be opened: %w", dir, err))
	}
	if !d.IsDir() {
		return nil, none("/%s in the image is no directory", dir)
	}
	entries, err := d.Entries(maxNames)
	if errors.Is(err, squashfs.ErrTooLarge) {
		return nil, fmt.Errorf("/%s in the image has more than %d files", dir, maxNames)
	}
	if err != nil {
		return nil, unusable(fmt.Errorf("/%s in the image cannot be read: %w", dir, err))
	}
	entries = slices.DeleteFunc(entries, func(e squashfs.Entry) bool {
		return !strings.HasSuffix(e.Name, ".json") || strings.HasPrefix(e.Name, ".")
	})
	slices.SortFunc(entries, func(a, b squashfs.Entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// readEntries returns those of entries that are regular files, of which there
// must be one.
func readEntries(entries []squashfs.Entry) ([]file, error) {
	var files []file
	left := maxTotal
	for _, e := range entries {
		f, err := e.Open()
		if err != nil {
			return nil, unusable(fmt.Errorf("%s in the image cannot be opened: %w", path(e.Name), err))
		}
		if !f.IsRegular() {
			continue
		}
		data, err := f.ReadAll(min(maxFile, left))
		if errors.Is(err, squashfs.ErrTooLarge) {
			return nil, fmt.Errorf("%s in the image is too large: the limits are %d bytes for a file and %d for all",
				path(e.Name), maxFile, maxTotal)
		}
		if err != nil {
			return nil, unusable(fmt.Errorf("%s in the image cannot be read: %w", path(e.Name), err))
		}
		left -= len(data)
		files = append(files, file{e.Name, data})
	}
	if len(files) == 0 {
		return nil, none("the image has no *.json file in /%s", dir)
	}
	return files, nil
}
