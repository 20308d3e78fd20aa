package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/archive/internal/group"
	"puavo-image-repository/imagerepo/archive/internal/target"
	"puavo-image-repository/imagerepo/imagediff"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta/untrusted"
)

// ErrWrong is wrapped by the error for a version, or a file, that is not what the catalog says.
var ErrWrong = content.ErrWrong

// Restored is what a restore writes.
type Restored struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	File    string `json:"file"` // the image's, when it was added
	Out     string `json:"out"`
	Device  bool   `json:"device"`
	Size    int64  `json:"size"` // bytes
	content.Plan
	Resumed int64 `json:"resumed"` // bytes that an earlier run has left, or that the device has already
	Space   int64 `json:"space"`   // bytes of the disk that are needed, temporary files too
	Free    int64 `json:"free"`    // bytes; of a device its size
}

// retries is how often a group is opened again that another process changes meanwhile.
const retries = 5

// opened is a version that can be read, whatever becomes of the archive.
type opened struct {
	g     *group.Group
	v     catalog.Version
	files content.Files
	plan  content.Plan
}

func (o *opened) close() {
	o.files.Close()
	o.g.Close()
}

// openVersion opens the files of a version, all of one state of the group.
func (s *Store) openVersion(ctx context.Context, group, version string) (*opened, error) {
	for try := 0; ; try++ {
		o, err := s.tryVersion(ctx, group, version)
		if err == nil {
			now, _, loadErr := catalog.Load(o.g.Dir, group)
			if loadErr == nil && now.Generation == o.g.C.Generation {
				return o, nil
			}
			o.close()
			err = fmt.Errorf("the group %s keeps changing; run the command again", group)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if try == retries {
			return nil, err
		}
	}
}

func (s *Store) tryVersion(ctx context.Context, group, version string) (*opened, error) {
	g, err := s.open(group)
	if err != nil {
		return nil, err
	}
	steps, err := g.Path(version)
	if err != nil {
		g.Close()
		return nil, err
	}
	files, err := content.OpenFiles(ctx, g.Dir, steps)
	if err != nil {
		g.Close()
		return nil, err
	}
	return &opened{g, steps[len(steps)-1].Version, files, content.PlanOf(steps, s.reading())}, nil
}

// PlanRestore returns what Restore would do. It changes nothing.
func (s *Store) PlanRestore(ctx context.Context, group, version, out string, overwrite bool) (Restored, error) {
	r, o, t, err := s.planRestore(ctx, group, version, out, overwrite)
	if err == nil {
		t.Close()
		o.close()
	}
	return r, err
}

func (s *Store) planRestore(ctx context.Context, group, version, out string, overwrite bool) (r Restored, o *opened, t *target.Target, err error) {
	if o, err = s.openVersion(ctx, group, version); err != nil {
		return r, nil, nil, err
	}
	r = Restored{Group: group, Version: version, File: o.v.Name, Out: out, Size: o.v.Size, Plan: o.plan}
	if t, err = target.Open(out, overwrite, s.o.NoSync); err == nil {
		if err = s.measure(&r, t); err == nil {
			return r, o, t, nil
		}
		t.Close()
	}
	o.close()
	return r, nil, nil, err
}

// measure compares what is needed with what there is.
func (s *Store) measure(r *Restored, t *target.Target) (err error) {
	if t.IsDevice() {
		r.Device = true
		r.Space = r.Temporary
		if r.Free, err = t.DeviceSize(); err == nil && r.Free < r.Size {
			err = fmt.Errorf("%w: the device %s has %d bytes, the version %d", ErrSpace, r.Out, r.Free, r.Size)
		}
		return err
	}
	r.Space = r.Size - min(t.Used(), r.Size) + r.Temporary
	r.Free, err = s.checkSpace(t.Dir, r.Space)
	return err
}

// Restore writes a version, of the trash too, to the path out: a file, which appears when it
// is complete, or a block device that nobody uses. What exists must be meant to be overwritten.
// Where an earlier call has left a part, that is compared, and the work goes on from there. The
// archive is not locked. The error wraps ErrWrong where the digest is wrong; then a file does not
// appear. It wraps ErrLocked where another process restores to the same file.
func (s *Store) Restore(ctx context.Context, group, version, out string, overwrite bool) (Restored, error) {
	r, o, t, err := s.planRestore(ctx, group, version, out, overwrite)
	if err != nil {
		return r, err
	}
	defer o.close()
	defer t.Close()
	unlock, err := t.Lock()
	if err != nil {
		return r, err
	}
	defer unlock()
	scratch := t.Dir
	if t.IsDevice() {
		scratch = o.g.Dir
	}
	m := s.meter(r.Size)
	defer m.Begin("archive_restore", group+"/"+version)()
	c, err := content.Open(ctx, scratch, o.files, s.reading())
	if err != nil {
		return r, err
	}
	defer c.Close()
	r.Resumed, err = t.Write(ctx, target.Source{ReaderAt: c, Size: o.v.Size, BLAKE3: o.v.BLAKE3, Progress: m.Add})
	if err != nil {
		err = fmt.Errorf("restoring version %s of %s to %s: %w", version, group, out, err)
	}
	return r, err
}

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
	// Attached are the log of a guest's backup, and what was attached, in the archive. Only Show
	// sets it.
	Attached []string `json:"attached,omitempty"`
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
		g.Close()
		for _, v := range g.C.Versions {
			all = append(all, describe(g, v.Version))
		}
		for _, p := range g.C.Trash {
			v := describe(g, p.Version.Version)
			v.Due = p.Due
			all = append(all, v)
		}
	}
	return all, nil
}

// describe returns what the catalog says of a version.
func describe(g *group.Group, version string) Version {
	steps, _ := g.C.Path(version)
	s := steps[len(steps)-1]
	v := s.Version
	return Version{
		Group: g.Name, Version: v.Version, Name: v.Name, Size: v.Size, BLAKE3: v.BLAKE3, SHA256: v.SHA256,
		Form: v.Stored.Form, Stored: v.Stored.Size, File: g.Name + "/" + s.File, Parent: v.Stored.Parent, Deltas: len(steps) - 1,
		Added: v.Added, Modified: v.Modified, Note: v.Note, Protected: v.Protected,
	}
}

// Show returns a version, and before it those that make it: the first is whole.
func (s *Store) Show(group, version string) (path []Version, err error) {
	g, err := s.open(group)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	steps, err := g.Path(version)
	if err != nil {
		return nil, err
	}
	for _, step := range steps {
		path = append(path, describe(g, step.Version.Version))
	}
	path[len(path)-1].Attached = s.attachedTo(group, version)
	return path, nil
}

// attachedTo returns the files that are attached to a version of a guest's disk.
func (s *Store) attachedTo(group, version string) (files []string) {
	owner, _, isDisk := strings.Cut(group, "/")
	if !isDisk {
		return nil
	}
	entries, _ := fs.ReadDir(s.dir.FS(), owner+"/"+version) // there may be none
	for _, e := range entries {
		files = append(files, owner+"/"+version+"/"+e.Name())
	}
	return files
}

// Diff compares two versions of a group, see imagediff.Compare. It needs no more room than
// reading them does.
func (s *Store) Diff(ctx context.Context, group, older, newer string, report func(imagediff.Change) error) (same int, err error) {
	if err := s.check(group); err == nil && strings.Contains(group, "/") {
		return 0, fmt.Errorf("%s is the disk of a guest, of which files are not compared; restore both versions, and mount them", group)
	}
	var images []imagediff.Image
	for _, version := range []string{older, newer} {
		o, err := s.openVersion(ctx, group, version)
		if err != nil {
			return 0, err
		}
		defer o.close()
		c, err := content.Open(ctx, o.g.Dir, o.files, s.reading())
		if err != nil {
			return 0, err
		}
		defer c.Close()
		images = append(images, imagediff.Image{ReaderAt: c, Name: untrusted.Show(group + " " + version), Size: c.Size()})
	}
	return imagediff.CompareImages(ctx, images[0], images[1], report)
}
