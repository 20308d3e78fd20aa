package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/compacts"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/planner"
	"puavo-image-repository/imagerepo/internal/published"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrents"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// publisher writes the documents and has them signed. Its methods can be called
// concurrently; one of them writes at a time.
type publisher struct {
	docs   *published.Documents
	ledger *ledger.Ledger
	root   atomicfile.Dir
	sign   func(ctx context.Context, mirror atomicfile.Dir) (changed bool, err error) // may be nil
	log    *slog.Logger

	bestBefore bool // see Options.BestBefore
	torrents   *torrents.Maker

	mu      sync.Mutex // held while documents are written and signed
	changed bool
}

// withdraw takes files out of what is published, so that no client finds another
// content than the documents say, and has that signed. Their torrents, which clients find
// without the documents, are removed.
func (p *publisher) withdraw(ctx context.Context, files ...string) error {
	if p.docs.Withdraw(files...) {
		if err := p.write(ctx); err != nil {
			return err
		}
	}
	for _, file := range files {
		if err := p.torrents.Discard(file, cksum.Sums{}); err != nil {
			return err
		}
	}
	return nil
}

// write writes the documents and has them signed.
func (p *publisher) write(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed, err := p.docs.Write(ctx)
	p.changed = p.changed || changed
	if err == nil && p.sign != nil {
		changed, err = p.sign(ctx, p.root)
		p.changed = p.changed || changed
	}
	if err != nil {
		return err
	}
	changed, err = p.docs.WriteBestBefore(ctx, p.ledger, p.bestBefore)
	p.changed = p.changed || changed
	return err
}

// withdrawReplaced withdraws images that the plan replaces in the mirror, and those
// that cannot be what the documents say.
func (p *publisher) withdrawReplaced(ctx context.Context, images []plan.Image) error {
	var files []string
	for _, im := range images {
		sums, published := p.docs.Sums(im.File)
		if published && im.Action == plan.Replace || published && im.Action == plan.Keep && sums.Size != im.Size {
			files = append(files, im.File)
		}
	}
	return p.withdraw(ctx, files...)
}

// recheck withdraws the images of these series whose bytes changed in place, and what
// is missing: all else of the series stays published.
func (p *publisher) recheck(ctx context.Context, series []string) error {
	var other []string
	for _, name := range series {
		s, _ := p.docs.Series(name)
		for _, im := range s.Images {
			same, err := p.isPublished(ctx, im)
			if err != nil {
				return err
			}
			if !same {
				other = append(other, im.Name.String())
				p.log.Warn("the image differs from its published digest; withdrawing it", "image", im.Name.String())
			}
			for _, d := range im.Diffs {
				if info, err := p.root.Lstat(meta.DeltaPath(d.Filename)); err != nil || info.Size() != d.Sums.Size {
					other = append(other, d.Filename)
				}
			}
			for _, c := range im.Compact {
				if info, err := p.root.Lstat(meta.CompactPath(c.Filename)); err != nil || info.Size() != c.Sums.Size {
					other = append(other, c.Filename)
				}
			}
		}
	}
	return p.withdraw(ctx, other...)
}

// isPublished reports whether an image in the mirror is what is published of it.
func (p *publisher) isPublished(ctx context.Context, im meta.Image) (bool, error) {
	file := im.Name.String()
	info, err := p.root.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return false, nil
	} else if err != nil {
		return false, err
	}
	record, stamp := p.ledger.Of(file), state.StampOf(info)
	recorded := record.Sums.SHA512 == im.Sums.SHA512
	if recorded && (record.Known(stamp) || record.Copy == stamp) {
		return true, nil
	}
	if stamp.Size != im.Sums.Size {
		return false, nil
	}
	f, err := p.root.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sums, err := cksum.Read(ctx, f)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil || sums.SHA512 != im.Sums.SHA512 {
		return false, nil
	}
	if recorded { // so that the next run need not read it
		record.Copy = stamp
		err = p.ledger.Put(file, record)
	}
	return true, err
}

// edition is what is published in the end.
type edition struct {
	series  []plan.Series   // those that were built
	kept    []string        // the others, which stay as they are
	omitted map[string]bool // deltas that could not be made
	url     string          // see Options.URL
	adopt   bool            // see Options.Adopt

	policy    plan.Compact
	compacts  *compacts.Keeper // nil until those were checked
	untouched []meta.Series    // the documents of kept
}

// edition is what the mirror publishes in the end.
func (r *run) edition() edition {
	e := edition{
		series: r.failed.left(), kept: slices.Sorted(maps.Keys(r.failed.kept())), omitted: r.results.omitted(), url: r.options.URL, adopt: r.options.Adopt,
		policy: r.options.Policy.Compact, compacts: r.compacts,
	}
	for _, name := range e.kept {
		if s, is := r.docs.Series(name); is {
			e.untouched = append(e.untouched, s)
		}
	}
	return e
}

// publish writes the documents of an edition, after flushing what they name, and has
// them signed. Orphans are recorded before the documents stop naming them: else a run
// that ended in between would leave no trace of that.
func (p *publisher) publish(ctx context.Context, e edition, orphans map[string]plan.Removal) error {
	series := e.documents(p.ledger)
	for _, s := range series {
		if name := s.Name + ".json"; !p.ledger.Has(name) { // the tool's own, before the file exists
			if err := p.ledger.Put(name, p.ledger.Of(name)); err != nil {
				return err
			}
		}
	}
	for name := range orphans {
		if path.Ext(name) == ".img" && p.ledger.Of(name).Orphaned == 0 {
			if err := p.ledger.SetOrphaned(name, time.Now().Unix()); err != nil {
				return err
			}
		}
	}
	p.docs.Publish(series, e.kept, p.rightTorrents(e))
	if e.adopt {
		if err := p.adopt(); err != nil {
			return err
		}
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	if err := p.ledger.Upgrade(); err != nil {
		return err
	}
	return p.write(ctx)
}

// offer makes the torrents of images that were read, before deltas take their time.
func (r *run) offer(ctx context.Context, maker *torrents.Maker) error {
	for _, im := range r.plan.Images {
		if im.Published() && r.failed.wants(im.Name) {
			if err := maker.Put(ctx, im.File); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// wantedTorrents returns the torrents of what will be published of the series that have not
// failed.
func (r *run) wantedTorrents() (wanted []plan.Torrent) {
	published := make(map[string]bool)
	for _, file := range r.edition().files(r.ledger) {
		published[file] = true
	}
	for _, t := range r.plan.Torrents {
		if published[t.File] {
			wanted = append(wanted, t)
		}
	}
	return wanted
}

// rightTorrents returns the SHA-256 of the torrents of an edition, by the names of their
// files.
func (p *publisher) rightTorrents(e edition) map[string]cksum.Digest256 {
	right := make(map[string]cksum.Digest256)
	for _, file := range e.files(p.ledger) {
		if sha256, is := p.torrents.Right(file); is {
			right[file] = sha256
		}
	}
	return right
}

// adopt records that all that is published is the tool's own.
func (p *publisher) adopt() error {
	for name := range p.docs.Names() {
		record := p.ledger.Of(name)
		isImage := path.Ext(name) == ".img"
		if !p.ledger.Has(name) || record.Placed == isImage && !record.Foreign {
			continue
		}
		record.Placed, record.Foreign = isImage, false
		if err := p.ledger.Put(name, record); err != nil {
			return err
		}
	}
	return nil
}

// flush flushes what the documents are about to name, unless this and all runs
// before did so when they put it there.
func (p *publisher) flush(ctx context.Context) error {
	if p.root.Reflush {
		for _, name := range slices.Sorted(maps.Keys(p.docs.Names())) {
			if path.Ext(name) == ".json" {
				continue // written next
			}
			if err := cmp.Or(ctx.Err(), p.root.Sync(mirror.PathOf(name))); err != nil {
				return err
			}
		}
	}
	// A run that was killed may not have flushed the directory of a name that exists.
	return mirror.SyncFolders(p.root)
}

// files returns the names of the images and deltas of the series that were built.
func (e edition) files(known *ledger.Ledger) (all []string) {
	for _, s := range e.documents(known) {
		for _, im := range s.Images {
			all = append(all, im.Name.String())
			for _, d := range im.Diffs {
				all = append(all, d.Filename)
			}
			for _, c := range im.Compact {
				all = append(all, c.Filename)
			}
		}
	}
	return all
}

// documents returns what is published of the series that were built.
func (e edition) documents(known *ledger.Ledger) (built []meta.Series) {
	for _, s := range e.series {
		built = append(built, e.document(s, known))
	}
	for _, c := range e.wantedCompact(built) {
		record, right := e.compacts.Right(c)
		if !right {
			continue
		}
		entry := meta.Compact{
			File: e.file(meta.CompactPath(c.File), record.Sums), Filename: c.File, Base: c.Base,
			Memory: record.Compact.Memory, Coded: record.Compact.Coded, Unpacked: record.Compact.Unpacked,
		}
		for i := range built {
			if im, is := built[i].Image(c.Target); is && slices.Contains(c.Series, built[i].Name) {
				im.Compact = published.WithCompact(im.Compact, entry)
			}
		}
	}
	return built
}

// wantedCompact returns the compact deltas that are wanted in the documents of the series that
// were built, none before it is known which are right.
func (e edition) wantedCompact(built []meta.Series) []plan.CompactDelta {
	if e.compacts == nil {
		return nil
	}
	return planner.Compact(slices.Concat(built, e.untouched), e.policy)
}

// document returns what is published of a series, but for compact deltas.
func (e edition) document(planned plan.Series, known *ledger.Ledger) meta.Series {
	s := meta.Series{Name: planned.Name, Images: []meta.Image{}}
	for _, file := range planned.Images {
		record := known.Of(file)
		name, _ := meta.ParseName(file) // it came from a Name
		im := meta.Image{Name: name, File: e.file(file, record.Sums), Conf: record.Conf}
		for _, d := range planned.Deltas[file] {
			record := known.Of(d)
			if record.Dropped || e.omitted[d] {
				continue
			}
			base, _, _ := meta.ParseDeltaName(d) // likewise
			im.Diffs = append(im.Diffs, meta.Diff{File: e.file(meta.DeltaPath(d), record.Sums), Filename: d, Base: base})
		}
		s.Images = append(s.Images, im)
	}
	return s
}

func (e edition) file(path string, sums cksum.Sums) meta.File {
	url := path
	if e.url != "" {
		url = e.url + "/" + path
	}
	return meta.File{URLs: []string{url}, Sums: sums}
}

// suspect forgets what is known of a damaged file of the mirror, so that it is
// examined and made again. An image that is damaged in the image directory itself
// cannot be made again.
func (r *run) suspect(name string) error {
	if !r.ledger.Has(name) || name == mirror.Page && r.ledger.Of(name).Foreign {
		return nil
	}
	if path.Ext(name) != ".img" {
		r.ledger.Suspect(name)
		return nil
	}
	n, err := meta.ParseOldName(name)
	if err != nil {
		return nil // a record that is not ours
	}
	original, err := os.Stat(r.source.File(n))
	if err != nil {
		return nil // it left, or the plan says what is wrong
	}
	copied, err := r.mirror.Root.Stat(name)
	if err == nil && os.SameFile(original, copied) {
		return fmt.Errorf("%s is the same file, and damaged too; replace it with the right image and run again, or build if it is correct as it is",
			r.source.File(n))
	}
	r.ledger.SuspectCopy(name)
	return nil
}
