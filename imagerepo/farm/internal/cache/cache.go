// Package cache keeps the images that a worker has fetched, by their digests.
//
//	DIR/<blake3>.img        an image
//	DIR/<blake3>.img.part   what has arrived of one
//	DIR/name                the name that a worker without a given one has made for itself, and a
//	                        line break; one that is damaged is replaced
//	DIR/lock                held by the worker that uses DIR
//
// An image is read once in each process before it is used, so that no result is made of a damaged
// one, and again when its file has another size or time of change than it had then. One that is
// gone is fetched again. All of them together take at most Limit bytes: the one that was not used
// for longest goes first, and those in use stay. Images in a directory that is shared with the
// builder are used where they lie, and fetched where that cannot be read.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/work"
)

const (
	ext  = ".img"
	part = ".img.part"
)

// Cache is a directory of images. It can be used concurrently.
type Cache struct {
	dir    atomicfile.Dir
	lock   *lockfile.Lock
	limit  int64
	shared *shared // nil if there is none

	mu    sync.Mutex
	slots map[work.File]*slot
}

// slot is an image that is wanted, or was.
type slot struct {
	checking sync.Mutex // held while it is fetched or checked
	found    found      // guarded by that; zero unless it was there and right

	// These are guarded by the mutex of the cache.
	inUse  int
	used   time.Time
	there  bool // it is in DIR or shared, though perhaps not checked
	placed bool // it takes room in DIR, or will
}

// found is a file that was read and is right, as long as it is the same. The zero one is none.
type found struct {
	path        string
	size, mtime int64 // bytes, nanoseconds
}

func foundAt(path string, info fs.FileInfo) found {
	return found{path, info.Size(), info.ModTime().UnixNano()}
}

// isThere reports whether the file is still the one that was read.
func (f found) isThere() bool {
	if f.path == "" {
		return false
	}
	info, err := os.Stat(f.path)
	return err == nil && info.Mode().IsRegular() && foundAt(f.path, info) == f
}

// Open opens the cache in a directory, which it makes, with at most limit bytes. images is a
// directory that is shared with the builder, or "". If another worker uses dir, the error wraps
// lockfile.ErrHeld.
func Open(dir string, limit int64, images string) (*Cache, error) {
	parent, err := atomicfile.Open(filepath.Dir(dir))
	if err != nil {
		return nil, fmt.Errorf("the cache: %w", err)
	}
	if err := parent.Mkdir(filepath.Base(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errors.Join(fmt.Errorf("the cache: %w", err), parent.Close())
	}
	parent.Close()
	lock, err := lockfile.Acquire(dir, "lock")
	if err != nil {
		return nil, fmt.Errorf("the cache %s: %w", dir, err)
	}
	d, err := atomicfile.Open(dir)
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	d.NoSync = true // each image is checked before it is used
	c := &Cache{dir: d, lock: lock, limit: limit, slots: make(map[work.File]*slot)}
	if images != "" {
		c.shared = &shared{dir: images, known: make(map[string]sharedFile)}
	}
	if err := c.look(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// look notes what an earlier worker has left.
func (c *Cache) look() error {
	files, err := c.files()
	for _, k := range files {
		var digest cksum.Digest256
		name, ok := strings.CutSuffix(k.name, ext)
		if ok && digest.UnmarshalText([]byte(name)) == nil {
			c.slots[work.File{Size: k.size, BLAKE3: digest}] = &slot{used: time.Unix(0, k.used), there: true, placed: true}
		}
	}
	return err
}

// Close frees the directory. The images stay.
func (c *Cache) Close() error { return errors.Join(c.dir.Close(), c.lock.Release()) }

// maxName bounds the file with a name, in bytes.
const maxName = 1 << 10

// Name returns the name that is kept here. Where there is none that check takes, it keeps the one
// that fresh returns.
func (c *Cache) Name(check func(string) error, fresh func() string) (string, error) {
	if data, err := c.dir.ReadFile("name", maxName); err == nil {
		if name, ok := strings.CutSuffix(string(data), "\n"); ok && check(name) == nil {
			return name, nil
		}
	}
	name, d := fresh(), c.dir
	d.NoSync = false // nothing else restores it
	if _, err := d.Replace("name.part", "name", []byte(name+"\n")); err != nil {
		return "", fmt.Errorf("the cache: %w", err)
	}
	return name, nil
}

// Scratch makes a file without a name.
func (c *Cache) Scratch() (*os.File, error) { return c.dir.Scratch() }

// Fetch returns an image from a place on.
type Fetch func(ctx context.Context, at int64) (io.ReadCloser, error)

// Get returns the path of an image, which it fetches if it must, and keeps there until release is
// called. Errors are those of ctx, of the disk and of fetch.
func (c *Cache) Get(ctx context.Context, f work.File, fetch Fetch) (path string, release func(), err error) {
	c.mu.Lock()
	s := c.slots[f]
	if s == nil {
		s = &slot{}
		c.slots[f] = s
	}
	s.inUse++
	c.mu.Unlock()
	s.checking.Lock()
	defer s.checking.Unlock()
	if !s.found.isThere() {
		s.found, err = c.find(ctx, f, s, fetch)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.there = err == nil
	if err != nil {
		s.inUse--
		return "", nil, err
	}
	return s.found.path, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.inUse--
		s.used = time.Now()
	}, nil
}

// Holds reports whether an image of which the digest begins so is there, or is being fetched.
func (c *Cache) Holds(digest string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f, s := range c.slots {
		if (s.there || s.inUse > 0) && strings.HasPrefix(f.BLAKE3.String(), digest) {
			return true
		}
	}
	return false
}

// find finds an image, or fetches it, and reads it.
func (c *Cache) find(ctx context.Context, f work.File, s *slot, fetch Fetch) (found, error) {
	if at := c.shared.find(ctx, f); at.path != "" || ctx.Err() != nil {
		return at, ctx.Err()
	}
	name := f.BLAKE3.String() + ext
	path := filepath.Join(c.dir.Name(), name)
	if info, err := c.dir.Lstat(name); err == nil && info.Size() == f.Size {
		if digest, err := digestOf(ctx, path); err != nil {
			return found{}, err
		} else if digest == f.BLAKE3 {
			return foundAt(path, info), nil
		}
	}
	if err := c.makeRoom(f, s); err != nil {
		return found{}, err
	}
	if err := c.download(ctx, f, fetch); err != nil {
		return found{}, err
	}
	info, err := c.dir.Lstat(name)
	if err != nil {
		return found{}, err
	}
	return foundAt(path, info), nil
}

// shared is the directory that is shared with the builder. A nil one is empty.
type shared struct {
	dir string

	mu    sync.Mutex
	known map[string]sharedFile // by path
}

type sharedFile struct {
	size, mtime int64
	digest      cksum.Digest256
}

// find returns an image there, none if it is not there or cannot be read.
func (s *shared) find(ctx context.Context, f work.File) found {
	if s == nil {
		return found{}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return found{}
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
			continue
		}
		if digest, err := s.digest(ctx, path, info); err == nil && digest == f.BLAKE3 {
			return foundAt(path, info)
		}
	}
	return found{}
}

// digest returns the digest of an image, which it reads unless it is known.
func (s *shared) digest(ctx context.Context, path string, info fs.FileInfo) (cksum.Digest256, error) {
	s.mu.Lock()
	defer s.mu.Unlock() // one at a time is read, so that none is read twice
	known := s.known[path]
	if known.size == info.Size() && known.mtime == info.ModTime().UnixNano() {
		return known.digest, nil
	}
	digest, err := digestOf(ctx, path)
	if err == nil {
		s.known[path] = sharedFile{info.Size(), info.ModTime().UnixNano(), digest}
	}
	return digest, err
}

func digestOf(ctx context.Context, path string) (d cksum.Digest256, err error) {
	f, err := atomicfile.OpenRegular(path)
	if err != nil {
		return d, err
	}
	defer f.Close()
	h := cksum.NewBLAKE3()
	_, err = io.Copy(h, reader{ctx, f})
	return cksum.Digest256(h.Sum(nil)), err
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
