package record

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	digest := strings.Repeat("0f", 32)
	for _, c := range []struct {
		name, data string
		want       Record
		err        string
	}{
		{"empty", `{}`, Record{Files: map[string]Entry{}}, ""},
		{"an entry, unknown keys", `{"version": 2, "files": {"rdiffs/a.rdiff": {"size": 3, "sha256": "` + digest + `", "orphaned": 5, "mode": 1}}, "rate": 2.5}`,
			Record{Files: map[string]Entry{"rdiffs/a.rdiff": {Content: content(3), Orphaned: 5}}, Rate: 2.5}, ""},
		{"being sent", `{"files": {"a.img": {"size": 0, "sha256": "` + strings.Repeat("00", 32) + `", "next": {"size": 3, "sha256": "` + digest + `"}}}}`,
			Record{Files: map[string]Entry{"a.img": {Next: new(content(3))}}}, ""},
		{"a rate below zero", `{"rate": -1}`, Record{Files: map[string]Entry{}}, ""},
		{"no JSON", `{`, Record{}, "unexpected end"},
		{"a short digest", `{"files": {"a": {"size": 1, "sha256": "00"}}}`, Record{}, "2 characters"},
		{"a name that leads out", `{"files": {"../a": {}}}`, Record{}, `"../a" is not the name`},
		{"an absolute name", `{"files": {"/etc/passwd": {}}}`, Record{}, "is not the name"},
		{"a hidden name", `{"files": {".published.json": {}}}`, Record{}, "is not the name"},
		{"a hidden folder", `{"files": {"a/.b/c": {}}}`, Record{}, "is not the name"},
		{"a control character", `{"files": {"a\nb": {}}}`, Record{}, "is not the name"},
		{"a negative size", `{"files": {"a": {"size": -1}}}`, Record{}, "negative"},
		{"a negative time", `{"files": {"a": {"orphaned": -1}}}`, Record{}, "negative"},
		{"a negative size of the next", `{"files": {"a": {"next": {"size": -1}}}}`, Record{}, "negative"},
	} {
		got, err := Parse([]byte(c.data))
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func content(size int64) Content {
	c := Content{Size: size}
	for i := range c.SHA256 {
		c.SHA256[i] = 0x0f
	}
	return c
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"files": {"rdiffs/a.rdiff": {"size": 3, "orphaned": 5, "next": {"size": 4}}}, "rate": 2.5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		first, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(first)
		if err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
		if second, _ := again.Encode(); !bytes.Equal(first, second) {
			t.Errorf("%s, then %s", first, second)
		}
	})
}
