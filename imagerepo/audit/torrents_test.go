package audit

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// withTorrents builds a mirror of two images, with torrents.
func withTorrents(t *testing.T) place {
	t.Helper()
	images := t.TempDir()
	for _, im := range []string{older, newer} {
		check(os.WriteFile(filepath.Join(images, im), testdata.Read(t, "images/"+im), 0o666))
	}
	p := place{t, filepath.Join(t.TempDir(), "mirror")}
	_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{
		ImageDir: images, MirrorDir: p.dir, URL: "https://images.example.org", NoSync: true, Jobs: 2, Torrents: plan.Torrents{Of: plan.TorrentsOfAll},
		Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.9}, Log: slog.New(slog.DiscardHandler),
	})
	check(err)
	return p
}

// putTorrent puts a torrent with these bytes into the mirror and its list.
func (p place) putTorrent(name string, data []byte) {
	p.write(name, data)
	p.relist(name)
	p.record(path.Base(name), state.Record{})
}

// A torrent is listed, and is of the file that it is named after.
func TestTorrents(t *testing.T) {
	list := mirror.TorrentDir + "/" + mirror.SHA256
	pathOf := func(file string) string { return mirror.PathOf(mirror.TorrentOf(path.Base(file))) }
	of := func(name string, content []byte) []byte {
		h := torrent.NewHash(32 << 10)
		h.Write(content)
		return must(torrent.Make(h.File(name), nil, nil))
	}
	newerData := testdata.Read(t, "images/"+newer)
	for _, c := range []struct {
		name       string
		injure     func(p place)
		want, deep [][3]string // deep is what Deep finds besides
	}{
		{"none", func(place) {}, nil, nil},
		{"of a tracker", func(p place) {
			t := must(torrent.Parse(p.read(pathOf(up))))
			p.putTorrent(pathOf(up), must(torrent.Make(t.File, []string{"http://t"}, nil)))
		}, nil, nil},
		{"it rots", func(p place) { p.rot(pathOf(newer)) }, [][3]string{{"damaged", pathOf(newer), "sha256 is "}}, nil},
		{"it is gone", func(p place) { p.remove(pathOf(up)) }, [][3]string{{"missing", pathOf(up), list + " names it"}}, nil},
		{"it is malformed", func(p place) { p.putTorrent(pathOf(newer), []byte("d")) }, [][3]string{{"malformed", pathOf(newer), "the one form"}}, nil},
		{"it is too large", func(p place) { p.putTorrent(pathOf(newer), make([]byte, torrent.MaxSize+1)) }, [][3]string{{"malformed", pathOf(newer), "more than"}}, nil},
		{"of another file", func(p place) { p.putTorrent(pathOf(newer), of(older, newerData)) }, [][3]string{{"wrong", pathOf(newer), "it is of " + older}}, nil},
		{"of another size", func(p place) { p.putTorrent(pathOf(newer), of(newer, []byte("x"))) }, [][3]string{{"wrong", pathOf(newer), "1 bytes; " + newer + " has 360448 bytes"}}, nil},
		{"of another content", func(p place) { p.putTorrent(pathOf(newer), of(newer, flip(newerData))) }, nil, [][3]string{{"wrong", pathOf(newer), "its pieces are not those of " + newer}}},
		{"its file rots", func(p place) { p.rot(newer) }, [][3]string{{"damaged", newer, "sha256 is "}}, nil},
		{"its file is gone", func(p place) { p.remove(newer) }, [][3]string{{"missing", newer, "name it"}}, nil},
		{"it is not listed", func(p place) {
			var left []cksum.SHA256Line
			for _, l := range must(mirror.ParseList(list, p.read(list))) {
				if l.Path != pathOf(newer) {
					left = append(left, l)
				}
			}
			p.write(list, mirror.FormatList(left))
		}, [][3]string{{"orphan", pathOf(newer), nothingNames}}, nil},
		{"it waits", func(p place) {
			p.remove(list)
			for _, file := range []string{older, newer, up, down} {
				p.record(mirror.TorrentOf(path.Base(file)), state.Record{Orphaned: 1e9})
			}
		}, [][3]string{{"waiting", pathOf(up), "2001"}, {"waiting", pathOf(older), "2001"}, {"waiting", pathOf(down), "2001"}, {"waiting", pathOf(newer), "2001"}}, nil},
		{"of what no meta names", func(p place) { p.putTorrent(pathOf(free), of(free, []byte("x"))) },
			[][3]string{{"inconsistent", pathOf(free), "no meta names " + free}}, nil},
	} {
		p := withTorrents(t)
		c.injure(p)
		for deep, want := range map[bool][][3]string{false: c.want, true: append(c.want, c.deep...)} {
			r, err := Verify(t.Context(), Options{MirrorDir: p.dir, Deep: deep, Jobs: 2})
			check(err)
			t.Logf("%s, deep: %t", c.name, deep)
			var found []Finding
			for _, f := range r.Findings {
				if f.Problem != Note { // deltas that were not applied
					found = append(found, f)
				}
			}
			expect(t, found, want)
		}
	}
}

// Status counts the torrents that are listed.
func TestStatusOfTorrents(t *testing.T) {
	p := withTorrents(t)
	if s := must(StatusOf(p.dir)); s.Torrents != 4 {
		t.Errorf("%d torrents", s.Torrents)
	}
	p.write("torrents/SHA256SUMS", []byte("x"))
	if s := must(StatusOf(p.dir)); s.Torrents != 0 {
		t.Errorf("%d torrents by a damaged list", s.Torrents)
	}
}

// The pieces of a file are read once, whatever the number of looks; and not when the work
// was cancelled.
func TestPiecesAreCached(t *testing.T) {
	p := withTorrents(t)
	read := 0
	options := Options{MirrorDir: p.dir, Deep: true, Jobs: 1, Stage: func(stage, _ string) {
		if stage == "torrent_check" {
			read++
		}
	}}
	m := p.view()
	cached := new(caches)
	for range 2 {
		l, err := lookAt(t.Context(), m, options, cached)
		check(err)
		expect(t, l.found.sorted().Findings, nil)
	}
	if read != 4 {
		t.Errorf("the files of 4 torrents were read %d times", read)
	}
	ctx, cancel := context.WithCancel(t.Context())
	options.Stage = func(stage, _ string) {
		if stage == "torrent_check" {
			cancel()
		}
	}
	if _, err := lookAt(ctx, m, options, new(caches)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
