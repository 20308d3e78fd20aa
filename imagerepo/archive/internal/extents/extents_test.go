package extents

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const dirtyMap = `[
{ "offset": 0, "length": 1048576, "type": 0, "description": "clean"},
{ "offset": 1048576, "length": 65536, "type": 1, "description": "dirty"},
{ "offset": 1114112, "length": 65536, "type": 1, "description": "dirty"},
{ "offset": 1179648, "length": 100, "type": 0, "description": "clean"}
]
`

func TestDirty(t *testing.T) {
	m, err := Dirty([]byte(dirtyMap), 1179748)
	want := Map{{0, 1048576, false}, {1048576, 131072, true}, {1179648, 100, false}}
	if err != nil || !reflect.DeepEqual(m, want) || m.Size() != 1179748 || m.Bytes() != 131072 {
		t.Errorf("%v, %v, want %v", m, err, want)
	}
	for _, c := range []struct {
		start, end int64
		any, all   bool
	}{
		{0, 1048576, false, false}, {0, 1048577, true, false}, {1048576, 1179648, true, true}, {1048580, 1048581, true, true},
		{1179647, 1179649, true, false}, {1179648, 1179748, false, false}, {1179748, 2000000, false, false}, {5, 5, false, false},
	} {
		if m.Any(c.start, c.end) != c.any || m.All(c.start, c.end) != c.all {
			t.Errorf("%d to %d: any %v, all %v", c.start, c.end, m.Any(c.start, c.end), m.All(c.start, c.end))
		}
	}
}

func TestZeros(t *testing.T) {
	nbd := `[{"offset":0,"length":4,"type":3},{"offset":4,"length":4,"type":0},{"offset":8,"length":4,"type":2},{"offset":12,"length":4,"type":1}]`
	want := Map{{0, 4, true}, {4, 4, false}, {8, 4, true}, {12, 4, false}}
	if m, err := Zeros([]byte(nbd), 16); err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%v, %v, want %v", m, err, want)
	}
	image := `[{ "start": 0, "length": 4, "depth": 0, "present": false, "zero": true, "data": false},
{ "start": 4, "length": 12, "depth": 0, "present": true, "zero": false, "data": true, "offset": 458752}]`
	want = Map{{0, 4, true}, {4, 12, false}}
	if m, err := ImageZeros([]byte(image), 16); err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%v, %v, want %v", m, err, want)
	}
}

func TestMapErrors(t *testing.T) {
	one := func(fields string) string { return "[{" + fields + "}]" }
	for _, c := range []struct{ name, nbd string }{
		{"nothing", ""},
		{"an object", `{}`},
		{"no ranges", `[]`},
		{"a number", `[1]`},
		{"no offset", one(`"length":16,"type":0`)},
		{"no length", one(`"offset":0,"type":0`)},
		{"no type", one(`"offset":0,"length":16`)},
		{"a type of another context", one(`"offset":0,"length":16,"type":2`)},
		{"a negative type", one(`"offset":0,"length":16,"type":-1`)},
		{"a gap at the start", one(`"offset":1,"length":15,"type":0`)},
		{"too short", one(`"offset":0,"length":15,"type":0`)},
		{"too long", one(`"offset":0,"length":17,"type":0`)},
		{"no bytes", `[{"offset":0,"length":0,"type":0},{"offset":0,"length":16,"type":0}]`},
		{"negative", `[{"offset":0,"length":-1,"type":0},{"offset":-1,"length":17,"type":0}]`},
		{"overlapping", `[{"offset":0,"length":8,"type":0},{"offset":7,"length":9,"type":0}]`},
		{"more after it", one(`"offset":0,"length":16,"type":0`) + "[]"},
		{"broken off", `[{"offset":0,"length":16,"type":0}`},
		{"a fraction", one(`"offset":0,"length":16.5,"type":0`)},
		{"text", one(`"offset":"0","length":16,"type":0`)},
	} {
		if m, err := Dirty([]byte(c.nbd), 16); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", c.name, m, err)
		}
	}
	for _, image := range []string{one(`"start":0,"length":16`), one(`"start":0,"zero":true`), one(`"length":16,"zero":true`)} {
		if m, err := ImageZeros([]byte(image), 16); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", image, m, err)
		}
	}
}

// Ranges are bounded.
func TestMaxExtents(t *testing.T) {
	defer func(most int) { maxExtents = most }(maxExtents)
	maxExtents = 1000
	var b strings.Builder
	b.WriteString("[")
	for i := range maxExtents + 1 {
		fmt.Fprintf(&b, `{"offset":%d,"length":1,"type":%d},`, i, i&1)
	}
	text := strings.TrimSuffix(b.String(), ",") + "]"
	if _, err := Dirty([]byte(text), int64(maxExtents)+1); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%v", err)
	}
}

func TestParseExport(t *testing.T) {
	text := `{"protocol":"newstyle-fixed","exports":[{"export-name":"","contexts":["base:allocation","qemu:dirty-bitmap:b"],"export-size":10485760,"new":1}]}`
	e, err := ParseExport([]byte(text))
	if want := (Export{10485760, []string{"base:allocation", "qemu:dirty-bitmap:b"}}); err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("%v, %v", e, err)
	}
	for _, text := range []string{"", "{}", `{"exports":[]}`, `{"exports":[{}]}`, `{"exports":[{"export-size":0}]}`, `{"exports":[{"export-size":-5}]}`,
		`{"exports":[{"export-size":1e300}]}`, `{"exports":[{"export-size":1},{"export-size":1}]}`} {
		if e, err := ParseExport([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", text, e, err)
		}
	}
}

func TestParseImage(t *testing.T) {
	parse := func(members string) (Image, error) {
		return ParseImage([]byte(`{"virtual-size":512,"format":"qcow2"`+members+`}`), "qcow2")
	}
	for _, c := range []struct {
		members string
		want    Image
	}{
		{``, Image{Size: 512}},
		{`,"backing-filename":"/etc/shadow"`, Image{Size: 512, Outside: "/etc/shadow"}},
		{`,"full-backing-filename":""`, Image{Size: 512, Outside: "another file"}},
		{`,"format-specific":{"data":{"data-file":"/dev/sda"}}`, Image{Size: 512, Outside: "/dev/sda"}},
		{`,"encrypted":true`, Image{Size: 512, Encrypted: true}},
		{`,"format-specific":{"data":{"encrypt":{"format":"luks"}}}`, Image{Size: 512, Encrypted: true}},
		{`,"format-specific":{"data":{"bitmaps":[{"name":"a","flags":["auto"]},{"name":"b","flags":["in-use","auto"]},{"name":"c","flags":[]}]}}`,
			Image{Size: 512, Bitmaps: []string{"a"}, Broken: []string{"b"}}},
	} {
		if got, err := parse(c.members); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.members, got, err)
		}
	}
	for _, text := range []string{"", "[]", `{"format":"qcow2"}`, `{"virtual-size":0,"format":"qcow2"}`, `{"virtual-size":512,"format":"raw"}`} {
		if i, err := ParseImage([]byte(text), "qcow2"); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", text, i, err)
		}
	}
}

// Whatever is parsed covers the disk.
func FuzzMaps(f *testing.F) {
	f.Add([]byte(dirtyMap), int64(1179748))
	f.Add([]byte(`[{"start":0,"length":16,"zero":true}]`), int64(16))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		for _, parse := range []func([]byte, int64) (Map, error){Dirty, Zeros, ImageZeros} {
			m, err := parse(data, size)
			if err != nil {
				continue
			}
			end := int64(0)
			for i, e := range m {
				if e.Offset != end || e.Length < 1 || i > 0 && m[i-1].Set == e.Set {
					t.Fatalf("%v", m)
				}
				end += e.Length
			}
			if end != size {
				t.Fatalf("%v ends at %d of %d", m, end, size)
			}
		}
	})
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte(`{"exports":[{"contexts":["base:allocation"],"export-size":10485760}]}`))
	f.Add([]byte(`{"virtual-size":512,"format":"qcow2","format-specific":{"data":{"bitmaps":[{"name":"a","flags":["auto"]}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := ParseExport(data); err == nil && !plausible(e.Size) {
			t.Errorf("%+v", e)
		}
		if i, err := ParseImage(data, "qcow2"); err == nil && !plausible(i.Size) {
			t.Errorf("%+v", i)
		}
	})
}
