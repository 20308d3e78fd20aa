// Package digestcache remembers the digests of the images in an images directory,
// so that an image, which is large, is read only once.
//
// # The file
//
// The cache is the file .image_updates_known in the images directory, a JSON object:
//
//	files    by file name, of images and partial images
//	  size     bytes
//	  mtime    nanoseconds since 1970
//	  ctime    nanoseconds since 1970; setting the mtime back changes it
//	  inode    its number; while these four are the same, so is the content
//	  sha512   the digests that were computed of the content; mostly one, others are
//	  sha256   left out
//	  blake3
//	  wrong    true if the document that it was last compared with has other digests; left
//	           out if not
//	pending  the image that is being put to use; left out if there is none
//
// An example:
//
//	{"files":{"a-2022-01-20-173248-amd64.img":{"size":6,"mtime":1,"ctime":2,"inode":3,"blake3":"00..."}},
//	"pending":"a-2022-01-20-173248-amd64.img"}
//
// Once a file has changed, its entry describes the old content only. It stays until the file
// is read again or removed. Earlier versions drop such an entry, and know
// no wrong.
//
// A cache that is damaged, or that another program wrote, counts as empty: the images are
// then read again.
//
// # What a digest proves
//
// An image is compared with what one document says of it, by the digests that the
// document has and that were computed of the image. If there are none, the image is read
// again: another digest that was named together with a right one, here or there, proves
// nothing. Earlier versions remembered such a BLAKE3 next to the SHA-512 that they had
// computed; it does not count.
package digestcache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

const (
	fileName = ".image_updates_known"
	// TmpName is the temporary name of the file, which a dead process may leave.
	TmpName = fileName + ".tmp"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// errReadOnly is the error of a write that AllowWrites has not allowed.
var errReadOnly = errors.New("the lock is not held")

// Cache is the digest cache of an images directory. It is not for concurrent use.
type Cache struct {
	dir      atomicfile.Dir
	writable bool
	contents contents
}

// Open reads the cache of a directory, which must stay open. Until AllowWrites, what
// is found out is remembered in memory only.
func Open(dir atomicfile.Dir) *Cache {
	c := &Cache{dir: dir}
	c.load()
	return c
}

// AllowWrites is called once the lock of the directory is held. It reads the cache
// again, since another process may have changed it until then.
func (c *Cache) AllowWrites() {
	c.writable = true
	c.load()
}

// Pending returns the image whose installing was begun and has not ended, the zero
// Name if there is none.
func (c *Cache) Pending() meta.Name { return c.contents.Pending }

// SetPending sets the pending image, the zero Name for none. It is on the disk when
// SetPending returns without an error.
func (c *Cache) SetPending(n meta.Name) error {
	before := c.contents.Pending
	c.contents.Pending = n
	if err := c.save(); err != nil {
		c.contents.Pending = before
		return fmt.Errorf("recording in %s which image is being installed: %w", c.dir.Name(), err)
	}
	return nil
}

// Learn remembers of an image or a partial image, which was just verified by the fastest
// of the digests of sums, that digest. It is no error if the file of the cache cannot be
// written.
func (c *Cache) Learn(file string, sums cksum.Sums) error {
	err := c.learn(file, sums)
	if err == nil {
		c.save()
	}
	return err
}

// LearnPending is Learn of the file from which an image will be installed, and
// SetPending of the image, in one write.
func (c *Cache) LearnPending(n meta.Name, file string, sums cksum.Sums) error {
	if err := c.learn(file, sums); err != nil {
		return err
	}
	return c.SetPending(n)
}

func (c *Cache) learn(file string, sums cksum.Sums) error {
	info, err := c.dir.Lstat(file)
	if err != nil {
		return err
	}
	e := newEntry(info, sums.Fastest())
	switch {
	case !info.Mode().IsRegular() || !isCacheable(file) || e.isEmpty():
		return fmt.Errorf("%s: no digest to record", file)
	case e.stamp.Size != sums.Size:
		return fmt.Errorf("%s: %w: it has %d bytes, want %d", file, ErrWrong, e.stamp.Size, sums.Size)
	}
	c.contents.add(file, e)
	return nil
}

// Forget makes the next Check read a file.
func (c *Cache) Forget(file string) { delete(c.contents.Files, file) }

// Has reports whether a digest of a file is known, whose info is given.
func (c *Cache) Has(file string, info fs.FileInfo) bool {
	_, ok := c.contents.entry(file, info)
	return ok
}

// Renamed takes over what was known of a file that the caller has renamed.
func (c *Cache) Renamed(from, to string) {
	c.contents.restamp(c.dir, to, c.contents.Files[from])
	c.save()
}

// Preserve calls change, which changes names or numbers of links, and takes over
// what was known of the files whose ctime that changes. It returns the error of
// change.
func (c *Cache) Preserve(change func() error) error {
	before := c.contents.valid(c.dir)
	err := change()
	for file, e := range before {
		c.contents.restamp(c.dir, file, e)
	}
	c.save()
	return err
}

// load reads the file, and adds what was found out before.
func (c *Cache) load() {
	data, _ := c.dir.ReadFile(fileName, maxFile)
	before := c.contents.valid(c.dir)
	c.contents = parse(data)
	c.contents.Files = c.contents.present(c.dir)
	for file, e := range before {
		c.contents.add(file, e)
	}
}

// save writes the file, without entries of files that are gone. Most callers
// ignore the error: it costs no more than another look at an image.
func (c *Cache) save() error {
	if !c.writable {
		return errReadOnly
	}
	c.contents.Files = c.contents.present(c.dir)
	data, err := json.Marshal(c.contents)
	if err != nil {
		return err
	}
	if info, err := c.dir.Lstat(fileName); err == nil && info.IsDir() { // which no file can replace
		if err := c.dir.Remove(fileName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	_, err = c.dir.Replace(TmpName, fileName, append(data, '\n'))
	return err
}
