package meta

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
)

// compactExample is the example with a compact delta, and one without a base.
func compactExample(t testing.TB) Series {
	s := example(t)
	base, target := mustName(t, older), mustName(t, newer)
	for _, from := range []Name{base, {}} {
		name := CompactName(from, target)
		s.Images[1].Compact = append(s.Images[1].Compact, Compact{
			File:     File{[]string{"https://h/compact/" + name}, cksum.Sums{Size: 3, SHA512: [64]byte{4}, BLAKE3: [32]byte{5}}},
			Filename: name, Base: from, Memory: 100, Coded: 200, Unpacked: 300,
		})
	}
	return s
}

func TestCompactName(t *testing.T) {
	base, target := mustName(t, older), mustName(t, newer)
	for _, c := range []struct {
		base, target Name
		want         string
	}{
		{base, target, strings.TrimSuffix(both, ".rdiff") + ".cdelta"},
		{Name{}, target, strings.TrimSuffix(newer, ".img") + ".cdelta"},
	} {
		got := CompactName(c.base, c.target)
		back, version, err := ParseCompactName(got)
		if got != c.want || err != nil || back != c.base || version != target.Version {
			t.Errorf("%s, which is %v to %s, %v; want %s", got, back, version, err, c.want)
		}
		if CompactPath(got) != "compact/"+got {
			t.Errorf("%s", CompactPath(got))
		}
	}
	for _, bad := range []string{"", ".cdelta", older, both, "../" + both[:len(both)-6] + ".cdelta", "x--y.cdelta"} {
		if _, _, err := ParseCompactName(bad); err == nil {
			t.Errorf("%q is taken for a compact delta's name", bad)
		}
	}
}

func TestCompactRoundTrip(t *testing.T) {
	s := compactExample(t)
	encoded, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseSeries(encoded)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(encoded, again) {
		t.Errorf("%v\n%s\n%s", err, encoded, again)
	}
	for _, want := range s.Images[1].Compact {
		if got, ok := back.Newest().CompactFrom(want.Base); !ok || got.Filename != want.Filename || got.Sums != want.Sums ||
			got.Memory != 100 || got.Coded != 200 || got.Unpacked != 300 {
			t.Errorf("%+v, %v", got, ok)
		}
	}
	if _, ok := back.Newest().CompactFrom(back.Newest().Name); ok {
		t.Error("an image has a compact delta from itself")
	}
	// Without the new key, the document is the one that was always written.
	plain := example(t)
	before, err := plain.Encode()
	if err != nil || strings.Contains(string(before), "compact") || string(encoded[:bytes.Index(encoded, []byte(`,"compact"`))]) != string(before[:len(before)-len("}]}}\n")]) {
		t.Errorf("%v\n%s\n%s", err, before, encoded)
	}
}

// Entries of formats that are not known are left out, whatever is in them, and no other.
func TestCompactFormats(t *testing.T) {
	s := compactExample(t)
	encoded, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	const first = `"compact":[{`
	for name, c := range map[string]struct {
		old, new string
		known    int
	}{
		"both":                  {"", "", 2},
		"another format":        {`"format":"1"`, `"format":"2"`, 1},
		"a number":              {`"format":"1"`, `"format":1`, 1},
		"none":                  {`"format":"1",`, ``, 1},
		"no object":             {first, `"compact":["later",7,null,[],{`, 2},
		"with other members":    {first, `"compact":[{"format":"2","size":"x","urls":7,"filename":{}},{`, 2},
		"known, unknown member": {first, first + `"later":[1],`, 2},
	} {
		doc := strings.Replace(string(encoded), c.old, c.new, 1)
		got, err := ParseSeries([]byte(doc))
		if err != nil || len(got.Images) != 2 || len(got.Newest().Compact) != c.known {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestCompactRefused(t *testing.T) {
	s := compactExample(t)
	encoded, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(encoded)
	at := strings.Index(good, `"compact":[`)
	entry := good[at+len(`"compact":[`) : strings.Index(good, `},{"filename":"`+strings.TrimSuffix(newer, ".img"))+1]
	full := strings.TrimSuffix(newer, ".img") + ".cdelta"
	for name, c := range map[string][2]string{
		"no array":          {`"compact":[`, `"compact":{},"x":[`},
		"the same twice":    {entry, entry + "," + entry},
		"a path":            {`"filename":"` + full, `"filename":"../` + full},
		"another target":    {`"filename":"` + full, `"filename":"` + strings.Replace(full, "173248", "173249", 1)},
		"another prefix":    {`"filename":"` + full, `"filename":"x` + full},
		"a version, full":   {full + `","format":"1"`, full + `","version":"20220117120001","format":"1"`},
		"no version, delta": {`"version":"20220117120001","size":3`, `"size":3`},
		"another version":   {`"version":"20220117120001","size":3`, `"version":"20220117120002","size":3`},
		"negative memory":   {`"memory":100`, `"memory":-1`},
		"negative work":     {`"coded":200`, `"coded":-1`},
		"negative unpacked": {`"unpacked":300`, `"unpacked":-1`},
		"negative size":     {`"size":3`, `"size":-3`},
		"no sha512":         {`"sha512":"04`, `"sha512x":"04`},
		"memory, a string":  {`"memory":100`, `"memory":"100"`},
	} {
		bad := good[:at] + strings.Replace(good[at:], c[0], c[1], 1)
		if bad == good {
			t.Errorf("%s: the row changes nothing", name)
		}
		if _, err := ParseSeries([]byte(bad)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	many := good[:at] + `"compact":[` + strings.Repeat("0,", maxList) + "0]}]}}"
	if _, err := ParseSeries([]byte(many)); !errors.Is(err, ErrFormat) {
		t.Errorf("many: %v", err)
	}
}
