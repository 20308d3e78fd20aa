package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/edition"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/loss"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/tuf"
	"puavo-image-repository/imagerepo/pull/internal/filler"
	"puavo-image-repository/imagerepo/pull/internal/selection"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// tries is how often a run begins at most, while upstream is published again and again.
const tries = 4

// run looks at the upstreams and updates the copy.
func (c *copied) run(ctx context.Context) (p Plan, s Summary, err error) {
	if err := c.lookUp(ctx); err != nil {
		return p, s, err
	}
	for n := 1; ; n++ {
		p, s, err = c.update(ctx)
		if errors.Is(err, errLost) && n < tries {
			continue
		}
		if err == nil || ctx.Err() != nil || n == tries || !isUpstreams(err) {
			return p, s, err
		}
		before := c.digests()
		if c.lookUp(ctx) != nil || before == c.digests() {
			return p, s, err
		}
		c.options.Log.Warn("upstream was published again meanwhile: starting over", "reason", err)
	}
}

// isUpstreams reports whether an error can come from an upstream that was published again.
func isUpstreams(err error) bool {
	for _, e := range []error{fetch.ErrChanged, assemble.ErrVerify, fs.ErrNotExist} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// digests identifies what all upstreams have.
func (c *copied) digests() string {
	var b strings.Builder
	for _, e := range c.look {
		b.WriteString(hexadecimal(e.Digest))
	}
	return b.String()
}

func hexadecimal(digest [32]byte) string { return fmt.Sprintf("%x", digest) }

// update makes the copy have what was chosen.
func (c *copied) update(ctx context.Context) (p Plan, s Summary, err error) {
	t, err := c.target(ctx)
	if err != nil {
		return p, s, err
	}
	if t.first != nil {
		c.options.Log.Info("making room before anything is fetched")
		if _, _, err := c.publish(ctx, t.first, 0, true); err != nil {
			return p, s, fmt.Errorf("making room: %w", err)
		}
	}
	p, s, err = c.publish(ctx, t.series, c.options.Grace, c.options.AllowRemoval)
	p.Dropped = t.dropped
	if err != nil || !c.options.MakeDeltas {
		return p, s, err
	}
	return p, s, c.addDeltas(ctx, t, &s)
}

// plan returns what update would do.
func (c *copied) plan(ctx context.Context) (Plan, error) {
	if err := c.lookUp(ctx); err != nil {
		return Plan{}, err
	}
	t, err := c.target(ctx)
	if err != nil {
		return Plan{}, err
	}
	m, err := c.write(ctx, t.series)
	if err != nil {
		return Plan{}, err
	}
	f := &filler.Filler{Log: c.options.Log}
	work, err := c.prepare(ctx, c.store, m, t.series, c.options.Grace, true)
	if err == nil {
		err = c.setUp(ctx, f, work)
	}
	if err = errors.Join(err, m.Close()); err != nil {
		return Plan{}, err
	}
	p := c.planOf(work, f)
	p.Dropped = t.dropped
	return p, nil
}

// publish makes the copy have these series.
func (c *copied) publish(ctx context.Context, series []meta.Series, grace time.Duration, allow bool) (p Plan, s Summary, err error) {
	m, err := c.write(ctx, series)
	if err != nil {
		return p, s, err
	}
	f := &filler.Filler{Store: c.disk, Dir: c.root, Log: c.options.Log, Got: c.options.Got}
	if f.Local, err = fetch.Open(c.options.Dir, fetch.Options{}); err != nil {
		return p, s, errors.Join(err, m.Close())
	}
	defer f.Local.Close()
	work, err := c.prepare(ctx, f, m, series, grace, allow)
	if err = errors.Join(err, m.Close()); err != nil {
		return p, s, err
	}
	if err := c.setUp(ctx, f, work); err != nil {
		return p, s, err
	}
	p = c.planOf(work, f)
	if err := c.sweep(ctx, f, p); err != nil {
		return p, s, err
	}
	s.Summary, err = work.Run(ctx, func(ctx context.Context) error { return ctx.Err() })
	s.Rebuilt = f.Rebuilt.Load()
	if err == nil {
		err = c.root.RemoveAll(filler.Partial)
	}
	return p, s, c.advise(err)
}

// advise adds what to do about a disk that is full.
func (c *copied) advise(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; make room in %s, or give --max-size or --reserve: what is done is kept", err, c.options.Dir)
	}
	return err
}

// prepare compares the documents in m with what the copy has. s is its store.
func (c *copied) prepare(ctx context.Context, s store.Store, m *mirror.Mirror, series []meta.Series, grace time.Duration, allow bool) (*edition.Work, error) {
	o := c.options
	how := o.Verify
	if o.ReadEvery > 0 && time.Since(c.record.Read) >= o.ReadEvery {
		how = ByReading
	}
	c.verified = how == ByReading
	v, err := edition.Look(ctx, s, how, o.Jobs)
	if err != nil {
		return nil, err
	}
	sizes := selection.Files(series)
	src := edition.Source{
		Dir: m.Root, Size: func(name string) (int64, error) {
			if size, ok := sizes[name]; ok {
				return size, nil
			}
			info, err := m.Root.Lstat(name)
			if err != nil {
				return 0, err
			}
			return info.Size(), nil
		},
		// Of a whole copy, the torrents are among the documents.
		Open: func(name string) (*os.File, error) { return c.root.Open(path.Join(editions, name)) },
	}
	if o.Sign != nil && c.lock != nil {
		src.Sign = o.Sign
	}
	return edition.Prepare(ctx, src, s, v, edition.Options{
		DryRun: c.lock == nil, Grace: grace, AllowRemoval: allow, Verify: how, Jobs: o.Jobs, Log: o.Log, Progress: o.Progress, Stage: o.Stage,
	})
}

// setUp finds out how each file comes that the plan sends.
func (c *copied) setUp(ctx context.Context, f *filler.Filler, work *edition.Work) error {
	f.Payload, f.Missing, f.Ways = make(map[string]filler.Payload), make(map[string]bool), make(map[string]filler.Way)
	for _, file := range slices.Concat(work.Plan.New, work.Plan.Changed) {
		f.Missing[file.Name] = true
	}
	var missing []meta.Image
	for _, e := range c.look {
		for _, s := range e.Series {
			for _, im := range s.Images {
				f.Payload[im.Name.String()] = filler.Payload{Sums: im.Sums, Image: im.Name, Mirrors: e.Source.Mirrors}
				if f.Missing[im.Name.String()] {
					missing = append(missing, im)
				}
				for _, d := range im.Diffs {
					f.Payload[meta.DeltaPath(d.Filename)] = filler.Payload{Sums: d.Sums, Image: im.Name, Mirrors: e.Source.Mirrors}
				}
				for _, d := range im.Compact {
					f.Payload[meta.CompactPath(d.Filename)] = filler.Payload{Sums: d.Sums, Image: im.Name, Mirrors: e.Source.Mirrors}
				}
			}
		}
	}
	if err := c.setUpMade(f); err != nil {
		return err
	}
	if c.options.NoRebuild || len(missing) == 0 {
		return ctx.Err()
	}
	files, err := c.store.List(ctx)
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, file := range files {
		there[file.Name] = !f.Missing[file.Name]
	}
	here := func(name string) bool { return there[name] || f.Missing[name] && !isImage(name) }
	for _, way := range (selection.Sourcing{Missing: missing, Here: here}).Ways() {
		if way.Diff != nil {
			f.Ways[way.Image.String()] = filler.Way{Base: way.Diff.Base, Diff: *way.Diff}
		}
	}
	return nil
}

func isImage(file string) bool { return path.Ext(file) == ".img" }

// planOf returns the plan of what was prepared.
func (c *copied) planOf(work *edition.Work, f *filler.Filler) Plan {
	p := Plan{Whole: c.options.isWhole(), Plan: work.Plan, Sources: []From{}}
	for _, file := range slices.Concat(p.New, p.Changed) {
		from := From{File: file.Name, Fetch: file.Size}
		if way, ok := f.Ways[file.Name]; ok {
			from.Base, from.Delta, from.Fetch = way.Base.String(), meta.DeltaPath(way.Diff.Filename), 0
			if !f.Missing[from.Delta] && !c.exists(from.Delta) {
				from.Fetch = way.Diff.Sums.Size
			}
		}
		p.Fetch += from.Fetch
		p.Sources = append(p.Sources, from)
	}
	return p
}

func (c *copied) exists(name string) bool {
	if c.root.IsZero() {
		return false
	}
	_, err := c.root.Lstat(name)
	return err == nil
}

// sweep removes what earlier runs have begun and this one does not need, and returns an error
// if there is no room for the rest.
func (c *copied) sweep(ctx context.Context, f *filler.Filler, p Plan) error {
	var contents []store.Content
	keep := make(map[string]bool)
	var need int64
	for _, file := range slices.Concat(p.New, p.Changed) {
		content := store.Content{Name: file.Name, Size: file.Size, SHA256: f.Payload[file.Name].Sums.SHA256}
		contents = append(contents, content)
		folder := filler.Folder(content)
		keep[path.Base(folder)] = true
		partial := path.Join(folder, assemble.PartialName(f.Payload[file.Name].Image))
		need += max(file.Size-diskspace.Used(c.root, partial)-diskspace.Used(c.root, content.Staged()), 0)
	}
	entries, err := fs.ReadDir(c.root.FS(), filler.Partial)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			if err := c.root.RemoveAll(path.Join(filler.Partial, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := c.disk.Sweep(ctx, contents); err != nil {
		return err
	}
	free, err := diskspace.Free(c.root)
	if err == nil && need > free {
		err = c.advise(fmt.Errorf("%w: %d bytes are to come, and %d are free", syscall.ENOSPC, need, free))
	}
	return err
}

// guard refuses what would lose too much, and what would mix two kinds of copies.
func (c *copied) guard(has, target []meta.Series) error {
	if c.options.AllowRemoval {
		return nil
	}
	if !slices.ContainsFunc(target, func(s meta.Series) bool { return len(s.Images) > 0 }) {
		return fmt.Errorf("%w: no image was chosen of what upstream has; check --series and --since, or permit that once with --allow-removal", ErrRemoval)
	}
	if lost := loss.Between(has, target); lost.TooMuch() {
		return tooMuch(fmt.Sprintf("the copy in %s would lose", c.options.Dir), lost)
	}
	var now []meta.Series
	for _, e := range c.look {
		now = append(now, e.Series...)
	}
	if lost := loss.Between(c.seriesBefore(), now); lost.TooMuch() {
		return tooMuch("upstream has lost", lost)
	}
	signed := c.exists(tuf.MetadataPath("timestamp", 0))
	if whole := c.options.isWhole(); signed && !c.record.Success.IsZero() && c.record.Whole != whole {
		if whole {
			return fmt.Errorf("%w: %s has signatures of its own, and not those of upstream; give another directory for a copy of all", ErrDir, c.options.Dir)
		}
		return fmt.Errorf("%w: %s has all of upstream with its signatures, which do not hold for %s; give another directory", ErrDir, c.options.Dir, c.options.why())
	}
	return nil
}

func tooMuch(what string, lost *loss.Loss) error {
	var b strings.Builder
	for _, n := range lost.Gone() {
		fmt.Fprintf(&b, "\n  %s", untrusted.Show(n.String()))
	}
	return fmt.Errorf("%w: %s %d of its %d images:%s\nNothing was changed. If these images should go, run once with --allow-removal",
		ErrRemoval, what, len(lost.Gone()), lost.All(), b.String())
}
