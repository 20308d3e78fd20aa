package breakeven

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"puavo-image-repository/bench/internal/report"
	"puavo-image-repository/cksum"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/meta"
)

// base and target are what the images of a pair are called in a mirror.
var (
	base   = meta.Name{Prefix: "bench", Version: "2024-01-01-000001", Arch: "amd64"}
	target = meta.Name{Prefix: "bench", Version: "2024-01-01-000002", Arch: "amd64"}
)

// mirror has a mirror for each kind of delta, and one with both, in directories of these
// names, and an images directory.
type mirror struct {
	pair                    Pair
	dir                     string
	images                  string
	baseSize, targetSize    int64
	rdiffSize, compactSize  int64 // what is fetched
	rdiffDelta, compactFile string
}

// newMirror makes the deltas of a pair, unless they are kept, and the mirrors.
func (o Options) newMirror(ctx context.Context, p Pair, dir string) (*mirror, error) {
	m := &mirror{
		pair: p, dir: dir, images: filepath.Join(dir, "images"),
		rdiffDelta: filepath.Join(o.Deltas, report.Slug(p.Name)+".rdiff"), compactFile: filepath.Join(o.Deltas, report.Slug(p.Name)+".cdelta"),
	}
	for _, d := range []string{o.Deltas, m.images} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			return nil, err
		}
	}
	if p.Base != "" {
		if err := o.makeDelta(ctx, p.Base, p.Target, m.rdiffDelta); err != nil {
			return nil, err
		}
		if err := linkOrCopy(ctx, p.Base, filepath.Join(m.images, base.String())); err != nil {
			return nil, err
		}
	}
	if err := o.makeDelta(ctx, p.Base, p.Target, m.compactFile, "--compact"); err != nil {
		return nil, err
	}
	series, err := m.series(ctx)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{rdiffOnly, compactOnly, both} {
		if err := m.write(ctx, kind, series); err != nil {
			return nil, err
		}
	}
	if p.Base == "" {
		return m, nil
	}
	// So that the base is known, as it is where an update was made before.
	verify := exec.CommandContext(ctx, o.Client, "verify", "-q", "--mirror", filepath.Join(dir, both), "--images-dir", m.images)
	verify.Env = o.environment()
	if out, err := verify.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("verify: %w: %s", err, out)
	}
	return m, nil
}

// makeDelta makes a delta, unless it is there.
func (o Options) makeDelta(ctx context.Context, base, target, file string, more ...string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if base == "" {
		base = os.DevNull
	}
	fmt.Fprintf(o.Log, "making %s\n", file)
	cmd := exec.CommandContext(ctx, o.Rdiff, append(append([]string{"diff"}, more...), base, target, file+".new")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", file, err, out)
	}
	return os.Rename(file+".new", file)
}

// series returns the series of a mirror with both deltas.
func (m *mirror) series(ctx context.Context) (s meta.Series, err error) {
	s.Name = target.Series()
	im := meta.Image{Name: target}
	if im.Sums, err = sumsOf(ctx, m.pair.Target); err != nil {
		return s, err
	}
	m.targetSize, m.rdiffSize = im.Sums.Size, im.Sums.Size
	if m.pair.Base != "" {
		old := meta.Image{Name: base}
		if old.Sums, err = sumsOf(ctx, m.pair.Base); err != nil {
			return s, err
		}
		d := meta.Diff{Base: base, Filename: meta.DeltaName(base, target)}
		if d.Sums, err = sumsOf(ctx, m.rdiffDelta); err != nil {
			return s, err
		}
		m.baseSize, m.rdiffSize = old.Sums.Size, d.Sums.Size
		s.Images, im.Diffs = append(s.Images, old), []meta.Diff{d}
	}
	c, err := m.compact(ctx)
	im.Compact = []meta.Compact{c}
	s.Images = append(s.Images, im)
	return s, err
}

// compact returns the entry of the compact delta.
func (m *mirror) compact(ctx context.Context) (c meta.Compact, err error) {
	f, err := os.Open(m.compactFile)
	if err != nil {
		return c, err
	}
	defer f.Close()
	delta, err := compact.Open(f)
	if err != nil {
		return c, fmt.Errorf("%s: %w", m.compactFile, err)
	}
	info := delta.Info()
	c.Memory, c.Unpacked, c.Coded = info.Memory, info.Unpacked, info.Coded
	if m.pair.Base != "" {
		c.Base = base
	}
	c.Filename = meta.CompactName(c.Base, target)
	c.Sums, err = sumsOf(ctx, m.compactFile)
	m.compactSize = c.Sums.Size
	return c, err
}

func sumsOf(ctx context.Context, file string) (cksum.Sums, error) {
	f, err := os.Open(file)
	if err != nil {
		return cksum.Sums{}, err
	}
	defer f.Close()
	return cksum.Read(ctx, f)
}

// write writes the mirror of a kind.
func (m *mirror) write(ctx context.Context, kind string, s meta.Series) error {
	dir := filepath.Join(m.dir, kind)
	place := func(path string, f *meta.File, from string) error {
		f.URLs = []string{"https://images.example.org/" + path}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			return err
		}
		return linkOrCopy(ctx, from, to)
	}
	s.Images = append([]meta.Image(nil), s.Images...)
	for i := range s.Images {
		im := &s.Images[i]
		from := m.pair.Target
		if im.Name == base {
			from = m.pair.Base
		}
		if err := place(im.Name.String(), &im.File, from); err != nil {
			return err
		}
		if kind == compactOnly {
			im.Diffs = nil
		}
		if kind == rdiffOnly {
			im.Compact = nil
		}
		for k := range im.Diffs {
			if err := place(meta.DeltaPath(im.Diffs[k].Filename), &im.Diffs[k].File, m.rdiffDelta); err != nil {
				return err
			}
		}
		for k := range im.Compact {
			if err := place(meta.CompactPath(im.Compact[k].Filename), &im.Compact[k].File, m.compactFile); err != nil {
				return err
			}
		}
	}
	data, err := s.Encode()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.FromSlash(meta.SeriesPath(s.Name)))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o666)
}

// all returns what an update reads.
func (m *mirror) all() []string {
	all := []string{m.compactFile}
	if m.pair.Base != "" {
		all = append(all, m.rdiffDelta, filepath.Join(m.images, base.String()))
	}
	return all
}

// linkOrCopy gives a file another name, or a copy of it where it cannot have one. A symbolic link
// is followed, since the client takes none for an image.
func linkOrCopy(ctx context.Context, from, to string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	_ = os.Remove(to)
	if os.Link(from, to) == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "cp", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return nil
}
