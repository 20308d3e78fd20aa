// Package filler gets the payload of a copy of a repository. Its Filler is the store of a
// directory. What it stages comes from the mirrors of an upstream, or is made from an image of
// the directory and a delta.
//
// Package assemble makes each file in a folder of its own below .pull/partial, and continues
// what an earlier run began. Once a file is whole and verified, it moves to where the store
// keeps staged files. The base of an image comes before the image, and so does its delta if the
// directory gets that too. Neither is renamed until the image is made.
package filler

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/assemble"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/directory"
	"puavo-image-repository/meta"
)

// Partial is the folder of partial files.
const Partial = ".pull/partial"

// Payload is what is known of an image or a delta.
type Payload struct {
	Sums    cksum.Sums
	Image   meta.Name       // the image itself, or the one that the delta makes
	Mirrors []*fetch.Mirror // that have it, in the order in which they are asked
}

// Way says how an image is made here.
type Way struct {
	Base meta.Name
	Diff meta.Diff
}

// Filler is a store. Do not change its fields once it is in use.
type Filler struct {
	*directory.Store
	Dir     atomicfile.Dir // the same directory
	Local   *fetch.Mirror  // the same, as a mirror
	Payload map[string]Payload
	Ways    map[string]Way  // of images that can be made here, by their names
	Missing map[string]bool // payload that the directory lacks, or has with another content
	// Made has the paths of files that were made in the directory, by the names that they get.
	// They are whole, verified and flushed.
	Made map[string]string
	Log  *slog.Logger
	// Got, which may be nil, is called concurrently, with each file that has come.
	Got func(File)

	Rebuilt atomic.Int64 // images that were made here

	mu    sync.Mutex
	files map[string]*file
}

// File is a file that has come.
type File struct {
	Name   string `json:"file"`
	Size   int64  `json:"size"`
	From   string `json:"from"`             // the mirror, or the directory
	Base   string `json:"base,omitempty"`   // the image that it was made from
	Delta  string `json:"delta,omitempty"`  // and the delta, by their paths
	Reused bool   `json:"reused,omitempty"` // an earlier run has fetched it
	Made   bool   `json:"made,omitempty"`   // a delta was made here
}

// file is the state of payload in this run.
type file struct {
	sync.Mutex
	staged bool
	name   sync.RWMutex // held for reading while the file must not be renamed
}

func (f *Filler) file(name string) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files == nil {
		f.files = make(map[string]*file)
	}
	if f.files[name] == nil {
		f.files[name] = &file{}
	}
	return f.files[name]
}

// Stage gets payload, once.
func (f *Filler) Stage(ctx context.Context, c store.Content) error {
	if err := store.CheckName(c.Name); err != nil {
		return err
	}
	this := f.file(c.Name)
	this.Lock()
	defer this.Unlock()
	if this.staged { // as the base of another, or its delta
		c.Report(c.Size, true)
		return ctx.Err()
	}
	err := f.get(ctx, c)
	this.staged = err == nil
	return err
}

// Release gives payload its name, as soon as nothing is made from it.
func (f *Filler) Release(ctx context.Context, c store.Content) error {
	this := f.file(c.Name)
	this.name.Lock()
	defer this.name.Unlock()
	return f.Store.Release(ctx, c)
}

// get takes what an earlier run has staged, or what was made here; or it makes the file from
// others, or fetches it.
func (f *Filler) get(ctx context.Context, c store.Content) error {
	if path.Ext(c.Name) == ".torrent" {
		return f.Store.Stage(ctx, c) // of its file, which is small
	}
	payload, known := f.Payload[c.Name]
	if !known || payload.Sums.SHA256 != c.SHA256 || payload.Sums.Size != c.Size {
		return fmt.Errorf("%s: the meta of upstream does not have it, or has another size or digest", c.Name)
	}
	if f.has(ctx, c) {
		c.Report(c.Size, false)
		f.got(File{Name: c.Name, Size: c.Size, From: f.Dir.Name(), Reused: true})
		return nil
	}
	p := &progress{content: c}
	if file, made := f.Made[c.Name]; made {
		if err := f.Adopt(ctx, c, file); err != nil {
			return err
		}
		p.end()
		return nil
	}
	way, makeable := f.Ways[c.Name]
	if makeable {
		err := f.rebuild(ctx, c, payload, way, p)
		if err == nil || isFinal(ctx, err) {
			return err
		}
		f.Log.Warn("the image cannot be made from another; it is fetched as a whole", "image", c.Name, "reason", err)
	}
	return f.fetch(ctx, c, payload, p)
}

// has reports whether an earlier run has staged payload, by its digest.
func (f *Filler) has(ctx context.Context, c store.Content) bool {
	file, err := f.Dir.Open(c.Staged())
	if err != nil {
		return false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() != c.Size {
		return false
	}
	h, err := cksum.Read(ctx, file)
	return err == nil && h.SHA256 == c.SHA256
}

// isFinal reports whether no other mirror would do better: the error is of this machine, or the
// run ends.
func isFinal(ctx context.Context, err error) bool {
	_, local := errors.AsType[*assemble.LocalError](err)
	return local || ctx.Err() != nil
}

// fetch fetches payload as a whole.
func (f *Filler) fetch(ctx context.Context, c store.Content, payload Payload, p *progress) error {
	job := assemble.Job{Image: payload.Image, Sums: payload.Sums, Source: c.Name, SourceSums: payload.Sums}
	from, err := f.each(ctx, payload.Mirrors, func(m *fetch.Mirror) error {
		job.Mirror = m
		return f.make(ctx, c, job, p)
	})
	if err == nil {
		f.got(File{Name: c.Name, Size: c.Size, From: from})
	}
	return err
}

// each calls try with one mirror after the other, and returns the first that succeeds.
func (f *Filler) each(ctx context.Context, mirrors []*fetch.Mirror, try func(*fetch.Mirror) error) (string, error) {
	var failed []error
	for i, m := range mirrors {
		err := try(m)
		if err == nil {
			return m.String(), nil
		}
		if isFinal(ctx, err) {
			return "", err
		}
		if i < len(mirrors)-1 {
			f.Log.Warn("trying the next mirror", "reason", err)
		}
		failed = append(failed, err)
	}
	return "", errors.Join(failed...)
}

// rebuild makes an image from a base and a delta. Of these, it first stages those that the
// directory lacks, so that they are fetched once.
func (f *Filler) rebuild(ctx context.Context, c store.Content, payload Payload, way Way, p *progress) error {
	base, delta := way.Base.String(), meta.DeltaPath(way.Diff.Filename)
	local := f.Missing[delta] || f.isThere(delta, way.Diff.Sums.Size)
	needs := []string{base}
	if local {
		needs = append(needs, delta)
	}
	slices.Sort(needs) // all take their locks in one order
	for _, name := range needs {
		if err := f.ensure(ctx, name); err != nil {
			return err
		}
	}
	for _, name := range needs {
		this := f.file(name)
		this.name.RLock()
		defer this.name.RUnlock()
	}
	mirrors, source := f.Payload[delta].Mirrors, delta
	if local {
		mirrors, source = []*fetch.Mirror{f.Local}, f.path(delta)
	} else if len(mirrors) == 0 {
		mirrors = payload.Mirrors
	}
	from, err := f.each(ctx, mirrors, func(m *fetch.Mirror) error {
		return f.make(ctx, c, assemble.Job{
			BaseDir: f.Dir, Base: f.path(base), Image: payload.Image, Sums: payload.Sums, Mirror: m, Source: source, SourceSums: way.Diff.Sums,
		}, p)
	})
	if err != nil {
		return err
	}
	f.Rebuilt.Add(1)
	f.got(File{Name: c.Name, Size: c.Size, From: from, Base: base, Delta: delta})
	return nil
}

// isThere reports whether the directory has a file of this size.
func (f *Filler) isThere(name string, size int64) bool {
	info, err := f.Dir.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// ensure stages payload that the directory lacks.
func (f *Filler) ensure(ctx context.Context, name string) error {
	if !f.Missing[name] {
		return ctx.Err()
	}
	return f.Stage(ctx, f.content(name))
}

func (f *Filler) content(name string) store.Content {
	sums := f.Payload[name].Sums
	return store.Content{Name: name, Size: sums.Size, SHA256: sums.SHA256}
}

// path returns where a file is: staged, or under its name.
func (f *Filler) path(name string) string {
	if !f.Missing[name] {
		return name
	}
	if staged := f.content(name).Staged(); f.exists(staged) {
		return staged
	}
	return name
}

func (f *Filler) exists(name string) bool {
	_, err := f.Dir.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// make makes payload, and stages it. Errors of the directory are LocalErrors.
func (f *Filler) make(ctx context.Context, c store.Content, job assemble.Job, p *progress) error {
	folder := Folder(c)
	if err := f.Dir.MkdirAll(folder, 0o777); err != nil {
		return &assemble.LocalError{Err: err}
	}
	dir, err := f.Dir.Sub(folder)
	if err != nil {
		return &assemble.LocalError{Err: err}
	}
	defer dir.Close()
	job.Dir, job.Log, job.Progress = dir, f.Log, p.at
	if err := assemble.Make(ctx, job); err != nil {
		return err
	}
	if err := f.Adopt(ctx, c, path.Join(folder, assemble.PartialName(job.Image))); err != nil {
		return &assemble.LocalError{Err: err}
	}
	p.end()
	return f.Dir.RemoveAll(folder)
}

// Folder returns where payload is made.
func Folder(c store.Content) string { return path.Join(Partial, path.Base(c.Staged())) }

func (f *Filler) got(file File) {
	if f.Got != nil {
		f.Got(file)
	}
}

// progress reports how far a file has got, by increments. It is for one goroutine at a time.
type progress struct {
	content store.Content
	done    int64
}

func (p *progress) at(done, _ int64) {
	if n := min(done, p.content.Size) - p.done; n > 0 {
		p.done += n
		p.content.Report(n, true)
	}
}

func (p *progress) end() { p.at(p.content.Size, p.content.Size) }
