package sftp

import (
	"context"
	"errors"
	"path"
	"strings"
	"sync"
	"time"

	"puavo-image-repository/imagerepo/internal/store"
)

// Stage sends payload, see the package documentation. Where the connection is lost, it
// reads the file from its start again. Where the file is not what c says, nothing is left
// at the server. Memory: 8 MiB a call.
func (s *Store) Stage(ctx context.Context, c store.Content) error {
	if err := store.CheckName(c.Name); err != nil {
		return err
	}
	p := &progress{content: c}
	err := s.do(ctx, p.chunks, func(l *link) error { return s.stage(ctx, l, c, p) })
	if errors.Is(err, store.ErrChanged) {
		return err
	}
	return s.failed("sending", c.Name, err)
}

// progress reports each byte once, however often it is sent.
type progress struct {
	content store.Content

	mu       sync.Mutex // protects the following
	reported int64
	chunk    int64 // where the current one begins
	arrived  int64 // bytes of it that have
}

// chunks returns how many bytes whole chunks have.
func (p *progress) chunks() int64 { return p.chunk }

// begin notes that a chunk begins, and that all before it has arrived.
func (p *progress) begin(at int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chunk, p.arrived = at, 0
}

// arrive notes that n more bytes of a chunk have arrived.
func (p *progress) arrive(n int, sent bool) {
	p.mu.Lock()
	p.arrived += int64(n)
	more := max(p.chunk+p.arrived-p.reported, 0)
	p.reported += more
	p.mu.Unlock()
	p.content.Report(more, sent)
}

// stage sends what is not certainly there, over one connection.
func (s *Store) stage(ctx context.Context, l *link, c store.Content, p *progress) error {
	from, err := c.Source()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := s.target(l, c)
	if err != nil {
		return s.explain(l, err)
	}
	defer to.close()
	err = from.Each(ctx, chunk, func(at int64, part []byte) error {
		p.begin(at)
		if to.has(at, part) {
			p.arrive(len(part), false)
			return nil
		}
		return s.explain(l, to.put(ctx, at, part, s.o.Pace, p))
	})
	if errors.Is(err, store.ErrChanged) {
		return errors.Join(err, s.discard(l, c))
	}
	if err != nil {
		return err
	}
	return to.check(c)
}

// Release renames what was staged.
func (s *Store) Release(ctx context.Context, c store.Content) error {
	before := false // an attempt, whose connection was lost, may have succeeded
	return s.writing(ctx, c.Name, func(l *link) error {
		err := l.files.PosixRename(s.path(c.Staged()), s.path(c.Name))
		if before && isMissing(err) {
			if f, second := s.stat(l, c.Name); second == nil && f.Size == c.Size {
				return nil
			}
		}
		before = true
		if err == nil {
			err = l.remove(s.path(c.Staged() + sums))
		}
		return err
	})
}

// Sweep removes all that is aside and belongs to none of these contents, but for temporary
// files of the last hour: another process may be writing them.
func (s *Store) Sweep(ctx context.Context, keep []store.Content) error {
	// What is staged goes first. It makes room for the file whose time says which temporary
	// files are old: a full disk may have none.
	if err := s.sweep(ctx, time.Time{}, keep); err != nil {
		return err
	}
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	return s.sweep(ctx, now, keep)
}

// sweep removes what is left over at the time now. At the zero time no temporary file is.
func (s *Store) sweep(ctx context.Context, now time.Time, keep []store.Content) error {
	return s.failed("removing from", store.Aside, s.do(ctx, nil, func(l *link) error {
		entries, err := l.files.ReadDirContext(ctx, s.path(store.Aside))
		if isMissing(err) {
			return nil
		} else if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(store.Aside, path.Base(e.Name()))
			if e.IsDir() || !store.IsLeft(strings.TrimSuffix(name, sums), now.Sub(e.ModTime()), keep) {
				continue
			}
			if err := l.remove(s.path(name)); err != nil {
				return err
			}
		}
		return nil
	}))
}
