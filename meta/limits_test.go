package meta

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// A document that is made to cost is refused, and costs hardly more than its size.
func TestLimits(t *testing.T) {
	n := testdata.Scale(10<<20, 1<<20)
	many := func(s string, n int) string { return strings.Repeat(s+",", n-1) + s }
	series := func(images string) string { return `{"a": {"images": [` + images + `]}}` }
	for _, c := range []struct {
		name, doc, says string
	}{
		{"too many images", series(many("{}", n)), "more than 10000"},
		{"too many diffs", series(`{"diffs": [` + many("{}", n) + `]}`), "more than 10000"},
		{"too many URLs", series(`{"urls": [` + many(`""`, n) + `]}`), "more than 10000"},
		{"too large", series(strings.Repeat(" ", MaxDocument)), "at most"},
		{"too deep", series(strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20)), "depth"},
		{"images that are no array", `{"a": {"images": {}}}`, "images is an object, want an array"},
		{"an element of another kind", series(`{}, 7`), "images[1] is a number, want an object"},
	} {
		var err error
		took := testdata.Allocated(func() { _, err = ParseSeries([]byte(c.doc)) })
		if !errors.Is(err, ErrFormat) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.says)
		}
		if took > 64<<20+uint64(2*len(c.doc)) {
			t.Errorf("%s: %d bytes of memory for %d", c.name, took, len(c.doc))
		}
	}
	if _, err := ParseIndex([]byte(`{"series": [` + many("{}", n) + `]}`)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "more than 10000") {
		t.Errorf("an index of too many: %v", err)
	}
}

// What an error says of a document is one line without control characters, and not long.
func TestErrorTexts(t *testing.T) {
	const escape = `\u001b[2J\u009b\u202e\n`
	s := example(t)
	encoded, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(encoded)
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, long := range []string{escape, strings.Repeat("9", testdata.Scale(16<<20, 1<<20))} {
		for name, doc := range map[string]string{
			"series":           with(`{"buster"`, `{"`+long+`"`),
			"image":            with(`"filename":"puavo`, `"filename":"`+long),
			"id":               with(`"id":"puavo`, `"id":"`+long),
			"version":          with(`"version":"2022`, `"version":"`+long),
			"delta":            with(`"diffs":[{"filename":"`, `"diffs":[{"filename":"`+long),
			"base":             with(`"version":"20220117120001"`, `"version":"`+long+`"`),
			"size":             with(`"size":5`, `"size":5`+long),
			"cksum":            with(`"cksum":"4294967295"`, `"cksum":"`+long+`"`),
			"cksum, a number":  with(`"cksum":"4294967295"`, `"cksum":"5`+long+`"`),
			"digest":           with(`"sha512":"`, `"sha512":"`+long),
			"images":           `{"a":{"images":"` + long + `"}}`,
			"no JSON":          long,
			"index: series":    `{"series":[{"name":"` + long + `"}]}`,
			"index: meta":      `{"series":[{"name":"a","meta":"` + long + `"}]}`,
			"index: newest":    `{"series":[{"name":"a","meta":"meta/a.json","newest":"` + long + `"}]}`,
			"index: images":    `{"series":[{"name":"a","meta":"meta/a.json","images":1` + long + `}]}`,
			"config: images":   `{"a":["` + long + `"]}`,
			"config: key":      `{"a":{"` + long + `":[]}}`,
			"config: no JSON":  `{"a":` + long,
			"config: a series": `{"` + long + `":[]}`,
		} {
			var err error
			switch {
			case strings.HasPrefix(name, "index"):
				_, err = ParseIndex([]byte(doc))
			case strings.HasPrefix(name, "config"):
				_, err = ParseConfig([]byte(doc))
			default:
				_, err = ParseSeries([]byte(doc))
			}
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			if said := err.Error(); len(said) > 1200 || strings.ContainsFunc(said, func(r rune) bool { return !strconv.IsPrint(r) }) {
				t.Errorf("%s: %d bytes: %.2000q", name, len(said), said)
			}
		}
	}
}
