package imagerepo

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"path"
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// publish writes the documents, after flushing what they name, and has them signed.
// Where no series was built, all stays as it is.
func (r *run) publish(ctx context.Context) error {
	if r.built() == 0 {
		return nil
	}
	series := r.documents()
	for _, s := range series {
		if err := r.own(s.Name + ".json"); err != nil {
			return err
		}
	}
	if err := r.orphan(); err != nil {
		return err
	}
	var kept []string
	for _, f := range r.failedSeries() {
		kept = append(kept, f.Name)
	}
	r.docs.Publish(series, kept)
	if err := r.adopt(); err != nil {
		return err
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	if err := r.ledger.Upgrade(); err != nil {
		return err
	}
	return r.writeDocuments(ctx)
}

// flush flushes what the documents are about to name, unless this and all runs
// before did so when they put it there.
func (r *run) flush(ctx context.Context) error {
	if r.mirror.Root.Reflush {
		for _, name := range slices.Sorted(maps.Keys(r.docs.Names())) {
			if path.Ext(name) == ".json" {
				continue // written next
			}
			if err := cmp.Or(ctx.Err(), r.mirror.Root.Sync(mirror.PathOf(name))); err != nil {
				return err
			}
		}
	}
	// Of a name that is there, a run that was killed may not have flushed the directory.
	return errors.Join(r.mirror.Root.SyncDir(mirror.DeltaDir), r.mirror.Root.SyncDir("."))
}

// signMirror has signed what is published, if it is to be.
func (r *run) signMirror(ctx context.Context) error {
	if r.Sign == nil {
		return nil
	}
	signed, err := r.Sign(ctx, r.mirror.Root)
	if signed {
		r.changed.Store(true)
	}
	return err
}

// own makes sure that a file that is about to be written is known as the tool's
// own.
func (r *run) own(name string) error {
	if r.ledger.Has(name) {
		return nil
	}
	return r.ledger.Put(name, r.ledger.Of(name))
}

// adopt records, if that is asked for, that all that is published is the tool's own.
func (r *run) adopt() error {
	if !r.Adopt {
		return nil
	}
	for name := range r.docs.Names() {
		record := r.ledger.Of(name)
		isImage := path.Ext(name) == ".img"
		if !r.ledger.Has(name) || record.Placed == isImage && !record.Foreign {
			continue
		}
		record.Placed, record.Foreign = isImage, false
		if err := r.ledger.Put(name, record); err != nil {
			return err
		}
	}
	return nil
}

// orphan records of images that leave the mirror that nothing names them any more,
// before the lists do not: else a run that ends in between left no trace of that.
func (r *run) orphan() error {
	failed := r.failedFiles()
	for _, old := range r.plan.Remove {
		if path.Ext(old.name) == ".img" && !keeps(failed, old.name) && r.ledger.Of(old.name).Unnamed == 0 {
			if err := r.setUnnamed(old.name, time.Now().Unix()); err != nil {
				return err
			}
		}
	}
	return nil
}

// documents returns what is to be published of each series.
func (r *run) documents() []meta.Series {
	var all []meta.Series
	for _, p := range r.plan.Series {
		if r.failed[p.Name] != nil {
			continue
		}
		s := meta.Series{Name: p.Name, Images: []meta.Image{}}
		for _, file := range p.Images {
			s.Images = append(s.Images, r.image(file, p.Deltas[file]))
		}
		all = append(all, s)
	}
	return all
}

// image returns what is published of an image and its deltas.
func (r *run) image(file string, deltas []string) meta.Image {
	record := r.ledger.Of(file)
	name, _ := meta.ParseName(file) // it came from a Name
	im := meta.Image{Name: name, File: r.file(file, record.Sums), Conf: record.Conf}
	for _, d := range deltas {
		record := r.ledger.Of(d)
		if record.Dropped || r.omitted[d] {
			continue
		}
		base, _, _ := meta.ParseDeltaName(d) // likewise
		im.Diffs = append(im.Diffs, meta.Diff{File: r.file(meta.DeltaPath(d), record.Sums), Filename: d, Base: base})
	}
	return im
}

func (r *run) file(where string, sums cksum.Sums) meta.File {
	url := where
	if r.URL != "" {
		url = r.URL + "/" + where
	}
	return meta.File{URLs: []string{url}, Sums: sums}
}
