package pull

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/scratch"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/directory"
	"puavo-image-repository/imagerepo/internal/throttle"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/imagerepo/pull/internal/upstream"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Where things lie in a copy.
const (
	private   = mirror.Pulled
	lockPath  = private + "/lock"
	trustPath = private + "/trust"
	editions  = private + "/edition"
)

// copied is an open copy, and its upstreams.
type copied struct {
	options  Options
	store    store.Store
	disk     *directory.Store // the same; nil if the directory does not exist and only a plan is wanted
	root     atomicfile.Dir   // of the directory; zero likewise
	lock     *lockfile.Lock   // nil for a plan
	scratch  string           // a directory for the documents
	remove   func() error     // removes what a plan has written there
	sources  []*upstream.Source
	record   Record // of the run before
	fetched  atomic.Int64
	look     []*upstream.Edition // the last look at the upstreams
	verified bool                // all files were read
	made     map[string]made     // deltas that were made here, by their paths
	lost     map[string]bool     // deltas that were made here by runs before, and are damaged
}

// openToChange opens a copy, and makes it where there is none.
func openToChange(ctx context.Context, o Options) (c *copied, err error) {
	if err := checkDir(o.Dir); err != nil {
		return nil, err
	}
	c = &copied{options: o, remove: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
			c = nil
		}
	}()
	if c.disk, err = directory.Open(o.Dir, o.NoSync); err != nil {
		return c, err
	}
	c.store = c.disk
	if c.root, err = atomicfile.Open(o.Dir); err != nil {
		return c, err
	}
	c.root.NoSync = o.NoSync
	if err := c.root.MkdirAll(private, 0o777); err != nil {
		return c, err
	}
	if c.lock, err = lockfile.Acquire(o.Dir, lockPath); err != nil {
		return c, err
	}
	c.record = readRecord(c.root)
	c.scratch = filepath.Join(o.Dir, filepath.FromSlash(editions))
	return c, c.openSources(ctx)
}

// openToLook opens a copy for a plan.
func openToLook(ctx context.Context, o Options) (c *copied, err error) {
	if err := checkDir(o.Dir); err != nil {
		return nil, err
	}
	c = &copied{options: o, store: directory.Missing(o.Dir), remove: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
			c = nil
		}
	}()
	if _, err := os.Stat(o.Dir); err == nil {
		if c.disk, err = directory.Open(o.Dir, true); err != nil {
			return c, err
		}
		c.store = c.disk
		if c.root, err = atomicfile.Open(o.Dir); err != nil {
			return c, err
		}
		c.record = readRecord(c.root)
	}
	dir, remove, err := scratch.Make("pull")
	if err != nil {
		return c, err
	}
	c.scratch, c.remove = dir, remove
	return c, c.openSources(ctx)
}

// checkDir refuses the directory of a build.
func checkDir(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, mirror.Private)); err == nil {
		return fmt.Errorf("%w: %s was made by a build; give another directory", ErrDir, dir)
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("%w: %s is no directory", ErrDir, dir)
	}
	return nil
}

// close closes what is open.
func (c *copied) close() error {
	errs := []error{c.remove()}
	for _, s := range c.sources {
		errs = append(errs, s.Close())
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Release())
	}
	if c.disk != nil {
		errs = append(errs, c.disk.Close())
	}
	if !c.root.IsZero() {
		errs = append(errs, c.root.Close())
	}
	return errors.Join(errs...)
}

// openSources opens the upstreams.
func (c *copied) openSources(ctx context.Context) error {
	o := c.options
	roots, err := readRoots(ctx, o.Trust)
	if err != nil {
		return err
	}
	of := fetch.Options{
		Authorities: sync.OnceValues(func() (*x509.CertPool, error) { return fetch.Authorities(ctx, o.CACertificate) }),
		Limit:       throttle.New(o.RateLimit), Patience: o.Patience, Log: o.Log,
		Counted: func(n int) { c.fetched.Add(int64(n)) },
	}
	for i, where := range o.Sources {
		var root []byte
		if len(roots) > 0 {
			root = roots[min(i, len(roots)-1)]
		}
		s, err := upstream.Open(where, upstream.Options{Fetch: of, Root: root, Log: o.Log, Pauses: o.pauses})
		if err != nil {
			return err
		}
		c.sources = append(c.sources, s)
	}
	return ctx.Err()
}

// maxRoot bounds a root that is trusted, in bytes.
const maxRoot = 1 << 20

func readRoots(ctx context.Context, files []string) (roots [][]byte, err error) {
	for _, file := range files {
		data, err := untrusted.ReadFile(ctx, file, maxRoot)
		if err != nil {
			return nil, fmt.Errorf("the root to trust: %w", err)
		}
		if err := tuf.CheckRoot(data); err != nil {
			return nil, fmt.Errorf("%s is no root to trust: %w", file, err)
		}
		roots = append(roots, data)
	}
	return roots, nil
}

// lookUp reads what all upstreams have.
func (c *copied) lookUp(ctx context.Context) error {
	c.look = nil
	for i, s := range c.sources {
		trust, err := c.trustOf(upstream.Mirrors(c.options.Sources[i])[0])
		if err != nil {
			return err
		}
		e, err := s.Look(ctx, trust, c.lock == nil, c.options.isWhole())
		if !trust.IsZero() {
			err = errors.Join(err, trust.Close())
		}
		if err != nil {
			return err
		}
		c.look = append(c.look, e)
	}
	return c.checkDisjoint()
}

// trustOf opens what is remembered of an upstream; the zero Dir is nothing.
func (c *copied) trustOf(source string) (atomicfile.Dir, error) {
	if len(c.options.Trust) == 0 || c.root.IsZero() {
		return atomicfile.Dir{}, nil
	}
	dir := fmt.Sprintf("%s/%x", trustPath, sha256.Sum256([]byte(source)))[:len(trustPath)+17]
	if c.lock == nil {
		if _, err := c.root.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			return atomicfile.Dir{}, nil
		}
	} else if err := c.root.MkdirAll(dir, 0o777); err != nil {
		return atomicfile.Dir{}, err
	}
	return c.root.Sub(dir)
}

// checkDisjoint refuses upstreams of which two have a series, or an image, of one name.
func (c *copied) checkDisjoint() error {
	has := make(map[string]*upstream.Edition)
	claim := func(what string, e *upstream.Edition) error {
		if other := has[what]; other != nil && other != e {
			return fmt.Errorf("%w: %s and %s both have %s; leave one out, or separate mirrors of one repository by commas", ErrInput, other.Source, e.Source, what)
		}
		has[what] = e
		return nil
	}
	for _, e := range c.look {
		for _, s := range c.options.Policy.Choose(e.Series) {
			if err := claim("the series "+s.Name, e); err != nil {
				return err
			}
			for _, im := range s.Images {
				if err := claim(im.Name.String(), e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// has returns the series that the copy publishes.
func (c *copied) has() ([]meta.Series, error) {
	if c.root.IsZero() {
		return nil, nil
	}
	docs, err := published.Load(c.root, func(string) bool { return false })
	if err != nil {
		return nil, err
	}
	return docs.All(), nil
}
