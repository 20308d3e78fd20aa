package page

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
)

var update = flag.Bool("update", false, "write the pages in testdata again")

// name returns the name of an image of a version.
func name(version string) meta.Name { return meta.Name{Prefix: "os", Version: version, Arch: "amd64"} }

// file returns a file of size bytes below a host.
func file(host, path string, size int64) meta.File {
	f := meta.File{URLs: []string{path}, Sums: cksum.Sums{Size: size, SHA256: cksum.Digest256{byte(size>>28) + 1}}}
	if host != "" {
		f.URLs[0] = host + "/" + path
	}
	return f
}

// image returns an image with deltas from these bases, each a tenth of its size.
func image(host, version string, size int64, bases ...string) meta.Image {
	im := meta.Image{Name: name(version), File: file(host, name(version).String(), size)}
	for _, b := range bases {
		d := meta.DeltaName(name(b), im.Name)
		im.Diffs = append(im.Diffs, meta.Diff{File: file(host, meta.DeltaPath(d), size/10), Filename: d, Base: name(b)})
	}
	return im
}

const (
	v1 = "2021-01-01-000000"
	v2 = "2022-02-02-123456"
	v3 = "2023-03-03-235959"
)

const host = "https://images.example.org/os"

// some is a series of two images, from one of which and a retired one deltas lead.
func some(host string) []meta.Series {
	return []meta.Series{{Name: "os-amd64", Images: []meta.Image{image(host, v2, 3<<30, v1), image(host, v3, 4<<30, v1, v2)}}}
}

// withCompact returns series whose newest image has compact deltas: from a retired base, from
// one to which no other leads, and without a base.
func withCompact(series []meta.Series) []meta.Series {
	im := series[0].Newest()
	for _, base := range []meta.Name{{}, name(v1), name("2022-12-31-000000")} {
		c := meta.CompactName(base, im.Name)
		im.Compact = append(im.Compact, meta.Compact{File: file(host, meta.CompactPath(c), 5<<20), Filename: c, Base: base})
	}
	return series
}

// torrentsOf returns the paths of the torrents of all images, and of one delta.
func torrentsOf(series []meta.Series) map[string]string {
	paths := make(map[string]string)
	for _, im := range series[0].Images {
		paths[im.Name.String()] = "torrents/" + im.Name.String() + ".torrent"
	}
	delta := series[0].Images[1].Diffs[0].Filename
	paths[delta] = "torrents/" + delta + ".torrent"
	return paths
}

var root = &Root{Version: 2, Expires: time.Date(2027, 1, 2, 23, 0, 0, 0, time.FixedZone("", -3*60*60)), Keys: []string{"0123abcd", "4567ef"}, Threshold: 2}

// made returns a page, which must be the same each time.
func made(t *testing.T, series []meta.Series, root *Root) string {
	t.Helper()
	return madeWith(t, series, root, nil)
}

func madeWith(t *testing.T, series []meta.Series, root *Root, torrents map[string]string) string {
	t.Helper()
	first, err := Make(series, root, torrents)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Make(series, root, torrents); err != nil || !bytes.Equal(again, first) {
		t.Errorf("%v, another page: %t", err, !bytes.Equal(again, first))
	}
	return string(first)
}

// Each page is the one in testdata, but for its style.
func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name     string
		series   []meta.Series
		root     *Root
		torrents map[string]string
	}{
		{"empty", nil, nil, nil},
		{"relative", some(""), nil, nil},
		{"torrents", some(host), nil, torrentsOf(some(host))},
		{"compact", withCompact(some(host)), nil, map[string]string{meta.CompactName(name(v1), name(v3)): "torrents/x.torrent"}},
		{"signed", append(some(host), meta.Series{Name: "other", Images: []meta.Image{image(host, v1, 5)}}, meta.Series{Name: "none"}), root, nil},
	} {
		got := strings.Replace(madeWith(t, c.series, c.root, c.torrents), style, "\n", 1)
		got = strings.Replace(got, strings.ReplaceAll(digest(style), "+", "&#43;"), "DIGEST", 1)
		file := "testdata/" + c.name + ".html"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: go test -update writes what it is now:\n%s", c.name, got)
		}
	}
}

// text returns what a page shows, without its tags.
func text(page string) string {
	_, body, _ := strings.Cut(page, "<body>")
	body = regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	return strings.Join(strings.Fields(strings.NewReplacer("&#43;", "+", "&#39;", "'", "&lt;", "<", "&gt;", ">", "&#34;", `"`, "&amp;", "&").Replace(body)), " ")
}

// The page says what the documents do.
func TestContent(t *testing.T) {
	long := meta.Series{Name: "long"}
	for i := range 100 {
		long.Images = append(long.Images, image("", fmt.Sprintf("20%02d-01-01-000000", i), 1<<20))
	}
	for _, c := range []struct {
		name   string
		series []meta.Series
		root   *Root
		want   []string
		not    []string
	}{
		{"nothing", nil, nil, []string{"0 series, 0 images of 0 B, 0 deltas of 0 B", "--mirror https://HOST", "HOST is the host"}, []string{"Signed", "--trust"}},
		{"a host", some(host), nil, []string{"1 series, 2 images of 7.0 GiB, 3 deltas of 1.1 GiB", "puavo-update-image --mirror " + host + " --images-dir /images",
			"2 images, the newest of 2023-03-03 23:59", "2022-02-02 12:34 3.0 GiB", v1 + " (retired)", "409.6 MiB 10.0 %", "–"}, []string{"HOST"}},
		{"compact deltas", withCompact(some(host)), nil, []string{"3 deltas of 1.1 GiB, 3 compact deltas of 15.0 MiB", "no base – – + 5.0 MiB",
			v1 + " (retired) 307.2 MiB 10.0 % 409.6 MiB 10.0 % + 5.0 MiB", "2022-12-31-000000 (retired) – – + 5.0 MiB", "+ size of the compact delta", "compact/SHA256SUMS"}, nil},
		{"no compact deltas", some(host), nil, nil, []string{"compact", "no base"}},
		{"signed", some(host), root, []string{"--trust root.json --mirror", "Root 2 expires on 2027-01-03", "2 of these keys", "0123abcd", "4567ef"}, nil},
		{"files of two series count once", append(some(""), meta.Series{Name: "b", Images: some("")[0].Images}), nil, []string{"2 series, 2 images of 7.0 GiB, 3 deltas"}, nil},
		{"hosts that differ", append(some(host), meta.Series{Name: "b", Images: []meta.Image{image("https://other", v1, 1)}}), nil, []string{"https://HOST"}, nil},
		{"a long series", []meta.Series{long}, nil, []string{"60 older images are not shown"}, []string{"delta from"}},
		{"an odd version", []meta.Series{{Name: "a", Images: []meta.Image{image("", "1", 1), image("", "", 0)}}}, nil, []string{"2 images"}, nil},
	} {
		got := text(made(t, c.series, c.root))
		for _, want := range c.want {
			if !strings.Contains(strings.ReplaceAll(got, "\u00a0", " "), want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, got)
			}
		}
		for _, not := range c.not {
			if strings.Contains(got, not) {
				t.Errorf("%s: %q in\n%s", c.name, not, got)
			}
		}
	}
}

// Whatever the names are, they are text, and the command is one command.
func TestHostile(t *testing.T) {
	const evil = `"><script>alert(1)</script><a href='javascript:alert(2)' onclick="x`
	for _, c := range []struct {
		name   string
		series meta.Series
		root   *Root
	}{
		{"a series", meta.Series{Name: evil, Images: some("")[0].Images}, nil},
		{"an image", meta.Series{Name: "a", Images: []meta.Image{{Name: meta.Name{Prefix: evil, Version: evil, Arch: evil}}}}, nil},
		{"a link", meta.Series{Name: "a", Images: []meta.Image{{Name: meta.Name{Prefix: "javascript:alert(1)//", Version: v1}}}}, nil},
		{"a delta", meta.Series{Name: "a", Images: []meta.Image{{Name: name(v1), Diffs: []meta.Diff{{Filename: evil, Base: meta.Name{Version: evil}}}}}}, nil},
		{"a compact delta", meta.Series{Name: "a", Images: []meta.Image{{Name: name(v1), Compact: []meta.Compact{{Filename: evil, Base: meta.Name{Version: evil}}}}}}, nil},
		{"a host", meta.Series{Name: "a", Images: []meta.Image{image("https://"+evil, v1, 1)}}, nil},
		{"a host's path", meta.Series{Name: "a", Images: []meta.Image{image("https://x/"+evil, v1, 1)}}, nil},
		{"a key", meta.Series{Name: "a"}, &Root{Keys: []string{evil}}},
	} {
		page := made(t, []meta.Series{c.series}, c.root)
		for _, tag := range []string{"<script", "onclick=\"", "href=\"javascript:", "href='"} {
			if strings.Contains(page, tag) {
				t.Errorf("%s: %s in\n%s", c.name, tag, page)
			}
		}
	}
	for url, want := range map[string]string{
		"https://x": "https://x", "http://x:1/a%20b/~c": "http://x:1/a%20b/~c", "https://x/;rm -r/": "'https://x/;rm -r/'",
		"https://x/$(y)'z": `'https://x/$(y)'\''z'`, "http://[::1]:80": "'http://[::1]:80'",
		"ftp://x": "https://HOST", "https://": "https://HOST", "x": "https://HOST", "https://me:secret@x": "https://HOST", "https://x\n": "https://HOST",
	} {
		v := view{URL: hostURL([]meta.Series{{Images: []meta.Image{image(url, v1, 1)}}})}
		if got := strings.Join(v.Command(), " "); got != "puavo-update-image --mirror "+want+" --images-dir /images" {
			t.Errorf("%q: %s", url, got)
		}
	}
}

// FuzzParseRoot parses what may be a root, which the page then shows.
func FuzzParseRoot(f *testing.F) {
	const good = `{"signed":{"version":3,"expires":"2027-01-02T03:04:05Z","roles":{"root":{"keyids":["ab"],"threshold":1}}}}`
	for _, text := range []string{good, "", "{}", "null", `{"signed":{"roles":{"root":null}}}`, strings.Replace(good, "2027", "99999", 1), strings.Replace(good, `"root"`, `"other"`, 1)} {
		f.Add([]byte(text))
	}
	r, err := ParseRoot([]byte(good))
	if err != nil || r.Version != 3 || r.Threshold != 1 || len(r.Keys) != 1 || r.Expires.Year() != 2027 {
		f.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "{}", "[]"} {
		if r, err := ParseRoot([]byte(bad)); err == nil {
			f.Errorf("%s: %+v", bad, r)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseRoot(data); err == nil {
			made(t, nil, r)
		}
	})
}
