package archive

import (
	"context"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/imagediff"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta/untrusted"
)

// Version is what the archive has of a version.
type Version struct {
	Group     string          `json:"group"`
	Version   string          `json:"version"`
	Name      string          `json:"name"` // of the image's file
	Size      int64           `json:"size"` // bytes
	BLAKE3    cksum.Digest256 `json:"blake3"`
	SHA256    cksum.Digest256 `json:"sha256,omitzero"`  // zero for the disk of a guest
	Form      catalog.Form    `json:"form"`             // whole, rdiff or compact
	Stored    int64           `json:"stored"`           // bytes of its file
	File      string          `json:"file"`             // in the archive
	Parent    string          `json:"parent,omitempty"` // the version that its delta starts from
	Deltas    int             `json:"deltas"`           // that make it
	Added     time.Time       `json:"added"`
	Modified  time.Time       `json:"modified,omitzero"` // the image, when it was added
	Note      string          `json:"note,omitempty"`
	Protected bool            `json:"protected"`
	// Due is when GC removes a version that is in the trash.
	Due time.Time `json:"due,omitzero"`
}

// List returns the versions of the groups that match, oldest first, those in the trash last.
func (s *Store) List(groups plan.Globs) (all []Version, err error) {
	names, err := s.chosen(groups)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		g, err := s.open(name)
		if err != nil {
			return all, err
		}
		g.close()
		for _, v := range g.c.Versions {
			all = append(all, g.describe(v.Version))
		}
		for _, p := range g.c.Trash {
			v := g.describe(p.Version.Version)
			v.Due = p.Due
			all = append(all, v)
		}
	}
	return all, nil
}

// describe returns what the catalog says of a version.
func (g *group) describe(version string) Version {
	steps, _ := g.c.Path(version)
	s := steps[len(steps)-1]
	v := s.Version
	return Version{
		Group: g.name, Version: v.Version, Name: v.Name, Size: v.Size, BLAKE3: v.BLAKE3, SHA256: v.SHA256,
		Form: v.Stored.Form, Stored: v.Stored.Size, File: g.name + "/" + s.File, Parent: v.Stored.Parent, Deltas: len(steps) - 1,
		Added: v.Added, Modified: v.Modified, Note: v.Note, Protected: v.Protected,
	}
}

// Show returns a version, and before it those that make it: the first is whole.
func (s *Store) Show(group, version string) (path []Version, err error) {
	g, err := s.open(group)
	if err != nil {
		return nil, err
	}
	defer g.close()
	steps, err := g.path(version)
	if err != nil {
		return nil, err
	}
	for _, step := range steps {
		path = append(path, g.describe(step.Version.Version))
	}
	return path, nil
}

// Diff compares two versions of a group, see imagediff.Compare. It needs no more room than
// reading them does.
func (s *Store) Diff(ctx context.Context, group, older, newer string, report func(imagediff.Change) error) (same int, err error) {
	var images []imagediff.Image
	for _, version := range []string{older, newer} {
		o, err := s.openVersion(ctx, group, version)
		if err != nil {
			return 0, err
		}
		defer o.close()
		c, err := content.Open(ctx, o.g.dir, o.files, s.reading())
		if err != nil {
			return 0, err
		}
		defer c.Close()
		images = append(images, imagediff.Image{ReaderAt: c, Name: untrusted.Show(group + " " + version), Size: c.Size()})
	}
	return imagediff.CompareImages(ctx, images[0], images[1], report)
}
