package imagerepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// publish writes the meta, the index and the lists of digests, in this order, so
// that whatever names a file comes after it, and has them signed.
func (r *run) publish(ctx context.Context) error {
	var sums []cksum.SHA256Line
	write := func(name string, data []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		sums = append(sums, cksum.SHA256Line{SHA256: sha256Of(data), Path: name})
		return r.writeFile(name, data)
	}
	series := r.documents()
	for i := range series {
		data, err := series[i].Encode()
		if err != nil {
			return err
		}
		if err := r.own(series[i].Name + ".json"); err != nil {
			return err
		}
		if err := write(meta.SeriesPath(series[i].Name), data); err != nil {
			return err
		}
	}
	index, err := meta.NewIndex(series).Encode()
	if err != nil {
		return err
	}
	if err := write(mirror.Index, index); err != nil {
		return err
	}
	if err := r.unname(); err != nil {
		return err
	}
	lines, payload := r.payload()
	if err := write(mirror.CKSUMS, cksum.AppendCKSUMS(nil, lines)); err != nil {
		return err
	}
	if err := r.writeFile(mirror.SHA256, cksum.AppendSHA256SUMS(nil, append(sums, payload...))); err != nil {
		return err
	}
	return r.signMirror(ctx)
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

func sha256Of(data []byte) cksum.Digest256 {
	h := cksum.New()
	h.Write(data)
	return h.Sums().SHA256
}

// unname takes down of images that leave the mirror that nothing names them any
// more, before the lists do not: else a run that ends in between left no trace of
// what put them there.
func (r *run) unname() error {
	for _, old := range r.plan.Remove {
		if path.Ext(old.name) == ".img" && r.record(old.name).Unnamed == 0 {
			if err := r.setUnnamed(old.name, time.Now().Unix()); err != nil {
				return err
			}
		}
	}
	return nil
}

// own makes sure that a file that is about to be written is known as the tool's
// own.
func (r *run) own(name string) error {
	r.mu.Lock()
	known := r.records[name] != nil
	r.mu.Unlock()
	if known {
		return nil
	}
	return r.put(name, r.record(name))
}

// writeFile writes a small file of the mirror unless it is as it should be.
func (r *run) writeFile(name string, data []byte) error {
	written, err := r.mirror.Root.Replace(mirror.TmpPath(path.Base(name)), name, data)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if written {
		r.changed.Store(true)
	}
	return nil
}

// documents returns what is to be published of each series.
func (r *run) documents() []meta.Series {
	var all []meta.Series
	for _, p := range r.plan.Series {
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
	record := r.record(file)
	name, _ := meta.ParseName(file) // it came from a Name
	im := meta.Image{Name: name, File: r.file(file, record.Sums), Conf: record.Conf}
	for _, d := range deltas {
		record := r.record(d)
		if record.Dropped {
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

// payload returns the lines of the images and deltas in the lists of digests.
func (r *run) payload() (lines []cksum.Line, sums []cksum.SHA256Line) {
	add := func(name string, s cksum.Sums) {
		lines = append(lines, cksum.Line{CRC: s.CRC, Size: s.Size, Name: name})
		sums = append(sums, cksum.SHA256Line{SHA256: s.SHA256, Path: mirror.PathOf(name)})
	}
	for _, im := range r.plan.Images {
		if im.Action != BaseOnly && im.Action != Retired {
			add(im.File, r.record(im.File).Sums)
		}
	}
	for _, d := range r.plan.Deltas {
		if record := r.record(d.File); !record.Dropped {
			add(d.File, record.Sums)
		}
	}
	return lines, sums
}

// remove removes what nothing names any more and is due, and the records of it.
// What is not due yet is taken down as unnamed, and what is named as named.
func (r *run) remove(ctx context.Context) error {
	remove := make(map[string]PlannedRemove)
	for _, old := range r.plan.Remove {
		remove[old.name] = old
	}
	for _, d := range r.plan.Deltas {
		if _, planned := remove[d.File]; r.record(d.File).Dropped && !planned {
			r.addDropped(remove, d.File)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.records)) {
		if _, unnamed := remove[name]; !unnamed {
			if err := r.setUnnamed(name, 0); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(remove)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.removeOne(remove[name]); err != nil {
			return fmt.Errorf("removing %s: %w", remove[name].Path, err)
		}
	}
	return nil
}

// addDropped adds the file that a delta has which this run has dropped, if it has.
func (r *run) addDropped(remove map[string]PlannedRemove, file string) {
	old := PlannedRemove{Path: meta.DeltaPath(file), name: file}
	if _, err := r.mirror.Root.Lstat(old.Path); err != nil {
		return // where it cannot be looked at, the next run plans to remove it
	}
	if r.Policy.Grace > 0 {
		old.Due = time.Now().Add(r.Policy.Grace)
	}
	remove[file] = old
}

func (r *run) removeOne(old PlannedRemove) error {
	if !old.Due.IsZero() {
		now := time.Now().Unix()
		if since := r.record(old.name).Unnamed; since != 0 && since <= now { // a clock may have gone back
			return nil
		}
		return r.setUnnamed(old.name, now)
	}
	if err := r.removeFile(old.Path); err != nil {
		return err
	}
	if !old.forget {
		return r.setUnnamed(old.name, 0)
	}
	if n, err := meta.ParseName(old.name); err == nil {
		if err := r.mirror.Root.Remove(mirror.SignaturePath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.mirror.State.Delete(old.name)
}

// removeFile removes a file of the mirror that may be gone already.
func (r *run) removeFile(path string) error {
	err := r.mirror.Root.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		r.changed.Store(true)
		r.summary.Removed++
	}
	return err
}

// setUnnamed takes down since when nothing names a file, 0 for one that is named
// or gone.
func (r *run) setUnnamed(name string, since int64) error {
	record := r.record(name)
	if record.Unnamed == since {
		return nil
	}
	record.Unnamed = since
	return r.put(name, record)
}

// withdrawReplaced takes images that are to be replaced out of what is published.
func (r *run) withdrawReplaced(ctx context.Context) error {
	return r.unpublish(ctx, func(s *meta.Series) (found bool) {
		for _, im := range r.plan.Images {
			found = im.Action == Replace && without(s, im.Name) || found
		}
		return found
	})
}

// unpublishOther takes an image out of the meta that has other digests there.
func (r *run) unpublishOther(ctx context.Context, n meta.Name, sums cksum.Sums) error {
	return r.unpublish(ctx, func(s *meta.Series) bool {
		published, found := s.Image(n)
		return found && published.Sums.SHA512 != sums.SHA512 && without(s, n)
	})
}

// unpublish takes out of the meta what take takes out of a series, so that no
// client finds another content than the meta says, and has that signed. take
// reports whether it took anything.
func (r *run) unpublish(ctx context.Context, take func(*meta.Series) bool) error {
	r.publishing.Lock()
	defer r.publishing.Unlock()
	docs, err := fs.Glob(r.mirror.Root.FS(), mirror.MetaDir+"/*.json")
	if err != nil {
		return err
	}
	taken := false
	for _, doc := range docs {
		data, err := r.mirror.Root.ReadFile(doc)
		if err != nil {
			return err
		}
		s, err := meta.ParseSeries(data)
		if err != nil || !r.held.Owned(path.Base(doc)) || !take(&s) {
			continue // not ours, or it names nothing of it
		}
		taken = true
		if data, err = s.Encode(); err != nil {
			return err
		}
		if err := r.writeFile(doc, data); err != nil {
			return err
		}
	}
	if !taken {
		return nil
	}
	return r.signMirror(ctx)
}

// without takes an image, and the deltas from it, out of a series.
func without(s *meta.Series, n meta.Name) bool {
	images := len(s.Images)
	s.Images = slices.DeleteFunc(s.Images, func(im meta.Image) bool { return im.Name == n })
	return withoutDeltas(s, func(d meta.Diff) bool { return d.Base == n }) || len(s.Images) < images
}

// withoutDeltas takes deltas out of a series.
func withoutDeltas(s *meta.Series, which func(meta.Diff) bool) bool {
	found := false
	for i := range s.Images {
		im := &s.Images[i]
		diffs := len(im.Diffs)
		im.Diffs = slices.DeleteFunc(im.Diffs, which)
		found = found || len(im.Diffs) < diffs
	}
	return found
}
