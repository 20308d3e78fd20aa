package imagerepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/compacts/compacttest"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// treeReader reads trees that a power cut may leave. It takes the digests of a content
// once, and reads a document once.
type treeReader struct {
	digests map[*powercut.Content]cksum.Sums
	pieces  map[*powercut.Content][]byte // of files, by one length: that of small ones
	claims  map[document]claims
}

// document is a content at a path.
type document struct {
	path    string
	content *powercut.Content
}

// claims are what a document says of files: what their digests are, or that they are those
// of a torrent.
type claims struct {
	files   []claim
	torrent *torrent.Torrent
	err     error // it does not parse
}

type claim struct {
	file string
	same func(cksum.Sums) bool
}

func newTreeReader() *treeReader {
	return &treeReader{make(map[*powercut.Content]cksum.Sums), make(map[*powercut.Content][]byte), make(map[document]claims)}
}

func (r *treeReader) sums(c *powercut.Content) cksum.Sums {
	if c == nil {
		return cksum.Sums{}
	}
	sums, ok := r.digests[c]
	if !ok {
		sums = sumsOf(c.Data)
		r.digests[c] = sums
	}
	return sums
}

// wrongTorrent returns an error for a torrent that is not of its file as it is there, which
// clients find without the documents.
func (r *treeReader) wrongTorrent(t powercut.Tree, name string, got *torrent.Torrent) error {
	file := t[mirror.PathOf(got.Name)]
	if file == nil {
		return fmt.Errorf("%s is of %s, which is not there", name, got.Name)
	}
	if r.pieces[file] == nil {
		h := torrent.NewHash(torrent.PieceLength(1))
		h.Write(file.Data)
		r.pieces[file] = h.File(got.Name).Pieces
	}
	if path.Base(name) != mirror.TorrentOf(got.Name) || !bytes.Equal(got.Pieces, r.pieces[file]) {
		return fmt.Errorf("%s is of another %s", name, got.Name)
	}
	return nil
}

// read returns what a document claims.
func (r *treeReader) read(doc string, c *powercut.Content) claims {
	is, ok := r.claims[document{doc, c}]
	if !ok {
		is = claimsOf(doc, c.Data)
		r.claims[document{doc, c}] = is
	}
	return is
}

func claimsOf(doc string, data []byte) (is claims) {
	add := func(file string, same func(cksum.Sums) bool) { is.files = append(is.files, claim{file, same}) }
	switch {
	case slices.Contains(mirror.Lists(), doc):
		lines, err := mirror.ParseList(doc, data)
		is.err = err
		for _, l := range lines {
			if ext := path.Ext(l.Path); ext == ".img" || ext == ".rdiff" || ext == ".cdelta" || ext == ".torrent" {
				add(l.Path, func(is cksum.Sums) bool { return is.SHA256 == l.SHA256 })
			}
		}
	case path.Dir(doc) == mirror.MetaDir:
		s, err := meta.ParseSeries(data)
		is.err = err
		for _, im := range s.Images {
			add(im.Name.String(), func(is cksum.Sums) bool { return is == im.Sums })
			for _, d := range im.Diffs {
				add(meta.DeltaPath(d.Filename), func(is cksum.Sums) bool { return is == d.Sums })
			}
			for _, d := range im.Compact {
				add(meta.CompactPath(d.Filename), func(is cksum.Sums) bool { return is == d.Sums })
			}
		}
	case path.Dir(doc) == mirror.TorrentDir:
		got, err := torrent.Parse(data)
		if err != nil {
			return claims{err: fmt.Errorf("%s: %w", doc, err)}
		}
		is.torrent = &got
	case doc == mirror.Index:
		_, is.err = meta.ParseIndex(data)
	case doc == mirror.CKSUMS:
		lines, err := cksum.ParseCKSUMS(bytes.NewReader(data))
		is.err = err
		for _, l := range lines {
			add(mirror.PathOf(l.Name), func(is cksum.Sums) bool { return is.CRC == l.CRC && is.Size == l.Size })
		}
	}
	return is
}

// wrong returns an error for a tree in which a document does not parse, or names what
// is not there, or is not as it says.
func (r *treeReader) wrong(t powercut.Tree) error {
	var all []error
	for doc, c := range t {
		says := r.read(doc, c)
		if all = append(all, says.err); says.torrent != nil {
			all = append(all, r.wrongTorrent(t, doc, says.torrent))
		}
		for _, f := range says.files {
			if t[f.file] == nil {
				all = append(all, fmt.Errorf("%s names %s, which is not there", doc, f.file))
			} else if !f.same(r.sums(t[f.file])) {
				all = append(all, fmt.Errorf("%s names %s, which has other %d bytes", doc, f.file, len(t[f.file].Data)))
			}
		}
	}
	return errors.Join(all...)
}

// change makes the images of a place other than they were: one is new, one has left,
// one was replaced.
func change(p *place) {
	p.add(other)
	p.remove(image1)
	p.write(image3, p.read(other))
}

// overwrite changes an image in place.
func (p *place) overwrite(image string) {
	p.t.Helper()
	data := p.read(image)
	data[len(data)/2]++
	if err := os.WriteFile(filepath.Join(p.ImageDir, image), data, 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// Whenever the power is cut, all that documents name is there and right, and the next
// run ends as one that nothing happened to.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(p *place)
	}{
		{"a first run", func(*place) {}},
		{"changes", func(p *place) { p.build(); change(p) }},
		{"changes on another disk", func(p *place) {
			p.MirrorDir = filepath.Join(testdata.SmallDisk(t, 16<<20), "mirror")
			p.build()
			change(p)
		}},
		{"compact deltas and changes", func(p *place) {
			p.Policy.Compact = plan.Compact{Mode: plan.CompactAll, Full: true}
			p.build()
			for _, base := range []string{image1, image2, image3, ""} {
				compacttest.Put(p.t, p.MirrorDir, base, image4)
			}
			p.build() // with torrents of these
			change(p)
		}},
		{"an image was overwritten", func(p *place) { p.build(); p.overwrite(image2) }},
		{"without records", func(p *place) { p.build(); os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private)) }},
		{"torrents are turned on", func(p *place) { p.Torrents = plan.Torrents{}; p.build(); p.Torrents = withTorrents }},
		{"torrents get a tracker", func(p *place) { p.build(); p.Torrents.Trackers = []string{"http://tracker.example.org/"} }},
		{"torrents are turned off", func(p *place) { p.build(); change(p); p.Torrents = plan.Torrents{} }},
		{"an image left and is signed", func(p *place) {
			p.build()
			p.remove(image1)
			p.Policy.KeepSignatures = true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3, image4)
			p.Torrents = withTorrents
			c.before(p)
			r := newTreeReader()
			var last powercut.Tree
			some := make(map[int]powercut.Tree)
			n := 0
			withdrawn := c.name != "an image was overwritten" // until that is known, what is published of it is wrong
			disk := powercut.Watch(t, p.MirrorDir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
				if withdrawn = withdrawn || next.Kind == atomicfile.Create && next.Name == mirror.TmpPath(image2+".json"); !withdrawn {
					return nil
				}
				if rand.IntN(testdata.Scale(1, 6)) > 0 {
					n++
					return nil
				}
				all := trees()
				for _, tree := range all {
					if err := r.wrong(tree); err != nil && !t.Failed() {
						t.Errorf("before change %d, %s: %v", n, next, err)
					}
				}
				if last = all[rand.IntN(len(all))]; rand.IntN(12) == 0 {
					some[n] = last
				}
				n++
				return nil
			})
			if _, _, err := Build(t.Context(), p.Options); err != nil {
				t.Fatal(err)
			}
			disk.Stop()
			want := p.tree()
			for _, tree := range someOf(disk.Trees()) {
				if err := r.wrong(tree); err != nil {
					t.Errorf("after the run: %v", err)
				}
				if got := r.public(tree); got != want {
					t.Fatalf("after the run\n%s\nwant\n%s", got, want)
				}
			}
			t.Logf("%d changes, %d runs after a power cut", n, len(some))
			for _, at := range slices.Sorted(maps.Keys(some)) {
				after := p.copied()
				after.Policy, after.Torrents = p.Policy, p.Torrents
				if err := some[at].Lay(after.MirrorDir); err != nil {
					t.Fatal(err)
				}
				if _, _, err := Build(t.Context(), after.Options); err != nil {
					t.Fatalf("after change %d: %v", at, err)
				}
				after.valid()
				if got := after.tree(); got != want {
					t.Errorf("after change %d:\n%s\nwant\n%s", at, got, want)
				}
			}
		})
	}
}

// someOf returns the trees that are looked at, of all that a power cut may leave.
func someOf(trees []powercut.Tree) (some []powercut.Tree) {
	for i, tree := range trees {
		if i < 2 || i%testdata.Scale(1, 8) == 0 {
			some = append(some, tree)
		}
	}
	return some
}

// public returns the published files of a tree, as place.tree does.
func (r *treeReader) public(t powercut.Tree) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if !strings.HasPrefix(name, mirror.Private+"/") {
			fmt.Fprintf(&b, "%s %d %s\n", name, len(t[name].Data), r.sums(t[name]).SHA256)
		}
	}
	return b.String()
}

// What the documents name was flushed by a run that ends without an error, whoever put
// it there, and whether that flushed it.
func TestFlushedInTheEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(p *place)
	}{
		{"a first run", func(*place) {}},
		{"after a run without flushes", func(p *place) { p.NoSync = true; p.build(); p.NoSync = false }},
		{"after a run without flushes that failed", func(p *place) {
			p.build()
			p.add(other)
			p.NoSync = true
			ctx, cancel := context.WithCancel(t.Context())
			p.Progress = func(done, total int64) {
				if done > total/2 {
					cancel()
				}
			}
			Build(ctx, p.Options)
			p.NoSync, p.Progress = false, nil
		}},
		{"of a mirror without records", func(p *place) { p.build(); os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private)) }},
		{"adopted", func(p *place) {
			p.build()
			os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private))
			p.Adopt = true
		}},
		{"of copies that are adopted", func(p *place) {
			p.build()
			if err := os.CopyFS(p.MirrorDir+"2", os.DirFS(p.MirrorDir)); err != nil {
				t.Fatal(err)
			}
			p.MirrorDir += "2"
			os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private))
		}},
		{"of a mirror of a version that took no note of flushes", func(p *place) {
			p.build()
			rewrite(t, filepath.Join(p.MirrorDir, ".repo/run.json"), `"flushed": true,`, "")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image2, image3, image4)
			c.before(p)
			disk := powercut.Watch(t, p.MirrorDir, nil)
			disk.Unflush()
			p.build()
			disk.Stop()
			r, want := newTreeReader(), p.tree()
			for _, tree := range someOf(disk.Trees()) {
				if got := r.public(tree); got != want {
					t.Fatalf("after a power cut\n%s\nwant\n%s", got, want)
				}
			}
		})
	}
}

// What a run that failed has not flushed, the next one does: any one flush of what is
// published fails, of a first run and of one that has changes to make.
func TestFlushFails(t *testing.T) {
	t.Parallel()
	for _, change := range []func(p *place){
		func(*place) {},
		func(p *place) { p.build(); change(p) },
	} {
		for at := 0; ; at += testdata.Scale(1, 6) {
			p := newPlace(t, image1, image3)
			p.Policy.Targets = 1
			change(p)
			flushes := 0
			disk := powercut.Watch(t, p.MirrorDir, func(next atomicfile.Change, _ func() []powercut.Tree) error {
				if next.Kind != atomicfile.FlushDir || strings.HasPrefix(next.Name, mirror.Private) {
					return nil
				}
				if flushes++; flushes == at+1 {
					return syscall.EIO
				}
				return nil
			})
			_, _, err := Build(t.Context(), p.Options)
			if err == nil && flushes <= at {
				break
			}
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("flush %d fails: %v", at, err)
			}
			p.build()
			disk.Stop()
			r, want := newTreeReader(), p.tree()
			for _, tree := range someOf(disk.Trees()) {
				if got := r.public(tree); got != want {
					t.Fatalf("flush %d failed: after the next run, a power cut leaves\n%s\nof\n%s", at, got, want)
				}
			}
		}
	}
}

// rewrite replaces a text in a file.
func rewrite(t *testing.T, file, old, new string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s has no %q, %v", file, old, err)
	}
	if err := os.WriteFile(file, bytes.Replace(data, []byte(old), []byte(new), 1), 0o666); err != nil {
		t.Fatal(err)
	}
}

// After a run that ends without an error the power is cut of real disks: what the
// documents name is there and right, and the next run finds nothing to make.
func TestPowerCutOfDisks(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ext4", "btrfs", "xfs"}[:testdata.Scale(3, 1)] {
		for name, before := range map[string]func(p *place){
			"a first run": func(*place) {},
			"an image that left": func(p *place) {
				p.build()
				p.remove(image2)
			},
			"after a run without flushes": func(p *place) { p.NoSync = true; p.build(); p.NoSync = false },
			"adopted copies": func(p *place) {
				p.build()
				if err := os.CopyFS(p.MirrorDir+"2", os.DirFS(p.MirrorDir)); err != nil {
					t.Fatal(err)
				}
				p.MirrorDir += "2"
				os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private))
				p.Adopt = true
			},
		} {
			t.Run(kind+", "+name, func(t *testing.T) {
				t.Parallel()
				disk := testdata.NewDisk(t, kind)
				p := newPlace(t)
				p.ImageDir, p.MirrorDir = filepath.Join(disk.Dir, "images"), filepath.Join(disk.Dir, "mirror")
				if err := os.Mkdir(p.ImageDir, 0o777); err != nil {
					t.Fatal(err)
				}
				for _, im := range []string{image2, image3, image4} {
					p.add(im)
				}
				before(p)
				p.build()
				want := p.tree()
				mirrorName := filepath.Base(p.MirrorDir)
				disk.Cut()
				p.ImageDir, p.MirrorDir = filepath.Join(disk.Dir, "images"), filepath.Join(disk.Dir, mirrorName)
				if got := p.tree(); got != want {
					t.Errorf("on %s after a power cut\n%s\nwant\n%s", disk, got, want)
				}
				p.valid()
				if p.Adopt = false; p.there(".repo/state/"+image2+".json") != p.there(image2) {
					t.Errorf("of %s there is only the file, or only the record", image2)
				}
			})
		}
	}
}
