package client_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/client"
)

// TestUpdate wants the same over every access to a mirror: the right image by
// the cheapest route, and nothing else changed.
func TestUpdate(t *testing.T) {
	for _, c := range []struct {
		name   string
		mirror string
		have   []string
		image  string
		want   string // the image, "" if there is nothing to be done
		route  string
	}{
		{"newest", "all", []string{image3}, "", image4, from(image3)},
		{"newest from the best of several", "all", []string{image1, image2, image3}, "", image4, from(image3)},
		{"newest from far", "all", []string{image1}, "", image4, from(image1)},
		{"named", "all", []string{image1, other}, image2, image2, from(image1)},
		{"named and older", "all", []string{image4}, image3, image3, from(image4)},
		{"named and too old for deltas", "all", []string{image4}, image1, image1, fromFull},
		{"named and of another series", "all", []string{other}, image4, image4, fromFull},
		{"named and no image is there", "all", nil, image4, image4, fromFull},
		{"newest is there", "all", []string{image4}, "", "", ""},
		{"named is there", "all", []string{image2, image4}, image2, "", ""},
		{"newest of two series is there", "all", []string{image3, other}, "", "", ""},
		{"a newer one than the mirror has is there", "early", []string{image4}, "", "", ""},
		{"older than the mirror has, named", "early", []string{image4}, image2, image2, fromFull},
		{"one that the mirror no longer has is there", "late", []string{image1}, "", image4, fromFull},
		{"one that the mirror no longer has, and a base", "late", []string{image2, image3}, "", image4, from(image3)},
		{"series of another name", "named", []string{image2}, "", image4, from(image2)},
		{"series of another name, named", "named", []string{image2}, image4, image4, from(image2)},
		{"base that the series does not have", "named", []string{other}, image4, image4, from(other)},
		{"mirror of the predecessor", "predecessor", []string{image3}, "", image4, from(image3)},
		{"mirror of the predecessor, named", "predecessor", nil, image4, image4, fromFull},
		{"larger than all buffers", "big", []string{big1}, "", big2, from(big1)},
		{"larger than all buffers, full", "big", nil, big2, big2, fromFull},
	} {
		for way, open := range access {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				p := newPlace(t, c.have...)
				want := p.files()
				mirror := open(t, c.mirror)
				o := p.options(mirror, c.image)
				var done, total int64
				o.Progress = func(d, of int64) {
					if d < done || d > of || total != 0 && of != total {
						t.Errorf("progress %d of %d after %d of %d", d, of, done, total)
					}
					done, total = d, of
				}
				result, err := client.Update(t.Context(), o)
				if err != nil || result.UpToDate != (c.want == "") || result.Disabled {
					t.Fatalf("%+v, %v", result, err)
				}
				if c.want != "" {
					want[c.want] = imageText(c.want)
					if result.Image != name(c.want) || result.Route.String() != c.route {
						t.Errorf("%s by %s, want %s by %s", result.Image, result.Route, c.want, c.route)
					}
				}
				p.want(want)
				if done != total || total != int64(len(want[c.want])) {
					t.Errorf("progress ends with %d of %d", done, total)
				}
				if again, err := p.update(mirror, c.image); err != nil || !again.UpToDate {
					t.Errorf("again: %+v, %v", again, err)
				}
				if p.log.Len() > 0 {
					t.Errorf("warnings: %s", &p.log)
				}
			})
		}
	}
}

// What there is no way to is an error that says what is missing.
func TestNoImage(t *testing.T) {
	const unknown = "puavo-os-amxa-buster-2030-01-01-000000-amd64.img"
	for _, c := range []struct {
		name   string
		mirror string
		have   []string
		image  string
		err    error
		says   string
	}{
		{"no image, so no series", "all", nil, "", client.ErrNoImage, "give --series"},
		{"unknown image", "all", []string{image3}, unknown, client.ErrNoImage, unknown},
		{"unknown image of the predecessor", "predecessor", []string{image3}, unknown, client.ErrNoImage, unknown},
		{"unknown image of a series of another name", "named", []string{image2}, image3, client.ErrNoImage, image3},
		{"unknown series", "early", []string{image3}, other, client.ErrNoImage, "puavo-os-free-buster-amd64.json"},
		{"unknown series of the predecessor", "predecessor", nil, big1, fs.ErrNotExist, "puavo-os-big-buster-amd64.json"},
		{"image of no series", "named", []string{other}, "", client.ErrNoImage, other},
		{"no name", "all", []string{image3}, "../" + image4, nil, "not an image's name"},
	} {
		for way, open := range access {
			t.Run(c.name+"/"+way, func(t *testing.T) {
				p := newPlace(t, c.have...)
				before := p.files()
				_, err := p.update(open(t, c.mirror), c.image)
				if err == nil || c.err != nil && !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %v that says %q", err, c.err, c.says)
				}
				p.want(before)
			})
		}
	}
}

// No more is fetched than is needed.
func TestFetches(t *testing.T) {
	for _, c := range []struct {
		mirror string
		have   []string
		image  string
		want   []string
	}{
		{"all", []string{disable, image3}, "", nil},
		{"all", []string{image4}, "", []string{series}},
		{"all", []string{image2, image3}, "", []string{series, deltaFile(image3, image4)}},
		{"all", nil, image4, []string{series, image4}},
		{"late", []string{image1}, "", []string{series, "index.json", image4}},
		{"named", []string{image2}, "", []string{series, "index.json", "meta/a-first.json", "meta/release.json", deltaFile(image2, image4)}},
	} {
		p := newPlace(t)
		for _, f := range c.have {
			p.write(f, nil)
			if f != disable {
				p.write(f, imageData(f))
			}
		}
		s := newSite(t, c.mirror, nil)
		if _, err := p.update(s.URL+"//", c.image); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if got := s.asked(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: fetched %q", c, got)
		}
	}
}

// Where updates are disabled nothing is touched, not even the mirror.
func TestDisabled(t *testing.T) {
	p := newPlace(t, image3)
	p.write(disable, nil)
	result, err := p.update("/none", "")
	if err != nil || !result.Disabled || result.UpToDate {
		t.Errorf("%+v, %v", result, err)
	}
	if _, err := os.Lstat(filepath.Join(p.dir, lockFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
}

// What dead runs left is removed, and nothing of others.
func TestLeftovers(t *testing.T) {
	p := newPlace(t, image3)
	if err := os.Mkdir(filepath.Join(p.dir, image2+".tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"notes.tmp", "odd name.img.tmp", image1 + ".torrent", "rdiffs.tmp", "CKSUMS"} {
		p.write(f, []byte("foreign"))
	}
	want := p.files()
	p.write(image1+".tmp", []byte("of a target that is no more"))
	p.write(image4+".tmp", bytes.Repeat([]byte("longer than the image"), 50_000))
	want[image4] = imageText(image4)
	if _, err := p.update(access["directory"](t, "all"), ""); err != nil {
		t.Error(err)
	}
	p.want(want)
}

// An image that is not as its name promises does no harm: as a base it is
// recognised before anything is fetched for it, and another way is gone.
func TestDamagedImages(t *testing.T) {
	resize := func(size int) func([]byte) []byte {
		return func(b []byte) []byte { return append(b, make([]byte, size)...)[:size] }
	}
	size := len(imageData(image3))
	for _, c := range []struct {
		name   string
		file   string
		damage func(data []byte) []byte
		others []string
		route  string
		warns  int // how often
	}{
		{"base with a bit flipped", image3, flip, nil, fromFull, 1},
		{"base with a bit flipped, and another base", image3, flip, []string{image2}, from(image2), 1},
		{"base renamed from another image", image3, func([]byte) []byte { return resize(size)(imageData(other)) }, nil, fromFull, 1},
		{"base renamed, and another base", image3, func([]byte) []byte { return resize(size)(imageData(image1)) }, []string{image2}, from(image2), 1},
		{"base cut short", image3, resize(size - 1), nil, fromFull, 0},
		{"base cut short, and another base", image3, resize(size / 2), []string{image2}, from(image2), 0},
		{"base longer", image3, resize(size + 1), nil, fromFull, 0},
		{"base empty", image3, resize(0), nil, fromFull, 0},
		{"target cut short", image4, resize(1000), []string{image3}, from(image3), 0},
		{"target with a bit flipped", image4, flip, []string{image3}, from(image3), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, c.others...)
			p.write(c.file, imageData(c.file))
			s := newSite(t, "all", nil)
			// What is known of the right one must not count for the damaged one, which has
			// the same times.
			if _, err := client.Verify(t.Context(), p.options(s.URL, "")); err != nil {
				t.Fatal(err)
			}
			info := must(os.Stat(filepath.Join(p.dir, c.file)))
			p.write(c.file, c.damage(imageData(c.file)))
			os.Chtimes(filepath.Join(p.dir, c.file), info.ModTime(), info.ModTime())
			want := p.files()
			want[image4] = imageText(image4)
			result, err := p.update(s.URL, image4)
			if err != nil || result.Route.String() != c.route {
				t.Errorf("%+v, %v; want it by %s", result, err, c.route)
			}
			p.want(want)
			if strings.Count(p.log.String(), "\n") != c.warns {
				t.Errorf("warnings: %q", &p.log)
			}
			if asked := s.asked(); slices.Contains(asked, deltaFile(image3, image4)) && c.file == image3 {
				t.Errorf("a delta to the damaged base was fetched: %q", asked)
			}
		})
	}
}
