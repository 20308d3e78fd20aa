package puavoconf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/KarpelesLab/squashfs"
)

const (
	maxFile  = 4 << 20  // bytes of a file of definitions
	maxTotal = 32 << 20 // bytes of all of them
	maxNames = 4096     // names in their directory
	maxReads = 1 << 16  // reads of the image
	minBlock = 4 << 10  // bytes of a block, as the format has it
	maxBlock = 1 << 20  // the same, and of anything that is decompressed
)

// none returns an error that wraps [ErrNone] and says why.
func none(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrNone, fmt.Errorf(format, args...))
}

// path returns the path of a file of definitions, safe to be printed.
func path(name string) string {
	return strings.Trim(strconv.Quote("/"+dir+"/"+name), `"`)
}

// readFiles returns the files of definitions, sorted by name. The library
// panics on some damaged images.
func readFiles(r *reader) (files []file, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = none("the squashfs is damaged: %v", p)
		}
	}()
	sb, err := open(r)
	if err != nil {
		return nil, err
	}
	entries, err := list(sb)
	if err != nil {
		return nil, err
	}
	return readEntries(sb, entries)
}

// open opens the file system, having checked what the library does not check
// about its superblock.
func open(r *reader) (*squashfs.Superblock, error) {
	if r.size < squashfs.SuperblockSize {
		return nil, none("the image is not a squashfs: it has %d bytes", r.size)
	}
	head := make([]byte, squashfs.SuperblockSize)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, err
	}
	var super squashfs.Superblock
	err := super.UnmarshalBinary(head)
	switch {
	case errors.Is(err, squashfs.ErrInvalidFile):
		return nil, none("the image is not a squashfs: it starts with %q", head[:4])
	case err != nil:
		return nil, none("the squashfs is damaged: %w", err)
	case super.BlockSize < minBlock || super.BlockSize > maxBlock:
		return nil, none("the squashfs is damaged: blocks of %d bytes", super.BlockSize)
	case super.BytesUsed > uint64(r.size):
		return nil, none("the squashfs is cut off: it has %d of %d bytes", r.size, super.BytesUsed)
	}
	sb, err := squashfs.New(r)
	if err != nil {
		return nil, none("the squashfs cannot be read: %w", err)
	}
	return sb, nil
}

// list returns the *.json entries of the directory, sorted by name.
func list(sb *squashfs.Superblock) ([]fs.DirEntry, error) {
	f, err := sb.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none("the image has no /%s", dir)
	}
	if err != nil {
		return nil, none("/%s in the image cannot be opened: %w", dir, err)
	}
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, none("/%s in the image is no directory", dir)
	}
	entries, err := d.ReadDir(maxNames + 1)
	if err != nil {
		return nil, none("/%s in the image cannot be read: %w", dir, err)
	}
	if len(entries) > maxNames {
		return nil, fmt.Errorf("/%s in the image has more than %d files", dir, maxNames)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".")
	})
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// readEntries returns those of entries that are regular files, of which there
// must be one.
func readEntries(sb *squashfs.Superblock, entries []fs.DirEntry) ([]file, error) {
	var files []file
	var total int64
	for _, e := range entries {
		info, err := stat(sb, e)
		if err != nil {
			return nil, none("%s in the image cannot be opened: %w", path(e.Name()), err)
		}
		if !info.Mode().IsRegular() {
			continue
		}
		// The size is unsigned in the image: what is negative here is large.
		size := info.Size()
		if total += size; size < 0 || size > maxFile || total > maxTotal {
			return nil, fmt.Errorf("%s in the image is too large: the limits are %d bytes for a file and %d for all",
				path(e.Name()), maxFile, maxTotal)
		}
		data := make([]byte, size)
		content := io.NewSectionReader(info.Sys().(*squashfs.Inode), 0, size)
		if _, err := io.ReadFull(content, data); err != nil {
			return nil, none("%s in the image cannot be read: %w", path(e.Name()), err)
		}
		files = append(files, file{e.Name(), data})
	}
	if len(files) == 0 {
		return nil, none("the image has no *.json file in /%s", dir)
	}
	return files, nil
}

// stat returns what e is, or the file that it links to. The library follows a
// link inside the image only, and refuses an absolute one.
func stat(sb *squashfs.Superblock, e fs.DirEntry) (fs.FileInfo, error) {
	if e.Type() == fs.ModeSymlink {
		return sb.Stat(dir + "/" + e.Name())
	}
	return e.Info()
}

// reader is what the library sees of an image. It bounds the reads, so that
// no loop in the image is followed for ever and nothing read is too large.
type reader struct {
	ctx   context.Context
	image io.ReaderAt
	size  int64
	reads int
	err   error // the first error of ctx or image; all reads fail from then on
}

// ReadAt never returns io.EOF, for which the library has meanings of its own.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err != nil {
		return 0, r.err
	}
	if r.reads++; r.reads > maxReads {
		return 0, fmt.Errorf("more than %d reads", maxReads)
	}
	if off < 0 || len(p) > maxBlock || off > r.size-int64(len(p)) {
		return 0, fmt.Errorf("no block has %d bytes at offset %d", len(p), off)
	}
	n, err := r.image.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.err = fmt.Errorf("reading the image at offset %d: %w", off+int64(n), err)
	return n, r.err
}
