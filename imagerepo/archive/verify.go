package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/archive/internal/rebuild"
	"puavo-image-repository/imagerepo/internal/meter"
	"puavo-image-repository/imagerepo/plan"
)

// VerifyOptions say what is verified.
type VerifyOptions struct {
	Groups plan.Globs
	// Deep makes each version from the files and compares its digest. Without it, the files
	// are read and compared with the digests that the catalog has of them.
	Deep   bool
	Sample float64 // percent of the versions of each group, chosen at random; 0 is all
}

// Finding is something that is wrong.
type Finding struct {
	Group   string `json:"group"`
	Version string `json:"version,omitempty"`
	Problem string `json:"problem"`
	// Hurt are the versions that cannot be made because of it.
	Hurt []string `json:"hurt,omitempty"`
}

// Report is what Verify found.
type Report struct {
	Groups   int       `json:"groups"`
	Versions int       `json:"versions"` // that were looked at
	Bytes    int64     `json:"bytes"`    // that were read, or made
	Findings []Finding `json:"findings"`
}

// Verify looks for damage. It takes no lock and changes nothing. The error wraps ErrWrong if
// something was found.
func (s *Store) Verify(ctx context.Context, o VerifyOptions) (r Report, err error) {
	r.Findings = []Finding{}
	names, err := s.chosen(o.Groups)
	if err != nil {
		return r, err
	}
	m := s.meter(0)
	for _, name := range names {
		r.Groups++
		if err := s.verifyGroup(ctx, name, o, &r, m); err != nil {
			return r, err
		}
	}
	if len(r.Findings) > 0 {
		return r, fmt.Errorf("%d problems: %w", len(r.Findings), ErrWrong)
	}
	return r, ctx.Err()
}

// verifyGroup verifies a group, again if it was changed meanwhile.
func (s *Store) verifyGroup(ctx context.Context, name string, o VerifyOptions, r *Report, m *meter.Meter) error {
	for try := 0; ; try++ {
		g, err := s.open(name)
		if errors.Is(err, ErrDamaged) {
			r.Findings = append(r.Findings, Finding{Group: name, Problem: err.Error()})
			return nil
		} else if err != nil {
			return err
		}
		part := *r
		part.Findings = nil
		err = s.verifyVersions(ctx, g, o, &part, m)
		now, _, loadErr := catalog.Load(g.Dir, name)
		g.Close()
		if err != nil {
			return err
		}
		if len(part.Findings) == 0 || try == retries || loadErr == nil && now.Generation == g.C.Generation {
			part.Findings = append(r.Findings, part.Findings...)
			*r = part
			return nil
		}
	}
}

// verifyVersions verifies what the catalog of a group has.
func (s *Store) verifyVersions(ctx context.Context, g *group.Group, o VerifyOptions, r *Report, m *meter.Meter) error {
	for _, file := range g.Wrong {
		r.Findings = append(r.Findings, Finding{Group: g.Name, Problem: file + " is damaged, missing or old; the other copy is good, and the next command that changes the archive rewrites both"})
	}
	versions := sample(g.All(), o.Sample)
	var work int64
	for _, v := range versions {
		step, _ := g.C.Find(v)
		if o.Deep {
			work += step.Size * meter.Apply
		} else {
			work += step.Stored.Size * meter.Compare
		}
	}
	m.At(1).Expect(work)
	for _, version := range versions {
		r.Versions++
		err := s.verifyVersion(ctx, g, version, o.Deep, r, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Findings = append(r.Findings, Finding{Group: g.Name, Version: version, Problem: err.Error(), Hurt: g.Hurt(version)})
		}
	}
	strangers, err := g.Strangers()
	for _, file := range strangers {
		r.Findings = append(r.Findings, Finding{Group: g.Name, Problem: file + " is not in the catalog; if a run was interrupted, the next one completes it"})
	}
	return err
}

// verifyVersion verifies a version.
func (s *Store) verifyVersion(ctx context.Context, g *group.Group, version string, deep bool, r *Report, m *meter.Meter) error {
	defer m.Begin("archive_verify", g.Name+"/"+version)()
	step, _ := g.C.Find(version)
	if !deep {
		name, err := content.Locate(ctx, g.Dir, step)
		if err != nil {
			return err
		}
		r.Bytes += step.Stored.Size
		return content.Check(ctx, g.Dir, name, step.Stored, m.At(meter.Compare).Add)
	}
	c, err := s.contentOf(ctx, g, version, g.Dir)
	if err != nil {
		return err
	}
	defer c.Close()
	r.Bytes += step.Size
	from := m.At(meter.Apply).Reader(ctx, io.NewSectionReader(c, 0, c.Size()))
	got, err := content.Digest(ctx, from, cksum.Sums{BLAKE3: step.BLAKE3}, nil)
	if err == nil && got.BLAKE3 != step.BLAKE3 {
		err = fmt.Errorf("%w: its BLAKE3 is %s, not %s", ErrWrong, got.BLAKE3, step.BLAKE3)
	}
	return err
}

// sample returns a share of versions, but at least one.
func sample(versions []string, percent float64) []string {
	if percent <= 0 || percent >= 100 {
		return versions
	}
	rand.Shuffle(len(versions), func(i, j int) { versions[i], versions[j] = versions[j], versions[i] })
	return versions[:int(math.Ceil(float64(len(versions))*percent/100))]
}

// rebuiltGrace is how long stays in the trash what was found there without a catalog.
const rebuiltGrace = 7 * 24 * time.Hour

// Rebuild makes the catalogs again of the groups of which no right copy is left, from the files
// and from SHA256SUMS. Notes and what is protected are lost. It returns the names of the groups,
// and what could not be used.
func (s *Store) Rebuild(ctx context.Context) (rebuilt, lost []string, err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	names, err := s.directories(func(name string) bool {
		_, err := s.dir.Lstat(name + "/" + catalog.SumsFile)
		_, diskErr := s.dir.Lstat(name + "/" + catalog.BLAKE3File)
		return err == nil || diskErr == nil || s.isGroup(name)
	})
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		g, err := s.open(name)
		if err == nil {
			g.Close()
			continue
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknown) { // nothing there has its name yet
			return rebuilt, lost, err
		}
		left, err := s.rebuildGroup(ctx, name)
		if err != nil {
			return rebuilt, lost, fmt.Errorf("group %s: %w", name, err)
		}
		rebuilt = append(rebuilt, name)
		lost = append(lost, left...)
	}
	return rebuilt, lost, ctx.Err()
}

// rebuildGroup makes the catalog of a group again.
func (s *Store) rebuildGroup(ctx context.Context, name string) (lost []string, err error) {
	dir, err := s.dir.Sub(name)
	if err != nil {
		return nil, err
	}
	g := &group.Group{Dir: dir, Name: name}
	defer g.Close()
	defer s.meter(0).Begin("archive_rebuild", name)()
	now := s.o.Now().UTC().Round(time.Second)
	if g.C, lost, err = rebuild.Catalog(ctx, dir, name, now, now.Add(rebuiltGrace), s.reading()); err != nil {
		return lost, err
	}
	for i, file := range lost {
		lost[i] = name + "/" + file
	}
	if err := catalog.Save(dir, g.C); err != nil {
		return lost, err
	}
	return lost, g.Settle(ctx)
}
