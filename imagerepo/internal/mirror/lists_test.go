package mirror

import (
	"path"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
)

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func TestParseList(t *testing.T) {
	for _, c := range []struct{ list, text, want string }{
		{"SHA256SUMS", "a.img", "a.img"},
		{"SHA256SUMS", "rdiffs/a.rdiff", "rdiffs/a.rdiff"}, // of an earlier version
		{"rdiffs/SHA256SUMS", "a.rdiff", "rdiffs/a.rdiff"},
		{"compact/SHA256SUMS", "a.cdelta", "compact/a.cdelta"},
		{"meta/SHA256SUMS", "a.json", "meta/a.json"},
		{"torrents/SHA256SUMS", "a.img.torrent", "torrents/a.img.torrent"},
		{"rdiffs/SHA256SUMS", "rdiffs/a.rdiff", ""},
		{"rdiffs/SHA256SUMS", "../a.img", ""},
		{"SHA256SUMS", "../a.img", ""},
	} {
		lines, err := ParseList(c.list, []byte(zeros+"  "+c.text+"\n"))
		if (err == nil) != (c.want != "") || err == nil && (len(lines) != 1 || lines[0].Path != c.want) {
			t.Errorf("%s with %s: %v, %v", c.list, c.text, lines, err)
		}
	}
	if lines, err := ParseList("meta/SHA256SUMS", nil); lines != nil || err != nil {
		t.Errorf("empty: %v, %v", lines, err)
	}
	want := []string{"rdiffs/SHA256SUMS", "compact/SHA256SUMS", "meta/SHA256SUMS", "torrents/SHA256SUMS", "SHA256SUMS"}
	if got := Lists(); !slices.Equal(got, want) {
		t.Errorf("lists are %q, want %q", got, want)
	}
	for p, want := range map[string]string{"a.img": "SHA256SUMS", "rdiffs/a.rdiff": "rdiffs/SHA256SUMS", "a/b/c": "a/b/SHA256SUMS"} {
		if got := ListOf(p); got != want {
			t.Errorf("%s belongs to %s, want %s", p, got, want)
		}
	}
}

// What is parsed can be written again, and names files of the folder alone.
func FuzzParseList(f *testing.F) {
	for _, name := range []string{"a", "a/b", "..", "a b", " a", "ä", "\x00"} {
		f.Add([]byte(zeros + "  " + name + "\n"))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		const list = "rdiffs/SHA256SUMS"
		lines, err := ParseList(list, content)
		if err != nil {
			if lines != nil {
				t.Errorf("%v, and lines", err)
			}
			return
		}
		for _, l := range lines {
			if path.Dir(l.Path) != "rdiffs" || strings.HasSuffix(l.Path, "/..") {
				t.Errorf("it names %q", l.Path)
			}
		}
		again, err := ParseList(list, FormatList(lines))
		byPath := func(a, b cksum.SHA256Line) int { return strings.Compare(a.Path, b.Path) }
		slices.SortFunc(lines, byPath)
		if err != nil || !slices.Equal(again, lines) {
			t.Errorf("%v, %v; was %v", again, err, lines)
		}
	})
}
