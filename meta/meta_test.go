package meta

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/testdata"
)

const (
	older = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	newer = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	both  = "puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.rdiff"
)

func mustName(t testing.TB, s string) Name {
	t.Helper()
	n, err := ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseName(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Name // zero: an error
	}{
		{newer, Name{"puavo-os-amxa-buster", "2022-01-20-173248", "amd64"}},
		{"a-2022-01-20-173248-b.img", Name{"a", "2022-01-20-173248", "b"}},
		{"a_b+c.d-2022-01-20-173248-x86_64.img", Name{"a_b+c.d", "2022-01-20-173248", "x86_64"}},
		{"a-2022-01-20-173248-2022-01-20-173249-b.img", Name{"a", "2022-01-20-173248", "2022-01-20-173249-b"}},
		{"", Name{}},
		{".img", Name{}},
		{"ltsp.img", Name{}},
		{"a-2022-01-20-173248.img", Name{}},
		{"a-2022-01-20-173248-.img", Name{}},
		{"-2022-01-20-173248-b.img", Name{}},
		{"a--2022-01-20-173248-b.img", Name{}},
		{"a-2022-01-20-17324-b.img", Name{}},
		{"a-2022-1-20-173248-b.img", Name{}},
		{"a-2022-01-20-173248-b.img.tmp", Name{}},
		{"a-2022-01-20-173248-b.IMG", Name{}},
		{"a-2022-01-20-173248-b.img\n", Name{}},
		{"../a-2022-01-20-173248-b.img", Name{}},
		{"x/a-2022-01-20-173248-b.img", Name{}},
		{".a-2022-01-20-173248-b.img", Name{}},
		{"a..b-2022-01-20-173248-b.img", Name{}},
		{"ä-2022-01-20-173248-b.img", Name{}},
		{"a b-2022-01-20-173248-b.img", Name{}},
		{strings.Repeat("a", maxName) + "-2022-01-20-173248-b.img", Name{}},
	} {
		got, err := ParseName(c.in)
		if got != c.want || (err != nil) != (c.want == Name{}) {
			t.Errorf("%q: %+v, %v; want %+v", c.in, got, err, c.want)
		}
		if err == nil && got.String() != c.in {
			t.Errorf("%q: String gives %q", c.in, got)
		}
	}
}

// The error for a name says which character is wrong, and where.
func TestWrongCharacter(t *testing.T) {
	const after = "-2022-01-20-173248-amd64.img"
	for name, want := range map[string]string{
		"puavo os" + after:   `: its character 6 is " " (U+0020); only letters`,
		"büro" + after:       `: its character 2 is "ü" (U+00FC); only letters`,
		"bu\u0308ro" + after: ": its character 3 is \"\u0308\" (U+0308); only letters",
		"äö" + after:         `: its character 1 is "ä" (U+00E4); only letters`,
		"a\n" + after:        `: its character 2 is "\n" (U+000A); only letters`,
		"a\xff" + after:      `: its character 2 is the byte 0xff; only letters`,
		"a\ufffd" + after:    ": its character 2 is \"\ufffd\" (U+FFFD); only letters",
		"../a" + after:       `: its character 3 is "/" (U+002F); only letters`,
		"a--b" + after:       "at most 180 bytes)",
		"":                   "at most 180 bytes)",
	} {
		_, err := ParseName(name)
		if err == nil || !strings.Contains(err.Error(), want) || strings.HasSuffix(want, ")") && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
}

// A version is a date and time. What has other digits was taken by earlier versions, and
// is where it is published or installed.
func TestParseVersion(t *testing.T) {
	for version, says := range map[string]string{
		"2022-13-20-173248": "month 13", "2022-00-20-173248": "month 00", "2022-01-32-173248": "day 32", "2022-01-00-173248": "day 00",
		"2022-02-29-173248": "day 29", "2022-01-20-243248": "hour 24", "2022-01-20-176048": "minute 60", "2022-01-20-173260": "second 60",
		"2022-13-32-256161": "month 13", "2024-02-29-000000": "", "0000-01-01-235959": "", "9999-12-31-235959": "",
	} {
		image, from, to := "a-"+version+"-b.img", "a-"+version+"--2022-01-20-173248-b.rdiff", "a-2022-01-20-173248--"+version+"-b.rdiff"
		_, err := ParseName(image)
		_, _, fromErr := ParseDeltaName(from)
		_, _, toErr := ParseDeltaName(to)
		for name, err := range map[string]error{image: err, from: fromErr, to: toErr} {
			if want := strconv.Quote(name) + ": there is no " + says + "; the version in the name must be a date and time"; (err != nil) != (says != "") || err != nil && !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%v, want %q", err, says)
			}
		}
		old, err := ParseOldName(image)
		base, target, deltaErr := ParseOldDeltaName(to)
		if err != nil || deltaErr != nil || old.String() != image || DeltaName(base, Name{Version: target}) != to {
			t.Errorf("%s: %v, %v, %v, %q, %v", version, old, err, base, target, deltaErr)
		}
	}
}

func TestName(t *testing.T) {
	b, n := mustName(t, older), mustName(t, newer)
	for got, want := range map[string]string{
		n.ID():          strings.TrimSuffix(newer, ".img"),
		n.Digits():      "20220120173248",
		n.Series():      "puavo-os-amxa-buster-amd64",
		DeltaName(b, n): both,
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if b.Compare(n) >= 0 || n.Compare(b) <= 0 || n.Compare(n) != 0 {
		t.Error("names are not ordered by version")
	}
}

func TestParseDeltaName(t *testing.T) {
	base, version, err := ParseDeltaName(both)
	if err != nil || base != mustName(t, older) || version != mustName(t, newer).Version {
		t.Errorf("%v, %v, %v", base, version, err)
	}
	for _, bad := range []string{"", older, "../" + both, both + ".tmp", strings.Replace(both, "--", "-", 1), strings.Repeat("a", 300) + "-" + both} {
		if _, _, err := ParseDeltaName(bad); err == nil {
			t.Errorf("%q is taken for a delta's name", bad)
		}
	}
}

// example is a series with all there can be in it.
func example(t testing.TB) Series {
	b, n := mustName(t, older), mustName(t, newer)
	sums := cksum.Sums{Size: 5, CRC: 1<<32 - 1, SHA256: [32]byte{1}, SHA512: [64]byte{2}, BLAKE3: [32]byte{3}}
	return Series{Name: "buster", Images: []Image{
		{File: File{[]string{older}, sums}, Name: b, Conf: map[string]json.RawMessage{}},
		{
			File: File{[]string{"https://h/" + newer}, sums}, Name: n,
			Conf: map[string]json.RawMessage{"b": json.RawMessage(`{"x":"<ä&>"}`), "a": json.RawMessage(`1.50`)},
			Diffs: []Diff{{
				File:     File{[]string{"https://h/rdiffs/" + both}, sums},
				Filename: both, Base: b,
			}},
		},
	}}
}

func TestSeriesRoundTrip(t *testing.T) {
	s := example(t)
	first, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseSeries(first)
	if err != nil {
		t.Fatal(err)
	}
	second, err := back.Encode()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("%v\n%s\n%s", err, first, second)
	}
	im, ok := back.Image(mustName(t, newer))
	if !ok || im != back.Newest() {
		t.Error("the newest image is not the last")
	}
	if d, ok := im.Diff(mustName(t, older)); !ok || d.Filename != both || d.Sums != s.Images[1].Diffs[0].Sums {
		t.Errorf("%+v, %v", d, ok)
	}
	if _, ok := im.Diff(im.Name); ok {
		t.Error("an image has a diff from itself")
	}
}

// The keys stand in the predecessor's order, which people know.
func TestSeriesEncoding(t *testing.T) {
	s := example(t)
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	zeros := func(first string, n int) string { return first + strings.Repeat("0", n-len(first)) }
	digests := `"cksum":"4294967295","sha256":"` + zeros("01", 64) + `","sha512":"` + zeros("02", 128) + `","blake3":"` + zeros("03", 64) + `"`
	want := `{"buster":{"images":[{"diffs":[],"filename":"` + older + `","id":"puavo-os-amxa-buster-2022-01-17-120001-amd64","puavo-conf":{},"size":5,"urls":["` + older + `"],"version":"20220117120001",` + digests + `},` +
		`{"diffs":[{"filename":"` + both + `","urls":["https://h/rdiffs/` + both + `"],"version":"20220117120001","size":5,` + digests + `}],` +
		`"filename":"` + newer + `","id":"puavo-os-amxa-buster-2022-01-20-173248-amd64","puavo-conf":{"a":1.50,"b":{"x":"<ä&>"}},"size":5,"urls":["https://h/` + newer + `"],"version":"20220120173248",` + digests + `}]}}` + "\n"
	if string(b) != want {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
}

// The filter of the installed clients finds each field.
func TestInstalledFilter(t *testing.T) {
	s := compactExample(t)
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/buster.json"
	writeFile(t, file, b)
	for _, c := range []struct{ filename, filter, want string }{
		{newer, `.[][][] | select(has("filename") and has($field) and .filename == $filename) | .[$field]`, s.Images[1].Sums.SHA512.String()},
		{both, `.[][][] | select(has("diffs")) | .diffs[] | select(has("filename") and has($field) and .filename == $filename) | .[$field]`, s.Images[1].Diffs[0].Sums.SHA512.String()},
	} {
		got := testdata.Run(t, "jq", "-r", "--arg", "field", "sha512", "--arg", "filename", c.filename, c.filter, file)
		if strings.TrimSpace(string(got)) != c.want {
			t.Errorf("%s: jq finds %q, want %q", c.filename, got, c.want)
		}
	}
}

func TestParseSeriesRefuses(t *testing.T) {
	s := example(t)
	encoded, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(encoded)
	sha512 := `"sha512":"` + s.Images[0].Sums.SHA512.String() + `"`
	for name, bad := range map[string]string{
		"empty":                "",
		"null":                 "null",
		"array":                "[]",
		"no series":            "{}",
		"two series":           `{"a":{"images":[]},"b":{"images":[]}}`,
		"null series":          `{"a":null}`,
		"no images":            `{"a":{}}`,
		"series name":          strings.Replace(good, `{"buster"`, `{"../buster"`, 1),
		"cut":                  good[:len(good)/2],
		"trailing":             good + "x",
		"filename with path":   strings.Replace(good, `"filename":"puavo`, `"filename":"../puavo`, 1),
		"other id":             strings.Replace(good, `"id":"puavo`, `"id":"xuavo`, 1),
		"other version":        strings.Replace(good, `"version":"20220120173248"`, `"version":"20220120173249"`, 1),
		"negative size":        strings.Replace(good, `"size":5`, `"size":-5`, 1),
		"size as string":       strings.Replace(good, `"size":5`, `"size":"5"`, 1),
		"huge size":            strings.Replace(good, `"size":5`, `"size":99999999999999999999`, 1),
		"cksum as number":      strings.Replace(good, `"cksum":"4294967295"`, `"cksum":4294967295`, 1),
		"cksum too large":      strings.Replace(good, `"cksum":"4294967295"`, `"cksum":"4294967296"`, 1),
		"no sha512":            strings.Replace(good, sha512, `"sha512x":""`, 1),
		"sha512 short":         strings.Replace(good, sha512, `"sha512":"00"`, 1),
		"sha512 not hex":       strings.Replace(good, sha512, strings.Replace(sha512, "00", "0g", 1), 1),
		"an image twice":       strings.Replace(good, `{"diffs":[],`, good[strings.Index(good, `{"diffs":[]`):strings.Index(good, `,{"diffs":[{`)]+`,{"diffs":[],`, 1),
		"diff of other target": strings.Replace(good, `"filename":"`+both, `"filename":"`+strings.Replace(both, "173248", "173249", 1), 1),
		"diff of other base":   strings.Replace(good, `"version":"20220117120001","size"`, `"version":"20220117120002","size"`, 1),
		"diff twice":           strings.Replace(good, `{"diffs":[{`, `{"diffs":[`+good[strings.Index(good, `{"filename":"`+both):strings.Index(good, `}],`)]+`},{`, 1),
	} {
		if bad == good {
			t.Errorf("%s: the row changes nothing", name)
		}
		if _, err := ParseSeries([]byte(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: no error", name)
		}
	}
}

// Documents may hold more than we know, and less than we write.
func TestParseSeriesAccepts(t *testing.T) {
	s := example(t)
	encoded, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(encoded)
	for name, doc := range map[string]string{
		"unknown key":     strings.Replace(good, `"diffs"`, `"later":{"x":[1]},"diffs"`, 1),
		"no blake3":       strings.ReplaceAll(good, `,"blake3":"03`+strings.Repeat("0", 62)+`"`, ""),
		"no cksum":        strings.Replace(good, `"cksum":"4294967295",`, "", 1),
		"no puavo-conf":   strings.Replace(good, `"puavo-conf":{},`, "", 1),
		"null puavo-conf": strings.Replace(good, `"puavo-conf":{}`, `"puavo-conf":null`, 1),
		"no diffs":        strings.Replace(good, `"diffs":[],`, "", 1),
		"no date":         strings.NewReplacer("2022-01-17", "2022-00-99", "20220117", "20220099").Replace(good),
		"newest first":    `{"buster":{"images":[` + good[strings.Index(good, `{"diffs":[{`):len(good)-4] + `,` + good[strings.Index(good, `{"diffs":[]`):strings.Index(good, `,{"diffs":[{`)] + `]}}`,
	} {
		if doc == good {
			t.Errorf("%s: the row changes nothing", name)
		}
		got, err := ParseSeries([]byte(doc))
		if err != nil || len(got.Images) != 2 || got.Newest().Name.String() != newer || got.Images[0].Conf == nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestIndex(t *testing.T) {
	ix := NewIndex([]Series{example(t), {Name: "empty"}})
	b, err := ix.Encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"series":[{"name":"buster","meta":"meta/buster.json","images":2,"newest":"` + newer + `"},{"name":"empty","meta":"meta/empty.json","images":0,"newest":""}]}` + "\n"
	if string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	back, err := ParseIndex(b)
	if err != nil || !slices.Equal(back.Series, ix.Series) {
		t.Errorf("%+v, %v", back, err)
	}
	for name, bad := range map[string]string{
		"empty":        "",
		"array":        "[]",
		"name":         strings.Replace(want, `"name":"buster"`, `"name":"a/b"`, 1),
		"path":         strings.Replace(want, "meta/buster.json", "../x.json", 1),
		"newest":       strings.Replace(want, newer, "../x", 1),
		"series twice": strings.ReplaceAll(want, "empty", "buster"),
	} {
		if _, err := ParseIndex([]byte(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig([]byte(`{
		"b": {"images": ["` + newer + `", "` + older + `"], "extra_rdiffs": {"` + newer + `": ["` + older + `"]}},
		"a": ["` + newer + `"], "c": {"images": []}, "d": []}`))
	if err != nil || len(got) != 4 {
		t.Fatalf("%+v, %v", got, err)
	}
	o, n := mustName(t, older), mustName(t, newer)
	if !slices.Equal(got[0].Images, []Name{n}) || !slices.Equal(got[1].Images, []Name{o, n}) {
		t.Errorf("images %v and %v", got[0].Images, got[1].Images)
	}
	if !maps.EqualFunc(got[1].Extra, map[Name][]Name{n: {o}}, slices.Equal) {
		t.Errorf("extra %v", got[1].Extra)
	}
}

// The case of keys does not count, and what is null is not there.
func TestParseConfigAccepts(t *testing.T) {
	o, n := mustName(t, older), mustName(t, newer)
	for _, c := range []struct {
		name, series string
		extra        map[Name][]Name
	}{
		{"an array", `["` + newer + `"]`, nil},
		{"other cases", `{"Images": ["` + newer + `"], "EXTRA_RDIFFS": {"` + newer + `": ["` + older + `"]}}`, map[Name][]Name{n: {o}}},
		{"letters that fold to others", `{"image\u017f": ["` + newer + `"]}`, nil},
		{"images alone", `{"images": ["` + newer + `"]}`, nil},
		{"extra null", `{"extra_rdiffs": null, "images": ["` + newer + `"]}`, nil},
		{"extra of null", `{"images": ["` + newer + `"], "extra_rdiffs": {"` + newer + `": null}}`, map[Name][]Name{n: {}}},
	} {
		got, err := ParseConfig([]byte(`{"a": ` + c.series + `}`))
		if err != nil || len(got) != 1 || !slices.Equal(got[0].Images, []Name{n}) || !maps.EqualFunc(got[0].Extra, c.extra, slices.Equal) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestParseConfigRefuses(t *testing.T) {
	for _, c := range []struct{ name, doc, says string }{
		{"empty", "", "unexpected end"},
		{"null", "null", "not an object"},
		{"syntax", "{\n\n \"a\": [}", "line 3"},
		{"array", "\n[]", "not an object"},
		{"number", `{"a": 1}`, `series "a"`},
		{"string", `{"a": "x.img"}`, `series "a"`},
		{"null series", `{"a": null}`, `series "a"`},
		{"object without images", `{"a": {"extra_rdiffs": {}}}`, `series "a"`},
		{"number in the list", `{"a": ["` + older + `", 1]}`, `series "a"`},
		{"path", `{"a": ["` + older + `", "../` + newer + `"]}`, `series "a": images[1]: "../`},
		{"twice", `{"a": ["` + older + `", "` + older + `"]}`, "images[1]: " + older + " appears twice"},
		{"extra target", `{"a": {"images": [], "extra_rdiffs": {"x": []}}}`, `extra_rdiffs: "x"`},
		{"extra base", `{"a": {"images": [], "extra_rdiffs": {"` + newer + `": ["x"]}}}`, "extra_rdiffs: " + newer + `[0]: "x"`},
		{"series twice", `{"a": ["` + older + `"], "b": [], "a": []}`, `"a" appears twice`},
		{"series name", `{"../a": []}`, `"../a"`},
		{"a key that is near", `{"a": {"images": [], "extra_rdiff": {}}}`, `series "a": unknown key "extra_rdiff"; did you mean "extra_rdiffs"?`},
		{"a key that is near, and none that is right", `{"a": {"Image": []}}`, `unknown key "Image"; did you mean "images"?`},
		{"a key that is far", `{"a": {"images": [], "bases": []}}`, `unknown key "bases"; the keys are images and extra_rdiffs`},
		{"an empty key", `{"a": {"images": [], "": 1}}`, `unknown key "";`},
		{"a key twice", `{"a": {"images": [], "images": ["` + older + `"]}}`, `series "a": "images" appears twice`},
		{"a key twice, once in escapes", `{"a": {"images": [], "im\u0061ges": []}}`, `"images" appears twice`},
		{"a key in two cases", `{"a": {"images": [], "IMAGES": []}}`, `"IMAGES" and "images" are the same key`},
		{"extra target twice", `{"a": {"images": [], "extra_rdiffs": {"` + newer + `": [], "` + newer + `": ["` + older + `"]}}}`, "extra_rdiffs: \"" + newer + `" appears twice`},
		{"extra base twice", `{"a": {"images": [], "extra_rdiffs": {"` + newer + `": ["` + older + `", "` + older + `"]}}}`, older + " appears twice"},
		{"extra array", `{"a": {"images": [], "extra_rdiffs": []}}`, "want an array of image names, or"},
		{"images in an object", `{"a": {"images": {}}}`, "want an array of image names, or"},
	} {
		if _, err := ParseConfig([]byte(c.doc)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.says)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, p := range testdata.Glob(f, "images/*.img") {
		f.Add(p[strings.LastIndexByte(p, '/')+1:])
	}
	f.Add(both)
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseName(s); err == nil {
			if n.String() != s || strings.ContainsAny(s, "/\\\x00") || len(DeltaName(n, n)) > 250 {
				t.Errorf("%q is taken for %+v", s, n)
			}
			if b, v, err := ParseDeltaName(DeltaName(n, n)); err != nil || b.Version != n.Version || v != n.Version {
				t.Errorf("%q: %+v, %q, %v", DeltaName(n, n), b, v, err)
			}
		}
		if b, v, err := ParseDeltaName(s); err == nil && DeltaName(b, Name{Version: v}) != s {
			t.Errorf("%q is taken for %+v, %q", s, b, v)
		}
	})
}

func FuzzParseSeries(f *testing.F) {
	s := compactExample(f)
	b, err := s.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSeries(b)
		if err != nil {
			return
		}
		first, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseSeries(first)
		if err != nil {
			t.Fatalf("what was encoded does not parse: %v\n%s", err, first)
		}
		if second, err := back.Encode(); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%v\n%s\n%s", err, first, second)
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	b, err := NewIndex([]Series{example(f)}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		ix, err := ParseIndex(b)
		for _, e := range ix.Series {
			if err == nil && e.Meta != SeriesPath(e.Name) {
				t.Errorf("%+v", e)
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"a": ["` + newer + `"], "b": {"images": ["` + older + `"], "extra_rdiffs": {"` + newer + `": ["` + older + `"]}}}`))
	f.Add([]byte(`{"a": {"Images": [], "images": null, "extra_rdif": {}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		config, err := ParseConfig(b)
		for _, c := range config {
			if err == nil && !slices.IsSortedFunc(c.Images, Name.Compare) {
				t.Errorf("%v", c.Images)
			}
		}
	})
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}
