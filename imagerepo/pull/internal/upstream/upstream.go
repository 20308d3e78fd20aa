// Package upstream reads the documents of a repository that is copied, from the first of its
// mirrors that answers, and checks that they belong together.
//
// A repository is published one document after the other. A look that falls between two of them
// is repeated, after a pause, until all documents agree: each with its digest in the lists, the
// lists with the meta about images and deltas, and the signed copies with the plain documents.
// A look reads each document once.
package upstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/meta"
)

// ErrInput is wrapped by the error for documents that cannot be used.
var ErrInput = errors.New("the repository cannot be copied")

// errUnsettled is wrapped by the error for documents that do not agree.
var errUnsettled = errors.New("its documents do not agree; if it is being published, run again later")

// Options say how repositories are read.
type Options struct {
	Fetch fetch.Options
	Root  []byte // the root that is trusted; nil verifies no signatures
	Log   *slog.Logger
	// Pauses come before each further look at documents that do not agree. nil stands for five,
	// of 30 s together.
	Pauses []time.Duration
}

var pauses = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second}

// Source is a repository, and the mirrors that have it, in the order in which they are asked. It
// can be used concurrently. Whoever opens it calls Close.
type Source struct {
	Mirrors []*fetch.Mirror
	options Options
}

// Mirrors returns the mirrors of a repository: URLs or directories, separated by commas. A
// directory that exists can have commas in its path.
func Mirrors(source string) []string {
	if _, err := os.Stat(source); err == nil {
		return []string{source}
	}
	return strings.Split(source, ",")
}

// Open opens a repository, see Mirrors.
func Open(mirrors string, o Options) (*Source, error) {
	s := &Source{options: o}
	if s.options.Log == nil {
		s.options.Log = slog.New(slog.DiscardHandler)
	}
	if o.Pauses == nil {
		s.options.Pauses = pauses
	}
	for _, where := range Mirrors(mirrors) {
		m, err := fetch.Open(where, o.Fetch)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.Mirrors = append(s.Mirrors, m)
	}
	return s, nil
}

// Close ends idle connections.
func (s *Source) Close() (err error) {
	for _, m := range s.Mirrors {
		err = errors.Join(err, m.Close())
	}
	return err
}

// String returns the first mirror, without a password.
func (s *Source) String() string { return s.Mirrors[0].String() }

// Edition is what a repository has at one time.
type Edition struct {
	Source *Source
	Mirror string // that the documents came from
	Series []meta.Series
	// Documents are all files that it publishes but images and deltas, by their paths, with the
	// signed ones; nil unless Look was asked for them.
	Documents map[string][]byte
	Signed    bool
	Expires   time.Time // of the timestamp, zero for none
	Digest    [32]byte  // of the documents that clients read
}

// Look reads the documents. If a root is trusted, trust has what is remembered of the
// repository; with readOnly it stays as it is. With whole, all documents are read, otherwise
// the index and the meta.
func (s *Source) Look(ctx context.Context, trust atomicfile.Dir, readOnly, whole bool) (*Edition, error) {
	var failed []error
	for i, m := range s.Mirrors {
		e, err := s.settled(ctx, m, trust, readOnly, whole)
		if err == nil {
			e.Source, e.Mirror = s, m.String()
			return e, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if i < len(s.Mirrors)-1 {
			s.options.Log.Warn("trying the next mirror", "reason", err)
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// settled looks until the documents agree.
func (s *Source) settled(ctx context.Context, m *fetch.Mirror, trust atomicfile.Dir, readOnly, whole bool) (*Edition, error) {
	for left := s.options.Pauses; ; left = left[1:] {
		l := &look{mirror: m, seen: make(map[string][]byte)}
		e, err := l.edition(ctx, tuf.Client{Root: s.options.Root, Dir: trust, ReadOnly: readOnly}, whole)
		if err == nil || len(left) == 0 || !errors.Is(err, errUnsettled) && !errors.Is(err, tuf.ErrRefused) {
			if errors.Is(err, errUnsettled) {
				err = fmt.Errorf("%s: %w: %w", m, ErrInput, err)
			}
			return e, err
		}
		s.options.Log.Info("looking again", "mirror", m.String(), "reason", err, "after", left[0].String())
		select {
		case <-time.After(left[0]):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// look is what one look at a mirror has read.
type look struct {
	mirror *fetch.Mirror
	seen   map[string][]byte
}

// read reads a document once.
func (l *look) read(ctx context.Context, name string, most int64) ([]byte, error) {
	if data, ok := l.seen[name]; ok && int64(len(data)) <= most {
		return data, nil
	}
	data, err := l.mirror.Document(ctx, name, most)
	if errors.Is(err, fetch.ErrTooLarge) {
		err = fmt.Errorf("%w (%w)", err, tuf.ErrEndlessData)
	}
	if err == nil {
		l.seen[name] = data
	}
	return data, err
}

// edition reads an edition.
func (l *look) edition(ctx context.Context, client tuf.Client, whole bool) (*Edition, error) {
	read := l.read
	if client.Root != nil {
		signed, err := client.Refresh(ctx, l.read)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.mirror, err)
		}
		read = signed.Read
	}
	e := &Edition{}
	if err := l.readSeries(ctx, read, e); err != nil {
		return nil, err
	}
	if whole {
		if err := l.collect(ctx, e); err != nil {
			return nil, err
		}
	}
	if timestamp, ok := l.seen[tuf.MetadataPath("timestamp", 0)]; ok {
		e.Expires, _ = tuf.Expires(timestamp)
	}
	return e, ctx.Err()
}

// readSeries reads the index, and the meta that it names.
func (l *look) readSeries(ctx context.Context, read tuf.ReadFunc, e *Edition) error {
	all := sha256.New()
	data, err := read(ctx, mirror.Index, meta.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s has no %s, so this tool did not make it; check the URL: %w", ErrInput, l.mirror, mirror.Index, err)
	} else if err != nil {
		return err
	}
	index, err := meta.ParseIndex(data)
	if err != nil {
		return fmt.Errorf("%w: %s/%s: %w", ErrInput, l.mirror, mirror.Index, err)
	}
	all.Write(data)
	for _, entry := range index.Series {
		data, err := read(ctx, entry.Meta, meta.MaxDocument)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", errUnsettled, err)
		} else if err != nil {
			return err
		}
		s, err := meta.ParseSeries(data)
		if err == nil && s.Name != entry.Name {
			err = fmt.Errorf("it is of the series %s", s.Name)
		}
		if err != nil {
			return fmt.Errorf("%w: %s/%s: %w", ErrInput, l.mirror, entry.Meta, err)
		}
		all.Write(data)
		e.Series = append(e.Series, s)
	}
	e.Digest = [32]byte(all.Sum(nil))
	slices.SortFunc(e.Series, func(a, b meta.Series) int { return strings.Compare(a.Name, b.Name) })
	return nil
}
