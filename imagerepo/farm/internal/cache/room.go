package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/farm/internal/transfer"
	"puavo-image-repository/imagerepo/internal/work"
)

// kept is a file of the cache.
type kept struct {
	name, digest string
	size         int64
	used         int64 // nanoseconds
}

// makeRoom removes what must go for an image, for which there is room from then on as long as it is
// in use.
func (c *Cache) makeRoom(f work.File, s *slot) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, err := c.files()
	if err != nil {
		return err
	}
	s.placed = true
	busy := make(map[string]bool) // by digest
	sum := int64(0)
	for other, s := range c.slots {
		if s.placed && s.inUse > 0 && !busy[other.BLAKE3.String()] {
			busy[other.BLAKE3.String()] = true
			sum += other.Size
		}
	}
	files = slices.DeleteFunc(files, func(k kept) bool { return busy[k.digest] })
	for _, k := range files {
		sum += k.size
	}
	for _, k := range files {
		if sum <= c.limit {
			break
		}
		if err := c.remove(k); err != nil {
			return err
		}
		sum -= k.size
	}
	if sum > c.limit {
		s.placed = false
		return fmt.Errorf("an image of %d MiB does not fit into the cache with the others in use; give more with --cache-size", f.Size>>20)
	}
	return nil
}

// files returns the files of the cache, the one that was not used for longest first.
func (c *Cache) files() (all []kept, err error) {
	entries, err := fs.ReadDir(c.dir.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		digest, after, _ := strings.Cut(e.Name(), ".")
		info, err := e.Info()
		if digest == "" || "."+after != ext && "."+after != part || err != nil || !info.Mode().IsRegular() {
			continue
		}
		k := kept{e.Name(), digest, info.Size(), info.ModTime().UnixNano()}
		for f, s := range c.slots {
			if f.BLAKE3.String() == digest && !s.used.IsZero() {
				k.used = max(k.used, s.used.UnixNano())
			}
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.name, b.name)) })
	return all, nil
}

// remove removes a file that is not in use.
func (c *Cache) remove(k kept) error {
	maps.DeleteFunc(c.slots, func(f work.File, _ *slot) bool { return f.BLAKE3.String() == k.digest })
	if err := c.dir.Remove(k.name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errDamaged is the error for an image that arrived as another one.
var errDamaged = errors.New("the image that arrived has another digest")

// download fetches an image, and goes on with what has arrived of it. One that arrives damaged is
// fetched once more.
func (c *Cache) download(ctx context.Context, f work.File, fetch Fetch) error {
	for last := false; ; last = true {
		damaged := false
		err := transfer.Retry(ctx, func() (moved bool, err error) {
			moved, err = c.attempt(ctx, f, fetch)
			if damaged = errors.Is(err, errDamaged); damaged {
				return true, nil
			}
			return moved, err
		})
		if damaged && last {
			return errDamaged
		} else if !damaged || err != nil {
			return err
		}
	}
}

func (c *Cache) attempt(ctx context.Context, f work.File, fetch Fetch) (moved bool, err error) {
	name, tmp := f.BLAKE3.String()+ext, f.BLAKE3.String()+part
	size := int64(0)
	if info, err := c.dir.Lstat(tmp); err == nil && info.Mode().IsRegular() {
		size = min(info.Size(), f.Size)
	}
	open := func() (*atomicfile.File, error) { return c.dir.Begin(tmp, name) }
	if size > 0 {
		open = func() (*atomicfile.File, error) { return c.dir.Resume(tmp, name, size) }
	}
	to, err := open()
	if err != nil {
		return false, err
	}
	defer to.Discard()
	digest := cksum.NewBLAKE3()
	if size > 0 {
		if _, err := io.CopyN(digest, reader{ctx, to}, size); err != nil {
			return false, err
		}
	}
	if size < f.Size {
		from, err := fetch(ctx, size)
		if err != nil {
			return false, errors.Join(err, to.Keep())
		}
		n, err := io.Copy(io.MultiWriter(to, digest), reader{ctx, io.LimitReader(from, f.Size-size)})
		from.Close()
		if err != nil || size+n < f.Size {
			return n > 0, errors.Join(cmp.Or(err, io.ErrUnexpectedEOF), to.Keep())
		}
	}
	if cksum.Digest256(digest.Sum(nil)) != f.BLAKE3 {
		return false, errDamaged // and what has arrived is discarded
	}
	return true, to.Commit()
}
