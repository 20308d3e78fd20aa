// Package rebuild makes the catalog of a group from what lies in its directory, for when no
// right copy of it is left.
//
// SHA256SUMS, where it is right, says what each version must be. So what makes a version is
// tried until that comes out: each of its files, and of a delta each newer version as the
// parent, the next first. A run that died may have left two files of a version, or files of
// versions that it was about to remove. Of versions that are not in SHA256SUMS only files that
// have their names count, and only the next newer version as the parent: what comes out is
// then taken for right.
package rebuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/content"
	"puavo-image-repository/imagerepo/atomicfile"
)

// builder makes a catalog.
type builder struct {
	dir    atomicfile.Dir
	group  string
	now    time.Time
	memory int64
	sums   map[string]cksum.Digest256 // SHA-256 by version
	others map[string]cksum.Digest256 // BLAKE3 of those without one
	live   []catalog.Step             // that were found, the newest first
	used   map[string]bool            // files
}

// Catalog returns the catalog of a group, and the files of versions that it could not use. due
// is when what is in the trash can be removed; memory is for commands of deltas, in bytes.
// Versions that are not in SHA256SUMS, and come out wrong, are not noticed.
func Catalog(ctx context.Context, dir atomicfile.Dir, group string, now, due time.Time, memory int64) (c *catalog.Catalog, lost []string, err error) {
	b := &builder{dir: dir, group: group, now: now, memory: memory, used: make(map[string]bool)}
	if err := b.readSums(); err != nil {
		return nil, nil, err
	}
	files, err := b.files(".")
	if err != nil {
		return nil, nil, err
	}
	for _, version := range newestFirst(files) {
		if err := b.version(ctx, version, files[version]); err != nil {
			return nil, nil, err
		}
	}
	if len(b.live) == 0 {
		return nil, nil, errors.New("no version can be made from the files there; restore the group from another copy of the archive")
	}
	c = &catalog.Catalog{Group: group, Generation: 1}
	if err := b.arrange(c); err != nil {
		return nil, nil, err
	}
	if err := b.trash(ctx, c); err != nil {
		return nil, nil, err
	}
	for i := range c.Trash {
		c.Trash[i].Pruned, c.Trash[i].Due = now, due
	}
	for _, all := range files {
		for _, file := range all {
			if !b.used[file] && !strings.HasSuffix(file, catalog.New) && c.Index(versionOf(file)) >= 0 {
				c.Obsolete = append(c.Obsolete, file)
			} else if !b.used[file] {
				lost = append(lost, file)
			}
		}
	}
	slices.Sort(c.Obsolete)
	slices.Sort(lost)
	return c, lost, c.Check()
}

func versionOf(file string) string {
	version, _, _ := catalog.ParseFile(strings.TrimSuffix(file, catalog.New))
	return version
}

// maxSums bounds SHA256SUMS, in bytes.
const maxSums = 64 << 20

// readSums reads SHA256SUMS and BLAKE3SUMS.
func (b *builder) readSums() (err error) {
	if b.sums, err = b.readList(catalog.SumsFile); err == nil {
		b.others, err = b.readList(catalog.BLAKE3File)
	}
	return err
}

// readList reads a list of digests by versions. One that is missing or damaged has none.
func (b *builder) readList(file string) (map[string]cksum.Digest256, error) {
	sums := make(map[string]cksum.Digest256)
	data, err := b.dir.ReadFile(file, maxSums)
	if errors.Is(err, fs.ErrNotExist) {
		return sums, nil
	} else if err != nil {
		return nil, err
	}
	lines, err := cksum.ParseSHA256SUMS(bytes.NewReader(data))
	if err != nil {
		return sums, nil
	}
	for _, l := range lines {
		sums[strings.TrimSuffix(l.Path, ".img")] = l.SHA256
	}
	return sums, nil
}

// known reports whether a list says what a version must be.
func (b *builder) known(version string) bool {
	_, sha256 := b.sums[version]
	_, blake3 := b.others[version]
	return sha256 || blake3
}

// right reports whether digests are those that the lists have of a version.
func (b *builder) right(version string, made cksum.Sums) bool {
	sha256, has := b.sums[version]
	blake3, other := b.others[version]
	return (!has || sha256 == made.SHA256) && (!other || blake3 == made.BLAKE3)
}

// files returns the files of a directory by versions: deltas first, and what has no final name
// last.
func (b *builder) files(dir string) (map[string][]string, error) {
	entries, err := fs.ReadDir(b.dir.FS(), dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := make(map[string][]string)
	for _, e := range entries {
		file := e.Name()
		if dir != "." {
			file = dir + "/" + file
		}
		if version := versionOf(file); version != "" {
			files[version] = append(files[version], file)
		}
	}
	rank := func(file string) (n int) {
		if strings.HasSuffix(file, catalog.New) {
			n = 2
		}
		if strings.Contains(file, ".img") {
			n++
		}
		return n
	}
	for _, all := range files {
		slices.SortStableFunc(all, func(x, y string) int { return rank(x) - rank(y) })
	}
	return files, nil
}

func newestFirst(files map[string][]string) (versions []string) {
	for version := range files {
		versions = append(versions, version)
	}
	slices.Sort(versions)
	slices.Reverse(versions)
	return versions
}

// version finds what makes a version.
func (b *builder) version(ctx context.Context, version string, files []string) error {
	known := b.known(version)
	if !known { // a whole file needs no guess
		files = slices.DeleteFunc(slices.Clone(files), func(f string) bool { return strings.HasSuffix(f, catalog.New) })
		slices.Reverse(files)
	}
	parents := len(b.live)
	if !known {
		parents = min(1, parents)
	}
	for back := range max(parents, 1) {
		for _, file := range files {
			_, form, _ := catalog.ParseFile(strings.TrimSuffix(file, catalog.New))
			if isWhole := form == catalog.Whole; isWhole && back > 0 || !isWhole && back >= parents {
				continue
			}
			step, err := b.try(ctx, version, file, form, len(b.live)-1-back)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				b.live = append(b.live, step)
				return nil
			}
		}
	}
	return nil
}

// errOther is the error for what comes out and is another version than SHA256SUMS says.
var errOther = errors.New("another content")

// try makes a version from a file, and of a delta from the version at parent.
func (b *builder) try(ctx context.Context, version, file string, form catalog.Form, parent int) (step catalog.Step, err error) {
	f, err := b.dir.Open(file)
	if err != nil {
		return step, err
	}
	defer f.Close()
	sums, err := content.Digest(ctx, f, cksum.Sums{BLAKE3: cksum.Digest256{1}}, nil)
	if err != nil {
		return step, err
	}
	step.File = file
	step.Version = catalog.Version{Version: version, Name: nameOf(b.group, version), Added: b.now, Stored: catalog.Stored{Form: form, Size: sums.Size, BLAKE3: sums.BLAKE3}}
	if info, err := f.Stat(); err == nil {
		step.Added = info.ModTime().UTC().Round(time.Second)
	}
	path := []catalog.Step{step}
	if form == catalog.Whole {
		path[0].Size = sums.Size
	} else {
		if step.Size, step.Stored.Commands, err = inspect(ctx, f, form); err != nil {
			return step, err
		}
		step.Stored.Parent = b.live[parent].Version.Version
		path = append(b.path(parent), step)
	}
	made, err := b.digest(ctx, path)
	if err != nil {
		return step, err
	}
	if !b.right(version, made) {
		return step, errOther
	}
	step.Size, step.BLAKE3, step.SHA256 = made.Size, made.BLAKE3, made.SHA256
	if _, other := b.others[version]; other {
		step.SHA256 = cksum.Digest256{}
	}
	return step, nil
}

// inspect returns the size of what a delta makes, and its commands.
func inspect(ctx context.Context, r io.ReadSeeker, form catalog.Form) (size, commands int64, err error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return 0, 0, err
	}
	if form == catalog.Compact {
		size, err = content.CompactSize(r)
		return size, 0, err
	}
	err = delta.Walk(ctx, r, func(c delta.Command) error {
		size += c.Length
		commands++
		return nil
	})
	return size, commands, err
}

// path returns what makes a version that was found.
func (b *builder) path(at int) (path []catalog.Step) {
	for {
		path = append(path, b.live[at])
		parent := b.live[at].Stored.Parent
		if parent == "" {
			slices.Reverse(path)
			return path
		}
		at = slices.IndexFunc(b.live, func(s catalog.Step) bool { return s.Version.Version == parent })
	}
}

// digest makes a version.
func (b *builder) digest(ctx context.Context, path []catalog.Step) (cksum.Sums, error) {
	files, err := content.OpenExactly(b.dir, path)
	if err != nil {
		return cksum.Sums{}, err
	}
	defer files.Close()
	c, err := content.Open(ctx, b.dir, files, b.memory)
	if err != nil {
		return cksum.Sums{}, err
	}
	defer c.Close()
	return content.Digest(ctx, io.NewSectionReader(c, 0, c.Size()), cksum.Sums{SHA256: cksum.Digest256{1}, BLAKE3: cksum.Digest256{1}}, nil)
}

// nameOf returns the name of a version's image: the group has no other architecture than what
// follows its last hyphen.
func nameOf(group, version string) string {
	if strings.Contains(group, "/") {
		return catalog.DiskName(group, version)
	}
	if i := strings.LastIndex(group, "-"); i > 0 {
		return group[:i] + "-" + version + group[i:] + ".img"
	}
	return group + "-" + version + "-unknown.img"
}

// arrange puts what was found into a catalog. Versions that others skip, which start from newer
// ones, were about to go: they come into the trash.
func (b *builder) arrange(c *catalog.Catalog) error {
	skipped := make(map[string]bool)
	for i, step := range b.live {
		for j := i - 1; j >= 0 && step.Stored.Parent != "" && b.live[j].Version.Version != step.Stored.Parent; j-- {
			skipped[b.live[j].Version.Version] = true
		}
	}
	for _, step := range slices.Backward(b.live) {
		b.used[step.File] = true
		if skipped[step.Version.Version] {
			c.Trash = append(c.Trash, catalog.Pruned{Version: step.Version})
		} else {
			c.Versions = append(c.Versions, step.Version)
		}
	}
	if len(c.Versions) == 0 {
		return fmt.Errorf("group %s: no version is left", b.group)
	}
	return nil
}

func has(c *catalog.Catalog, version string) bool {
	_, ok := c.Find(version)
	return ok
}

// trash adds what lies in the trash and is what SHA256SUMS says.
func (b *builder) trash(ctx context.Context, c *catalog.Catalog) error {
	files, err := b.files(catalog.Trash)
	if err != nil {
		return err
	}
	live := slices.Clone(b.live)
	for _, version := range newestFirst(files) {
		if !b.known(version) || has(c, version) {
			continue
		}
		file := files[version][0]
		parent := -1
		_, form, _ := catalog.ParseFile(file)
		if _, after, ok := strings.Cut(file, "--"); ok {
			name, _, _ := strings.Cut(after, ".")
			if parent = slices.IndexFunc(b.live, func(s catalog.Step) bool { return s.Version.Version == name }); parent < 0 {
				continue
			}
		}
		step, err := b.try(ctx, version, file, form, parent)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			b.live = append(b.live, step)
			c.Trash = append(c.Trash, catalog.Pruned{Version: step.Version})
		}
	}
	b.live = live
	slices.SortFunc(c.Trash, func(x, y catalog.Pruned) int { return strings.Compare(x.Version.Version, y.Version.Version) })
	return nil
}
