package published

import (
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

// inCKSUMS reports whether CKSUMS names a compact delta.
func inCKSUMS(t *testing.T, dir atomicfile.Dir) bool {
	t.Helper()
	data, err := dir.ReadFile("CKSUMS", meta.MaxDocument)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(data), ".cdelta")
}

// One compact delta is added or replaced, in the order of the bases, and nothing else changes;
// whoever has the document of the series before sees nothing of it.
func TestSetCompact(t *testing.T) {
	other := compact(image1, image3)
	other.Sums = sumsOf("made again")
	was := []string{"", image1}
	for _, c := range []struct {
		name           string
		series, target string
		compact        meta.Compact
		torrent        cksum.Digest256
		bases          []string // of the target then, nil where nothing changes
	}{
		{"one more", "a", image3, compact(image2, image3), cksum.Digest256{}, []string{"", image1, image2}},
		{"one more, with a torrent", "a", image3, compact(image2, image3), cksum.Digest256{5}, []string{"", image1, image2}},
		{"in the place of another", "a", image3, other, cksum.Digest256{}, was},
		{"the first of its image", "a", image1, compact("", image1), cksum.Digest256{}, []string{""}},
		{"no such series", "c", image3, compact(image2, image3), cksum.Digest256{}, nil},
		{"no such image", "b", image3, compact(image2, image3), cksum.Digest256{}, nil},
		{"no such base", "a", image3, compact("os-2020-01-01-000000-amd64.img", image3), cksum.Digest256{}, nil},
	} {
		dir, d := mirrorOf(t)
		before, text := d.All(), words(t, dir)
		if set := d.SetCompact(c.series, name(c.target), c.compact, c.torrent); set != (c.bases != nil) {
			t.Errorf("%s: set %v", c.name, set)
		}
		if changed, err := d.Write(t.Context()); err != nil || changed != (c.bases != nil) {
			t.Errorf("%s: changed %v, %v", c.name, changed, err)
		}
		if len(before[0].Images[2].Compact) != 2 || before[0].Images[2].Compact[1].Sums != compact(image1, image3).Sums || len(before[0].Images[0].Compact) != 0 {
			t.Errorf("%s: the document before changed", c.name)
		}
		if c.bases == nil {
			if words(t, dir) != text {
				t.Errorf("%s: the documents changed", c.name)
			}
			continue
		}
		again := load(t, dir)
		s, _ := again.Series(c.series)
		im, _ := s.Image(name(c.target))
		var bases []string
		for _, got := range im.Compact {
			base := ""
			if got.Base != (meta.Name{}) {
				base = got.Base.String()
			}
			bases = append(bases, base)
		}
		got, _ := im.CompactFrom(c.compact.Base)
		if !slices.Equal(bases, c.bases) || got.Sums != c.compact.Sums || got.Memory != c.compact.Memory {
			t.Errorf("%s: from %q, want %q; %+v", c.name, bases, c.bases, got)
		}
		listed, _ := again.Listed(c.compact.Filename)
		if torrent, _ := again.Listed(c.compact.Filename + ".torrent"); listed != c.compact.Sums.SHA256 || torrent != c.torrent {
			t.Errorf("%s: listed are %s and the torrent %s", c.name, listed, torrent)
		}
		if inCKSUMS(t, dir) {
			t.Errorf("%s: CKSUMS names compact deltas", c.name)
		}
		checkSums(t, c.name, dir)
	}
}

// The torrent of a compact delta goes with it.
func TestWithdrawCompactTorrent(t *testing.T) {
	dir, d := mirrorOf(t)
	c := compact(image2, image3)
	d.SetCompact("a", name(image3), c, cksum.Digest256{5})
	d.Publish([]meta.Series{{Name: "b", Images: []meta.Image{image(image2)}}}, []string{"a"}, nil)
	if _, err := d.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, ok := load(t, dir).Listed(c.Filename + ".torrent"); !ok {
		t.Error("a series that is kept lost a torrent")
	}
	d.Withdraw(c.Filename)
	if _, err := d.Write(t.Context()); err != nil || strings.Contains(words(t, dir), c.Filename) {
		t.Errorf("%v: it is named", err)
	}
}
