package publish

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/testdata"
)

// A run that cannot end says why, and leaves what clients see as it was.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(p *place, o *Options)
		is    error
		says  string
	}{
		{"no mirror", func(p *place, o *Options) { o.MirrorDir += "x" }, ErrMirror, "no such file"},
		{"not a mirror", func(p *place, o *Options) { o.MirrorDir = p.Images }, ErrMirror, "build it first"},
		{"no index", func(p *place, o *Options) { p.remove("mirror/index.json") }, ErrMirror, "run verify --repair"},
		{"a document that is not what the list says", func(p *place, o *Options) { p.Write("mirror/meta/"+series+".json", "{}") }, ErrMirror, "is not what meta/SHA256SUMS says"},
		{"a damaged list", func(p *place, o *Options) { p.Write("mirror/SHA256SUMS", "x\n") }, ErrMirror, "SHA256SUMS"},
		{"an image is missing", func(p *place, o *Options) { p.remove("mirror/" + image2) }, ErrMirror, image2},
		{"an image is a pipe", func(p *place, o *Options) {
			p.remove("mirror/" + image2)
			p.Must(testdata.PutOdd("pipe", filepath.Join(p.Mirror, image2)))
		}, ErrMirror, "not a regular file"},
		{"no list names the deltas", func(p *place, o *Options) { p.remove("mirror/rdiffs/SHA256SUMS") }, ErrMirror, "and no SHA256SUMS does"},
		{"a root without a timestamp", func(p *place, o *Options) { p.Write("mirror/tuf/1.root.json", "{}") }, ErrMirror, "roots or a timestamp"},
		{"a series is gone", func(p *place, o *Options) { p.Leave(other); p.build() }, ErrMirror, "--allow-removal"},
		{"more than half are gone", func(p *place, o *Options) { p.Leave(image2, image3, other); p.build() }, ErrMirror, "3 of the 4 images"},
		{"an image changed after the build", func(p *place, o *Options) {
			p.Put(image4, testdata.Read(p.T, "images/"+image4))
			p.build()
			p.Must(os.Truncate(filepath.Join(p.Mirror, image4), 4096))
		}, store.ErrChanged, image4},
		{"an image changed while it was sent", func(p *place, o *Options) {
			p.Put(image4, testdata.Read(p.T, "images/"+image4))
			p.build()
			p.Must(os.WriteFile(filepath.Join(p.Images, image4), []byte(strings.Repeat("x", len(testdata.Read(p.T, "images/"+image4)))), 0o666))
		}, store.ErrChanged, image4},
		{"another publisher", func(p *place, o *Options) { p.Write("dest/.publishing.json", `{"holder": "host x, process 1"}`) }, ErrHeld, "host x, process 1"},
		{"a damaged record", func(p *place, o *Options) { p.Write("dest/.published.json", `{"files": {"../x": {}}}`) }, nil, ".published.json is damaged"},
		{"cancelled", func(p *place, o *Options) {}, context.Canceled, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3, other)
			p.build()
			o := p.options()
			p.publish(o)
			before := mirrortest.Tree(t, p.Dest)
			c.spoil(p, &o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.name == "cancelled" {
				cancel()
			}
			_, _, err := Run(ctx, o)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %v with %q", err, c.is, c.says)
			}
			after := mirrortest.Tree(t, p.Dest)
			maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasPrefix(name, "rdiffs/") && before[name] == "" }) // new payload
			if diff := mirrortest.Difference(after, before); diff != "" {
				t.Errorf("it changed %s", diff)
			}
		})
	}
}

func (p *place) remove(name string) { p.Must(os.Remove(filepath.Join(p.Dir, name))) }

// A run refuses what would shut out clients that verify signatures, unless it is permitted.
func TestTrust(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(p *place, o *Options)
		says  string // "": it succeeds
	}{
		{"again", func(p *place, o *Options) {}, ""},
		{"unsigned now", func(p *place, o *Options) { p.Must(os.RemoveAll(filepath.Join(p.Mirror, "tuf"))) }, "and the mirror is not"},
		{"unsigned now, and permitted", func(p *place, o *Options) {
			p.Must(os.RemoveAll(filepath.Join(p.Mirror, "tuf")))
			o.AllowRemoval = true
		}, ""},
		{"other keys", func(p *place, o *Options) {
			p.Must(os.RemoveAll(filepath.Join(p.Mirror, "tuf")))
			p.Must(os.RemoveAll(filepath.Join(p.Dir, "keys")))
			p.Must(trust.Init(mirrortest.KeyOptions(filepath.Join(p.Dir, "keys"))))
			p.OpenKeys()
			p.build()
		}, "signed with other keys"},
		{"signed later", func(p *place, o *Options) { p.later() }, "signed later than the mirror"},
		{"signed later, with the keys", func(p *place, o *Options) { p.later(); o.Sign = p.Keys }, ""},
		{"new roots", func(p *place, o *Options) { p.rotate() }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2)
			p.CopyKeys()
			p.build()
			o := p.options()
			p.publish(o)
			root := p.Read("keys/1.root.json")
			c.spoil(p, &o)
			p.Write("root.json", string(root))
			_, _, err := Run(t.Context(), o)
			if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrMirror) || !strings.Contains(err.Error(), c.says)) {
				t.Fatalf("%v, want %q", err, c.says)
			}
			if _, err := p.Update(p.Dest, filepath.Join(p.Dir, "root.json")); err != nil {
				t.Errorf("a client that verifies: %v", err)
			}
		})
	}
}

// later makes the destination one that was signed later than the mirror.
func (p *place) later() {
	p.T.Helper()
	kept := filepath.Join(p.Dir, "kept")
	p.Must(os.CopyFS(kept, os.DirFS(filepath.Join(p.Mirror, "tuf"))))
	root, err := atomicfile.Open(p.Mirror)
	p.Must(err)
	defer root.Close()
	_, err = p.Keys.SignAfter(p.T.Context(), root, time.Now().Unix()+5)
	p.Must(err)
	p.publish(p.options())
	p.Must(os.RemoveAll(filepath.Join(p.Mirror, "tuf")))
	p.Must(os.CopyFS(filepath.Join(p.Mirror, "tuf"), os.DirFS(kept)))
}

// Orphans are removed after the grace, what others put there never.
func TestGrace(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.build()
	o := p.options()
	p.publish(o)
	p.Write("dest/notes.txt", "mine")
	p.Write("dest/rdiffs/foreign.rdiff", "mine")
	p.Leave(image3)
	p.build()
	pl, s := p.publish(o)
	if len(pl.Remove) == 0 || pl.Remove[0].Due.IsZero() || s.Removed != 0 || !p.Has(image3) {
		t.Errorf("within the grace: %+v, %+v", pl.Remove, s)
	}
	if _, s := p.publish(o); s.Changed {
		t.Errorf("once more: %+v", s)
	}
	o.Grace = 0
	pl, s = p.publish(o)
	if s.Removed != len(pl.Remove) || s.Removed == 0 || p.Has(image3) || !p.Has("notes.txt") || !p.Has("rdiffs/foreign.rdiff") {
		t.Errorf("after it: %+v, %+v", pl.Remove, s)
	}
	if pl, s := p.publish(o); s.Changed || len(pl.Remove) > 0 {
		t.Errorf("in the end: %+v, %+v", pl, s)
	}
}

// A build can work while payload is sent.
func TestLock(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	o := p.options()
	locked := 0
	o.Sent = func(string, int64) {
		m, err := mirror.Open(p.Mirror, true, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Error(err)
			return
		}
		m.Close()
		locked++
	}
	o.Jobs = 1
	if _, s := p.publish(o); locked != s.Files || locked == 0 {
		t.Errorf("it was locked %d times for %d files", locked, s.Files)
	}
	// Without records there is nothing to lock.
	p.Must(os.RemoveAll(filepath.Join(p.Mirror, ".repo")))
	o.Sent = nil
	if pl, _ := p.publish(o); !pl.Nothing() {
		t.Errorf("a copy of the mirror: %+v", pl)
	}
}

// With read, what is damaged at a destination is found and sent again.
func TestVerifyRead(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	o := p.options()
	p.publish(o)
	data := p.Read("dest/" + image2)
	data[5] ^= 1
	p.Write("dest/"+image2, string(data))
	if pl, _ := p.publish(o); !pl.Nothing() {
		t.Errorf("by size: %+v", pl)
	}
	o.Verify = ByReading
	if pl, _ := p.publish(o); len(pl.Changed) != 1 || pl.Changed[0].Name != image2 {
		t.Errorf("by reading: %+v", pl)
	}
	if err := mirrortest.Holds(p.Dest); err != nil {
		t.Error(err)
	}
}

// A plan changes nothing, and says what the run then does.
func TestMakePlan(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	pl, err := MakePlan(t.Context(), p.options())
	if err != nil || pl.Bytes == 0 || len(pl.New) == 0 || len(pl.Documents) == 0 || pl.Nothing() {
		t.Errorf("%+v: %v", pl, err)
	}
	if _, err := os.Stat(p.Dest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it made the destination: %v", err)
	}
	got, _ := p.publish(p.options())
	if got.Bytes != pl.Bytes || len(got.New) != len(pl.New) || len(got.Documents) != len(pl.Documents) {
		t.Errorf("%+v, then %+v", pl, got)
	}
}

// A disk that a run has filled ends it; the next, of a mirror that fits, has room to begin.
func TestFullDisk(t *testing.T) {
	const large = "puavo-os-amxa-buster-2020-01-01-000000-amd64.img"
	p := newPlace(t, image1, image2)
	p.build()
	size := 0
	for _, data := range mirrortest.Tree(t, p.Mirror) {
		size += (len(data) + 4095) / 4096 * 4096
	}
	p.Put(large, append(testdata.Read(t, "images/"+image1), make([]byte, size)...))
	p.build()
	o := p.options()
	o.Destination, o.Jobs = filepath.Join(testdata.SmallDisk(t, size+200<<10), "dest"), 1
	if _, _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a full disk: %v", err)
	}
	if err := mirrortest.Holds(o.Destination); err != nil {
		t.Error(err)
	}
	p.Leave(large)
	p.build()
	if _, _, err := Run(t.Context(), o); err != nil {
		t.Errorf("what fits: %v", err)
	}
}
