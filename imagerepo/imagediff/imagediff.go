// Package imagediff compares the files in two images: which were added, which removed,
// and what changed. It needs neither root nor mounting.
//
// # What is compared
//
// Both images are squashfs, see package squashfs below for what is read. Each path is
// compared with the same path in the other image:
//
//	type     file, directory, link, device, pipe or socket
//	content  of files: the bytes, whatever their time
//	target   of symbolic links
//	device   the number of a device
//	mode     permissions, but of links
//	owner    user and group, by their IDs
//
// Times, hard links and extended attributes are not compared. Contents are first compared
// as they are stored: blocks with the same compressed bytes are equal. Only blocks that
// differ are decompressed, up to the first byte that differs. So block sizes and
// compressions may differ; the comparison then takes longer.
//
// # Order and limits
//
// Changes come in the order of the paths, a directory before what is in it. What is kept in
// memory is a listing for each directory on the way to the file that is compared, at most a
// quarter of a million names in all (80 MiB, and usually far less), and at most 30 MiB for
// blocks. Images are not trusted: whatever they hold, the work has an end, which grows with
// their sizes.
package imagediff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"puavo-image-repository/imagerepo/internal/puavoconf/squashfs"
	"puavo-image-repository/meta/untrusted"
)

// ErrImage is wrapped by the error for a file that is no squashfs, or one that is damaged or
// compressed in a way that is not supported.
var ErrImage = errors.New("cannot compare this image")

// Kind is what became of a file.
type Kind string

// The kinds of changes.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// What of a file changed.
const (
	Type    = "type"
	Content = "content"
	Target  = "target"
	Device  = "device"
	Mode    = "mode"
	Owner   = "owner"
)

// Change is a file that is not the same in both images.
type Change struct {
	Path string   `json:"path"` // with a leading slash; any bytes but slash and zero in its parts
	Kind Kind     `json:"kind"`
	What []string `json:"what,omitempty"` // of a Changed one, in the order of the constants
	Old  *File    `json:"old,omitempty"`  // nil of an Added one
	New  *File    `json:"new,omitempty"`  // nil of a Removed one
}

// File is what an image says of a file.
type File struct {
	Type   string `json:"type"`             // such as file, directory, link or block device
	Size   uint64 `json:"size"`             // bytes of a regular file, else 0
	Mode   string `json:"mode"`             // four octal digits
	User   uint32 `json:"user"`             // ID
	Group  uint32 `json:"group"`            // ID
	Target string `json:"target,omitempty"` // of a link
	Device string `json:"device,omitempty"` // major:minor
}

// Compare compares two images, and calls report with each change. It returns how many files
// are the same in both. An error is that of opening or reading a file, of report, of ctx, or
// it wraps ErrImage and names the image. It can be called concurrently.
func Compare(ctx context.Context, older, newer string, report func(Change) error) (same int, err error) {
	a, err := open(ctx, older)
	if err != nil {
		return 0, err
	}
	defer a.file.Close()
	b, err := open(ctx, newer)
	if err != nil {
		return 0, err
	}
	defer b.file.Close()
	return compare(ctx, a, b, report)
}

// Image is an image that is no file. Name is for messages.
type Image struct {
	io.ReaderAt
	Name string
	Size int64 // bytes
}

// CompareImages does what Compare does.
func CompareImages(ctx context.Context, older, newer Image, report func(Change) error) (same int, err error) {
	var sides [2]*image
	for i, from := range []Image{older, newer} {
		sides[i] = &image{path: from.Name}
		if err := sides[i].use(ctx, from, from.Size, workOf(from.Size)); err != nil {
			return 0, sides[i].fault(ctx, err)
		}
	}
	return compare(ctx, sides[0], sides[1], report)
}

func compare(ctx context.Context, a, b *image, report func(Change) error) (same int, err error) {
	w := &walk{ctx: ctx, sides: [2]*image{a, b}, contents: squashfs.Compare(a.reader, b.reader), report: report}
	err = w.both("", a.root, b.root)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return w.same, err
}

// image is an open image.
type image struct {
	path   string
	file   *os.File
	reader *squashfs.Reader
	root   *squashfs.File
}

// open opens an image, a regular file or a device.
func open(ctx context.Context, path string) (*image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeDevice {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file; give an image")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	i := &image{path: path, file: f}
	if err := i.read(ctx); err != nil {
		f.Close()
		return nil, i.fault(ctx, err)
	}
	return i, nil
}

func (i *image) read(ctx context.Context) error {
	size, err := i.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	return i.use(ctx, i.file, size, workOf(size))
}

// workOf returns how much work is allowed for an image of size bytes.
func workOf(size int64) int { return squashfs.Work + workOfByte*int(size) }

// use begins to read an image of size bytes, with so much work.
func (i *image) use(ctx context.Context, from io.ReaderAt, size int64, work int) (err error) {
	if i.reader, err = squashfs.Open(ctx, from, size); err != nil {
		return err
	}
	i.reader.Allow(work)
	i.root, err = i.reader.Find("")
	return err
}

// fault returns an error of reading an image, with its path.
func (i *image) fault(ctx context.Context, err error) error {
	_, isPath := errors.AsType[*fs.PathError](err)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case isPath || errors.Is(err, squashfs.ErrRead):
		return fmt.Errorf("%s: %w", i.path, err)
	default:
		return fmt.Errorf("%s: %w: %w", i.path, ErrImage, err)
	}
}

const (
	maxNames   = 1 << 18 // of directories, that are kept at a time
	workOfByte = 256     // that is allowed for each byte of an image: most have three to a stored one
)

// walk goes through both images at once.
type walk struct {
	ctx      context.Context
	sides    [2]*image
	contents *squashfs.Comparison
	report   func(Change) error
	same     int
	names    int // that are kept
}

// list returns the entries of a directory, sorted by name. Whoever calls it takes their
// number from names when they are no longer needed.
func (w *walk) list(side int, path string, dir *squashfs.File) ([]squashfs.Entry, error) {
	if dir == nil || !dir.IsDir() {
		return nil, nil
	}
	entries, err := dir.Entries(maxNames - w.names)
	if err != nil {
		return nil, w.fault(side, path, err)
	}
	slices.SortFunc(entries, func(a, b squashfs.Entry) int { return strings.Compare(a.Name, b.Name) })
	for i, e := range entries {
		bad := e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00")
		if bad || i > 0 && entries[i-1].Name == e.Name {
			return nil, w.fault(side, path, fmt.Errorf("the squashfs is damaged: the name %s is invalid, or appears twice", untrusted.Quote(e.Name)))
		}
	}
	w.names += len(entries)
	return entries, nil
}

// fault returns an error about a path of an image.
func (w *walk) fault(side int, path string, err error) error {
	if err != nil {
		err = w.sides[side].fault(w.ctx, fmt.Errorf("%s: %w", untrusted.Show("/"+strings.TrimPrefix(path, "/")), err))
	}
	return err
}

// inside compares what is in two directories, of which one may be nil or no directory.
func (w *walk) inside(path string, a, b *squashfs.File) error {
	left, err := w.list(0, path, a)
	if err != nil {
		return err
	}
	right, err := w.list(1, path, b)
	if err != nil {
		return err
	}
	kept := len(left) + len(right)
	defer func() { w.names -= kept }()
	for len(left)+len(right) > 0 {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		name := first(left, right)
		old, err := w.take(0, path+"/"+name, name, &left)
		if err != nil {
			return err
		}
		now, err := w.take(1, path+"/"+name, name, &right)
		if err != nil {
			return err
		}
		if err := w.both(path+"/"+name, old, now); err != nil {
			return err
		}
	}
	return nil
}

// first returns the first name of two sorted lists, of which one may be empty.
func first(left, right []squashfs.Entry) string {
	switch {
	case len(left) == 0:
		return right[0].Name
	case len(right) == 0:
		return left[0].Name
	}
	return min(left[0].Name, right[0].Name)
}

// take takes a name off the beginning of a list and returns its file, nil if the list
// begins with another.
func (w *walk) take(side int, path, name string, list *[]squashfs.Entry) (*squashfs.File, error) {
	if len(*list) == 0 || (*list)[0].Name != name {
		return nil, nil
	}
	f, err := (*list)[0].Own()
	*list = (*list)[1:]
	return f, w.fault(side, path, err)
}

// both compares a path of both images; in one of them it may be missing.
func (w *walk) both(path string, a, b *squashfs.File) error {
	c := Change{Path: path}
	if path == "" {
		c.Path = "/"
	}
	var err error
	if a != nil {
		if c.Old, err = fileOf(a); err != nil {
			return w.fault(0, path, err)
		}
	}
	if b != nil {
		if c.New, err = fileOf(b); err != nil {
			return w.fault(1, path, err)
		}
	}
	switch {
	case a == nil:
		c.Kind = Added
	case b == nil:
		c.Kind = Removed
	default:
		if c.What, err = w.what(path, c, a, b); err != nil {
			return err
		}
		if c.Kind = Changed; len(c.What) == 0 {
			w.same++
			return w.inside(path, a, b)
		}
	}
	if err := w.report(c); err != nil {
		return err
	}
	return w.inside(path, a, b)
}

// what returns what changed of a path that both images have.
func (w *walk) what(path string, c Change, a, b *squashfs.File) (what []string, err error) {
	add := func(changed bool, name string) {
		if changed {
			what = append(what, name)
		}
	}
	add(c.Old.Type != c.New.Type, Type)
	if c.Old.Type == c.New.Type && a.IsRegular() {
		same, err := w.contents.Same(a, b)
		if err != nil {
			return nil, w.contentFault(path, err)
		}
		add(!same, Content)
	}
	if c.Old.Type == c.New.Type {
		add(c.Old.Target != c.New.Target, Target)
		add(c.Old.Device != c.New.Device, Device)
	}
	link := string(squashfs.Link)
	add(c.Old.Mode != c.New.Mode && c.Old.Type != link && c.New.Type != link, Mode)
	add(c.Old.User != c.New.User || c.Old.Group != c.New.Group, Owner)
	return what, nil
}

// contentFault returns an error of comparing contents, which may be that of either image.
func (w *walk) contentFault(path string, err error) error {
	both := &image{path: w.sides[0].path + " or " + w.sides[1].path}
	return both.fault(w.ctx, fmt.Errorf("%s: %w", untrusted.Show(path), err))
}

// fileOf returns what an image says of a file.
func fileOf(f *squashfs.File) (*File, error) {
	user, group, err := f.Owner()
	if err != nil {
		return nil, err
	}
	file := &File{Type: string(f.Type()), Mode: fmt.Sprintf("%04o", f.Mode()), User: user, Group: group}
	switch f.Type() {
	case squashfs.Regular:
		file.Size = f.Size()
	case squashfs.Link:
		file.Target, err = f.Target()
	case squashfs.BlockDevice, squashfs.CharacterDevice:
		major, minor := f.Device()
		file.Device = fmt.Sprintf("%d:%d", major, minor)
	}
	return file, err
}
