package squashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

const (
	maxListing = 4 << 20 // bytes of a listing
	maxEntries = 256     // entries below a header
	maxName    = 256     // bytes of a name
	maxTarget  = 4096    // bytes of the target of a link
	maxLinks   = 40      // links on the way to a file
	maxDepth   = 256     // directories below each other
	entryWork  = 64      // units of work for an entry or a step
)

// Entry is a name in a directory.
type Entry struct {
	Name string // 1 to 256 bytes, whatever they are
	dir  *File
	ref  uint64
}

// Own returns the file of that name itself, which may be a symbolic link.
func (e Entry) Own() (*File, error) { return e.dir.child(e.ref) }

// Open returns the file of that name, or the one that it links to.
func (e Entry) Open() (*File, error) {
	f, err := e.dir.child(e.ref)
	if err != nil || f.kind != typeLink {
		return f, err
	}
	target, err := f.target()
	if err != nil {
		return nil, err
	}
	return e.dir.walk(target, 1)
}

// Find returns the file at a slash-separated path from the root directory.
// Symbolic links are followed, as long as they are not absolute; there is
// nothing above the root directory but itself. If there is no such file, the
// error wraps [fs.ErrNotExist].
func (r *Reader) Find(path string) (*File, error) {
	i, err := r.readInode(r.root)
	if err != nil {
		return nil, err
	}
	root := &File{r: r, inode: i}
	if !root.IsDir() {
		return nil, damaged("the root is no directory")
	}
	return root.walk(path, 0)
}

// walk returns the file at a path from directory f, to which the given number of
// links has led.
func (f *File) walk(path string, links int) (*File, error) {
	at := f
	for path != "" {
		name, rest, more := strings.Cut(path, "/")
		next, err := at.step(name)
		if err != nil {
			return nil, err
		}
		if next.kind == typeLink {
			if links++; links > maxLinks {
				return nil, fmt.Errorf("too many levels of symbolic links at %s", untrusted.Quote(name))
			}
			if path, err = next.target(); err != nil {
				return nil, err
			}
			if more {
				path += "/" + rest
			}
			if err := f.r.spend(len(path)); err != nil {
				return nil, err
			}
			continue
		}
		if more && !next.IsDir() {
			return nil, fmt.Errorf("%s is not a directory", untrusted.Quote(name))
		}
		at, path = next, rest
	}
	return at, nil
}

// step returns the file of a name in directory f, not followed if it is a link.
func (f *File) step(name string) (*File, error) {
	if err := f.r.spend(entryWork); err != nil {
		return nil, err
	}
	switch {
	case name == "" || name == "." || name == ".." && f.parent == nil:
		return f, nil
	case name == "..":
		return f.parent, nil
	}
	ref, found := uint64(0), false
	err := f.list(func(n []byte, to uint64) bool {
		ref, found = to, string(n) == name
		return !found
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: %w", untrusted.Quote(name), fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	return f.child(ref)
}

// child returns the file in directory f whose inode is referred to.
func (f *File) child(ref uint64) (*File, error) {
	if f.depth == maxDepth {
		return nil, damaged("more than %d directories below each other", maxDepth)
	}
	i, err := f.r.readInode(ref)
	if err != nil {
		return nil, err
	}
	return &File{f.r, i, f, f.depth + 1}, nil
}

// target returns the path that f, a link, links to, which must not be absolute.
func (f *File) target() (string, error) {
	path, err := f.Target()
	if err == nil && path[0] == '/' {
		return "", fmt.Errorf("a symbolic link to the absolute path %s", untrusted.Quote(path))
	}
	return path, err
}

// Target returns the path that f, a symbolic link, links to: 1 to 4096 bytes, whatever
// they are.
func (f *File) Target() (string, error) {
	if f.kind != typeLink {
		return "", errors.New("not a symbolic link")
	}
	if f.size == 0 || f.size > maxTarget {
		return "", damaged("a symbolic link to a path of %d bytes", f.size)
	}
	b, c := make([]byte, f.size), f.rest
	c.read(b)
	if c.err != nil {
		return "", c.err
	}
	return string(b), nil
}

// Entries returns the names in directory f, in the image's order, at most limit.
func (f *File) Entries(limit int) ([]Entry, error) {
	if !f.IsDir() {
		return nil, errors.New("not a directory")
	}
	var entries []Entry
	err := f.list(func(name []byte, ref uint64) bool {
		entries = append(entries, Entry{string(name), f, ref})
		return len(entries) <= limit
	})
	if err != nil {
		return nil, err
	}
	if len(entries) > limit {
		return nil, fmt.Errorf("%w: more than %d names", ErrTooLarge, limit)
	}
	return entries, nil
}

// list calls use with the entries of directory f while it returns true. The name
// is valid until it returns.
func (f *File) list(use func(name []byte, ref uint64) bool) error {
	const missing = 3 // bytes of the size that the listing does not have
	if f.size <= missing {
		return nil
	}
	left := int64(f.size - missing)
	if left > maxListing {
		return fmt.Errorf("%w: a directory of %d bytes", ErrTooLarge, left)
	}
	var buf [maxName]byte
	c := f.r.cursor(f.r.directoryTable+f.start, int(f.offset))
	for c.err == nil && left > 0 {
		entries, block := c.u32(), c.u32()
		c.skip(4)
		left -= 12
		if entries >= maxEntries {
			return damaged("%d entries of a directory at once", entries)
		}
		for range entries + 1 {
			name, ref := c.entry(block, &buf)
			left -= 8 + int64(len(name))
			if c.err == nil && left < 0 {
				c.err = damaged("a directory ends within an entry")
			}
			if c.err != nil || !use(name, ref) {
				return c.err
			}
		}
	}
	return c.err
}

// entry reads an entry below a header that names the block of the inodes. The
// name is in buf.
func (c *cursor) entry(block uint32, buf *[maxName]byte) (name []byte, ref uint64) {
	if c.err == nil {
		c.err = c.r.spend(entryWork)
	}
	ref = uint64(block)<<16 | uint64(c.u16())
	c.skip(4)
	n := int(c.u16()) + 1
	if c.err == nil && n > maxName {
		c.err = damaged("a name of %d bytes", n)
	}
	if c.err != nil {
		return nil, 0
	}
	c.read(buf[:n])
	return buf[:n], ref
}
