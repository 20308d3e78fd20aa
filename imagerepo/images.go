package imagerepo

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/apart"
	"puavo-image-repository/imagerepo/internal/base"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/puavoconf"
	"puavo-image-repository/imagerepo/internal/signature"
	"puavo-image-repository/imagerepo/internal/source"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// scan finds the images. It looks only at the image directory, so that no mirror is
// made for one of which nothing can be made.
func (r *run) scan() (err error) {
	o := r.options
	if r.budget, err = budget.New(o.Memory, o.Jobs); err != nil {
		return err
	}
	if err := apart.Check(o.ImageDir, o.MirrorDir); err != nil {
		return err
	}
	for _, reason := range o.Config.Ignored() {
		o.Log.Warn("ignored", "reason", reason)
	}
	r.source, err = source.Open(o.ImageDir, o.FollowLinks)
	for _, reason := range r.source.Skipped {
		o.Log.Warn("skipped", "reason", reason)
	}
	r.confs = newConfs(r.source, o.Log)
	r.failed.imageDir = r.source.Path
	return err
}

// skipUnseen leaves out images that cannot be looked at, such as links to a disk that
// is not mounted, unless the mirror has them or a series file names them.
func (r *run) skipUnseen() {
	for n, reason := range r.source.Unusable {
		_, there := r.holds.Has(n.String())
		named := slices.ContainsFunc(r.options.Config.Series, func(s meta.SeriesConfig) bool { return slices.Contains(s.Images, n) })
		switch {
		case !errors.Is(reason, source.ErrUnseen):
		case there:
			r.source.Unusable[n] = fmt.Errorf("%w; the mirror has it, and would lose it: mount its file system, or remove it here", reason)
		case !named:
			r.options.Log.Warn("skipped", "reason", reason)
			delete(r.source.Unusable, n)
		}
	}
}

// confs are the puavo-confs of the images that are new. Its methods can be called
// concurrently.
type confs struct {
	source *source.Dir
	log    *slog.Logger

	mu     sync.Mutex
	images map[meta.Name]map[string]json.RawMessage
	none   map[meta.Name]error // images without one, not yet reported by warn
}

func newConfs(dir *source.Dir, log *slog.Logger) *confs {
	return &confs{source: dir, log: log, images: make(map[meta.Name]map[string]json.RawMessage), none: make(map[meta.Name]error)}
}

// read reads the puavo-conf of an image, once.
func (c *confs) read(ctx context.Context, n meta.Name) error {
	if c.of(n) != nil {
		return nil
	}
	f, err := c.source.Open(n)
	if err != nil {
		return err
	}
	defer f.Close()
	conf, err := puavoconf.Read(ctx, f, c.source.Stamp(n).Size)
	if err != nil && !errors.Is(err, puavoconf.ErrNone) {
		return confError(c.source.File(n), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.none[n], conf = err, map[string]json.RawMessage{}
	}
	c.images[n] = conf
	return nil
}

// warn warns once of all images that have no puavo-conf, and of those found since the last
// call. It names a few of them.
func (c *confs) warn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	const most = 8
	names := slices.SortedFunc(maps.Keys(c.none), meta.Name.Compare)
	switch n := len(names); {
	case n == 1:
		c.log.Warn("no puavo-conf found; publishing {}", "image", names[0].String(), "reason", c.none[names[0]])
	case n > 1:
		var list strings.Builder
		for i, name := range names[:min(n, most)] {
			if i > 0 {
				list.WriteString(", ")
			}
			list.WriteString(name.String())
		}
		if n > most {
			fmt.Fprintf(&list, " and %d more", n-most)
		}
		c.log.Warn("no puavo-conf found; publishing {}", "images", list.String(), "reason", fmt.Errorf("for the first: %w", c.none[names[0]]))
	}
	clear(c.none)
}

// confError returns the error for the puavo-conf of an image. That the file cannot be read
// is no fault of what it holds.
func confError(file string, err error) error {
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return fmt.Errorf("puavo-conf definitions: %w", err)
	}
	return fmt.Errorf("%w: %s: puavo-conf definitions: %w; copy or make the image again, or move it away", plan.ErrInput, file, err)
}

// of returns the puavo-conf of an image, nil if it was not read.
func (c *confs) of(n meta.Name) map[string]json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.images[n]
}

// reader reads images for their digests.
type reader struct {
	source    *source.Dir
	root      atomicfile.Dir
	ledger    *ledger.Ledger
	holds     mirror.Inventory
	confs     *confs
	failed    *failures
	publisher *publisher
	progress  *meter.Meter
	cost      int64 // of a byte, see planner.ReadCost
	jobs      int
	schedule  budget.Schedule
	bases     bases
	digest    digest
	done      func(file string, size int64) // may be nil
}

// compare compares the images that were touched with what is known of them, by the
// fastest digest, and returns those that must be read. An image that was overwritten in
// place, and so in the mirror too, is withdrawn until it is read and its deltas are
// made again.
func (r *reader) compare(ctx context.Context, images []plan.Image) (unread []plan.Image, err error) {
	var touched []plan.Image
	for _, im := range images {
		if im.Touched {
			touched = append(touched, im)
		}
	}
	var mu sync.Mutex
	known, other := make(map[string]bool), make(map[string]bool)
	err = pool.Each(ctx, r.jobs, touched, func(ctx context.Context, im plan.Image) error {
		same, err := r.isKnown(ctx, im)
		if err == nil {
			mu.Lock()
			known[im.File], other[im.File] = same, !same
			mu.Unlock()
		}
		if err == nil && !same {
			r.progress.At(r.cost).Expect(im.Size)
			err = r.confs.read(ctx, im.Name)
		}
		return r.failed.tolerate(ctx, err, im.Name)
	})
	if err != nil {
		return nil, err
	}
	var overwritten []string
	for _, im := range images {
		if im.Read && !known[im.File] {
			unread = append(unread, im)
		}
		if other[im.File] && im.Action == plan.Keep { // a copy, or another file, is as it was
			overwritten = append(overwritten, im.File)
		}
	}
	return unread, r.publisher.withdraw(ctx, overwritten...)
}

// isKnown reports whether a touched image is what is known of it: then it need not be
// read. Whoever touched it may have written it.
func (r *reader) isKnown(ctx context.Context, im plan.Image) (same bool, err error) {
	f, err := r.source.Open(im.Name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	record := r.ledger.Of(im.File)
	defer r.progress.Begin("image_compare", im.File)()
	digest, err := blake3(r.progress.At(meter.Compare).Reader(ctx, f))
	if err == nil {
		err = r.source.Unchanged(im.Name)
	}
	if err != nil || digest != record.Sums.BLAKE3 {
		return false, err
	}
	if im.Action == plan.Keep {
		if err := r.root.Sync(im.File); err != nil {
			return false, err
		}
	}
	record.Stamp = r.source.Stamp(im.Name)
	return true, r.ledger.Put(im.File, record)
}

// blake3 returns the fastest digest of what is read.
func blake3(r io.Reader) (cksum.Digest256, error) {
	digest := cksum.NewBLAKE3()
	_, err := io.Copy(digest, r)
	return cksum.Digest256(digest.Sum(nil)), err
}

// read reads images for their digests. Those that prove to be other than what is published
// are withdrawn.
func (r *reader) read(ctx context.Context, images []plan.Image) error {
	images = slices.DeleteFunc(images, func(im plan.Image) bool { return !r.failed.wants(im.Name) })
	// The largest first, so that none is left to one core at the end.
	slices.SortStableFunc(images, func(a, b plan.Image) int { return cmp.Compare(b.Size, a.Size) })
	err := pool.Each(ctx, r.schedule.Readers, images, func(ctx context.Context, im plan.Image) error {
		err := r.readImage(ctx, im)
		switch {
		case err != nil:
			err = fmt.Errorf("reading %s: %w", r.source.File(im.Name), err)
		case r.done != nil:
			r.done(im.File, im.Size)
		}
		return r.failed.tolerate(ctx, err, im.Name)
	})
	if err != nil {
		return err
	}
	var other []string
	for _, im := range images {
		sums, published := r.publisher.docs.Sums(im.File)
		if record := r.ledger.Of(im.File); published && im.Action == plan.Keep && record.Sums.SHA512 != sums.SHA512 {
			other = append(other, im.File)
		}
	}
	return r.publisher.withdraw(ctx, other...)
}

// readImage reads an image for its digests.
func (r *reader) readImage(ctx context.Context, im plan.Image) error {
	f, err := r.source.Open(im.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	in, err := r.indexing(ctx, f, im)
	if err != nil {
		return err
	}
	defer r.progress.Begin("image_read", im.File)()
	var also []io.Writer
	if im.Published() {
		also = r.publisher.torrents.Begin(im.File, im.Size)
	}
	sums, err := r.digest(ctx, r.progress.At(r.cost).Reader(ctx, in), also...)
	if errors.Is(err, delta.ErrChanged) {
		err = cmp.Or(r.source.Unchanged(im.Name), err)
	}
	if err != nil {
		return err
	}
	record := r.ledger.Of(im.File)
	isOther := record.Sums != sums
	record.Sums = sums
	if before := r.holds.Records[im.File]; im.Action == plan.Check && (before == nil || before.Sums != sums) {
		record.Copy = state.Stamp{} // what is in the mirror is a copy of another content
	}
	if err := r.source.Unchanged(im.Name); err != nil {
		return err
	}
	if im.Action == plan.Keep || im.Action == plan.Link || im.Action == plan.Replace { // whoever made it may not have flushed it
		if err := r.root.Sync(im.File); err != nil {
			return err
		}
	}
	if isOther { // a signature is of the content whose sums the record has
		if err := signature.Remove(r.root, im.Name); err != nil {
			return err
		}
	}
	record.Stamp, record.Conf = r.source.Stamp(im.Name), r.confs.of(im.Name)
	if im.Action == plan.Keep && r.holds.Takes(im.File) {
		record.Placed = true // it is the same file
	}
	r.publisher.torrents.End(im.File, sums)
	return r.ledger.Put(im.File, record)
}

// indexing returns a reader of an image that makes the index of the base that it is, if
// the memory for that is left until its deltas are made.
func (r *reader) indexing(ctx context.Context, f io.Reader, im plan.Image) (io.Reader, error) {
	if !r.schedule.Held(im.Name) {
		return f, nil
	}
	return r.bases[im.Name].Reader(ctx, f)
}

// bases are what the deltas of a plan are made from, by the image or its signature.
// They are closed when their deltas are made, or else when the run ends.
type bases map[meta.Name]*base.Base

// imageEncoder is what makes the deltas from an image: its index. It is a variable
// since tests have one that makes wrong deltas.
var imageEncoder func(path string, index base.Encoder) base.Encoder

// bases returns the bases of the plan, not opened yet.
func (r *run) bases(progress *meter.Meter) bases {
	all := make(bases)
	for _, g := range budget.Groups(r.plan) {
		d, sweep := g[0], r.schedule.Sweep(g)
		if d.Retired {
			all[d.Base] = base.Signature(filepath.Join(r.mirror.Dir, mirror.SignaturePath(d.Base)), d.BaseSize, progress)
			continue
		}
		path := r.source.File(d.Base)
		all[d.Base] = base.Image(path, d.BaseSize, delta.Options{Memory: sweep.Index, Effort: r.options.Effort, Cores: sweep.Cores}, progress)
		all[d.Base].SumsAsWritten = r.schedule.Scarce
		if imageEncoder != nil {
			all[d.Base].Encoder = func(x base.Encoder) base.Encoder { return imageEncoder(path, x) }
		}
	}
	return all
}

func (b bases) close() {
	for _, from := range b {
		from.Close()
	}
}

// sign signs images that left, before anything of theirs is removed. It returns the plan
// without those that could not be signed: the deltas from them are left out, and with
// their files their records go, so that the next run plans as if they had never been there.
func (r *run) sign(ctx context.Context, signer *signature.Signer, progress *meter.Meter) (plan.Plan, error) {
	unsigned, err := signer.Sign(ctx, r.plan.Images)
	if err != nil {
		return plan.Plan{}, err
	}
	isUnsigned := func(n meta.Name) bool { return slices.Contains(unsigned, n) }
	r.results.changed = slices.ContainsFunc(r.plan.Images, func(im plan.Image) bool { return im.Sign && !isUnsigned(im.Name) })
	p := r.plan
	p.Deltas = nil
	for _, d := range r.plan.Deltas {
		if !isUnsigned(d.Base) {
			p.Deltas = append(p.Deltas, d)
		} else if r.failed.wantsDelta(d) {
			progress.Expect(-planner.DeltaWork(d))
			r.results.delta(d, plan.Omit, r.ledger.Of(d.File))
		}
	}
	p.Remove = slices.Clone(p.Remove)
	for i, old := range p.Remove {
		n, err := meta.ParseName(old.Name())
		p.Remove[i].Forget = old.Forget || err == nil && isUnsigned(n)
	}
	return p, nil
}
