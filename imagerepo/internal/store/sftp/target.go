package sftp

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	client "github.com/pkg/sftp"

	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/store"
)

const (
	chunk      = 8 << 20   // of payload, see the package documentation, in bytes
	slice      = 256 << 10 // of a chunk, in bytes
	concurrent = 8         // slices that are sent at a time
	sums       = ".sums"   // ends the name of the file with the digests
)

// target is a file that payload is written to, and the one with the digests of its chunks.
type target struct {
	link  *link
	file  *client.File
	sums  *client.File
	size  int64  // of file, when it was opened
	found []byte // of sums, when it was opened
}

// target opens the files of payload. The caller calls close.
func (s *Store) target(l *link, c store.Content) (t *target, err error) {
	if err := s.makeFolders(l, s.path(store.Aside)); err != nil {
		return nil, err
	}
	t = &target{link: l}
	info, err := l.files.Lstat(s.path(c.Staged()))
	if err == nil && info.Mode().IsRegular() && info.Size() <= c.Size {
		t.size = info.Size()
	} else if err == nil || isMissing(err) {
		err = s.discard(l, c)
	}
	if err == nil {
		t.file, err = l.files.OpenFile(s.path(c.Staged()), os.O_RDWR|os.O_CREATE)
	}
	if err == nil {
		err = t.file.Chmod(0o644)
	}
	if err == nil {
		t.sums, err = l.files.OpenFile(s.path(c.Staged()+sums), os.O_RDWR|os.O_CREATE)
	}
	if err == nil {
		t.found, err = io.ReadAll(io.NewSectionReader(t.sums, 0, (c.Size/chunk+1)*sha256.Size))
	}
	if err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// discard removes the files of payload, the digests first: they say what the other holds.
func (s *Store) discard(l *link, c store.Content) error {
	if err := l.remove(s.path(c.Staged() + sums)); err != nil {
		return err
	}
	return l.remove(s.path(c.Staged()))
}

// close closes the files that are open.
func (t *target) close() {
	for _, f := range []*client.File{t.file, t.sums} {
		if f != nil {
			f.Close() // all that was written was acknowledged
		}
	}
}

// has reports whether a chunk is certainly there.
func (t *target) has(at int64, part []byte) bool {
	i := at / chunk * sha256.Size
	return at+int64(len(part)) <= t.size && i+sha256.Size <= int64(len(t.found)) &&
		sha256.Sum256(part) == [sha256.Size]byte(t.found[i:])
}

// put sends a chunk and returns when it is certainly there.
func (t *target) put(ctx context.Context, at int64, part []byte, pace func(context.Context, int) error, p *progress) error {
	var begins []int
	for i := 0; i < len(part); i += slice {
		begins = append(begins, i)
	}
	err := pool.Each(ctx, concurrent, begins, func(ctx context.Context, i int) error {
		bytes := part[i:min(i+slice, len(part))]
		if pace != nil {
			if err := pace(ctx, len(bytes)); err != nil {
				return err
			}
		}
		if _, err := t.file.WriteAt(bytes, at+int64(i)); err != nil {
			return err
		}
		p.arrive(len(bytes), true)
		return nil
	})
	if err == nil {
		err = t.link.sync(t.file)
	}
	if err == nil {
		sum := sha256.Sum256(part)
		_, err = t.sums.WriteAt(sum[:], at/chunk*sha256.Size)
	}
	return err
}

// check returns an error if the file does not have the size of the payload.
func (t *target) check(c store.Content) error {
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != c.Size {
		return fmt.Errorf("the server has %d bytes of %d: does another process publish there?", info.Size(), c.Size)
	}
	return errors.Join(t.file.Close(), t.sums.Close())
}

// remove removes a file, if it exists.
func (l *link) remove(file string) error {
	if err := l.files.Remove(file); err != nil && !isMissing(err) {
		return err
	}
	return nil
}
