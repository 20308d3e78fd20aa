package imagerepo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
)

// publish writes the meta, the index and the lists of digests, in this order, so
// that whatever names a file comes after it.
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
	lines, payload := r.payload()
	if err := write(mirror.CKSUMS, cksum.AppendCKSUMS(nil, lines)); err != nil {
		return err
	}
	return r.writeFile(mirror.SHA256, cksum.AppendSHA256SUMS(nil, append(sums, payload...)))
}

func sha256Of(data []byte) cksum.Digest256 {
	h := cksum.New()
	h.Write(data)
	return h.Sums().SHA256
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
		if im.Action != BaseOnly {
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

// remove removes what nothing names any more, and the records of it.
func (r *run) remove(ctx context.Context) error {
	remove := r.plan.Remove
	for _, d := range r.plan.Deltas {
		if r.record(d.File).Dropped {
			remove = append(remove, PlannedRemove{Path: meta.DeltaPath(d.File)})
		}
	}
	for _, old := range remove {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.removeOne(old); err != nil {
			return fmt.Errorf("removing %s: %w", old.Path, err)
		}
	}
	return nil
}

func (r *run) removeOne(old PlannedRemove) error {
	err := r.mirror.Root.Remove(old.Path)
	if err == nil {
		r.changed.Store(true)
		r.summary.Removed++
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old.forget == "" {
		return nil
	}
	if n, err := meta.ParseName(old.forget); err == nil {
		if err := r.mirror.Root.Remove(mirror.SignaturePath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return r.mirror.State.Delete(old.forget)
}

// without takes an image and the deltas from it out of a series, and reports
// whether there was any.
func without(s *meta.Series, n meta.Name) bool {
	found := false
	images := s.Images[:0]
	for _, im := range s.Images {
		if im.Name == n {
			found = true
			continue
		}
		diffs := im.Diffs[:0]
		for _, d := range im.Diffs {
			if d.Base == n {
				found = true
				continue
			}
			diffs = append(diffs, d)
		}
		im.Diffs = diffs
		images = append(images, im)
	}
	s.Images = images
	return found
}
