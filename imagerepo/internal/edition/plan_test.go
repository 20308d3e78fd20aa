package edition

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/edition/record"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta"
)

func of(size int64) record.Content { return record.Content{Size: size, SHA256: [32]byte{byte(size)}} }

func TestCompare(t *testing.T) {
	index, targets := document{"index.json", []byte("{}")}, document{"tuf/5.targets.json", []byte("[]")}
	e := &edition{
		payload:   map[string]record.Content{"a.img": of(1), "rdiffs/a.rdiff": of(2)},
		documents: []document{index}, trusted: []document{targets},
		timestamp: []document{{"tuf/timestamp.json", []byte("t")}}, roots: []document{{"tuf/1.root.json", []byte("r")}},
	}
	all := []string{"a.img", "index.json", "rdiffs/a.rdiff", "tuf/1.root.json", "tuf/5.targets.json", "tuf/timestamp.json"}
	documents := []string{"index.json", "tuf/1.root.json", "tuf/timestamp.json"}
	with := func(name string, c record.Content) map[string]record.Content {
		holds := e.all()
		holds[name] = c
		return holds
	}
	for _, c := range []struct {
		name     string
		holds    map[string]record.Content
		recorded map[string]record.Entry
		want     comparison
	}{
		{"nothing there", nil, nil, comparison{fresh: []string{"a.img", "rdiffs/a.rdiff", "tuf/5.targets.json"}, writes: documents}},
		{"all there", e.all(), nil, comparison{same: all}},
		{"another image", with("a.img", of(9)), nil, comparison{changed: []string{"a.img"}, same: all[1:]}},
		{"an unknown image", with("a.img", record.Content{}), nil, comparison{changed: []string{"a.img"}, same: all[1:]}},
		{"an image of the same size", with("a.img", record.Content{Size: 1}), nil, comparison{changed: []string{"a.img"}, same: all[1:]}},
		{"another document", with("index.json", of(9)), nil, comparison{writes: []string{"index.json"}, same: slices.Delete(slices.Clone(all), 1, 2)}},
		{"another signed file", with("tuf/5.targets.json", of(9)), nil, comparison{fresh: []string{"tuf/5.targets.json"}, same: slices.Delete(slices.Clone(all), 4, 5)}},
		{"orphans", e.all(), map[string]record.Entry{"a.img": {}, "b.img": {}, "meta/x.json": {}}, comparison{same: all, orphans: []string{"b.img", "meta/x.json"}}},
	} {
		if got := compare(e, c.holds, c.recorded); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// The record or the bytes of a file at a destination say what it holds, or else its name and
// size do.
func TestHeld(t *testing.T) {
	next := of(7)
	v := &Inventory{
		files:     map[string]store.File{},
		documents: map[string][]byte{"index.json": []byte("{}")},
		digests:   map[string]record.Content{"read.img": of(4)},
		record: record.Record{Files: map[string]record.Entry{
			"same.img": {Content: of(5)}, "grown.img": {Content: of(5)}, "sent.img": {Content: of(5), Next: &next}, "sending.img": {Content: of(5), Next: &next},
			"gone.img": {Content: of(5)}, "new.img": {Next: &next},
		}},
	}
	for name, size := range map[string]int64{
		"index.json": 2, "read.img": 4, "same.img": 5, "grown.img": 6, "sent.img": 7, "sending.img": 5, "new.img": 7, "foreign.img": 3, "page.html": 3,
	} {
		v.files[name] = store.File{Name: name, Size: size}
	}
	for _, c := range []struct {
		name   string
		how    Verify
		want   record.Content
		exists bool
	}{
		{"index.json", BySize, document{data: []byte("{}")}.content(), true},
		{"read.img", ByReading, of(4), true},
		{"same.img", BySize, of(5), true},
		{"grown.img", BySize, record.Content{}, true},
		{"sent.img", BySize, of(7), true},
		{"sending.img", BySize, of(5), true},
		{"new.img", BySize, of(7), true},
		{"gone.img", BySize, record.Content{}, false},
		{"nothing.img", ByName, record.Content{}, false},
		{"foreign.img", BySize, record.Content{}, true}, // 3 bytes, 8 are wanted
		{"foreign.img", ByName, of(8), true},
		{"page.html", ByName, record.Content{}, true},
	} {
		if got, exists := v.held(c.name, of(8), c.how); got != c.want || exists != c.exists {
			t.Errorf("%s by %s: %v, %v", c.name, c.how, got, exists)
		}
	}
	if got, exists := v.held("foreign.img", of(3), BySize); got != of(3) || !exists {
		t.Errorf("foreign.img of the right size: %v, %v", got, exists)
	}
}

func TestRemovals(t *testing.T) {
	now := time.Unix(1e9, 0)
	v := &Inventory{
		files: map[string]store.File{"a.img": {Size: 3}, "meta/a.json": {Size: 2}, "late.img": {}, "new.img": {}, "torrents/a.img.torrent": {Size: 1}},
		record: record.Record{Files: map[string]record.Entry{
			"a.img": {Orphaned: 1e9 - 3600}, "meta/a.json": {Orphaned: 1e9 - 3600}, "late.img": {Orphaned: 1e9 - 3599}, "new.img": {}, "future.img": {Orphaned: 2e9},
			"torrents/a.img.torrent": {Orphaned: 1e9 - 3600},
		}},
	}
	got := removals([]string{"a.img", "future.img", "late.img", "meta/a.json", "new.img", "torrents/a.img.torrent"}, v, time.Hour, now)
	want := []File{
		{"meta/a.json", 2, time.Time{}}, {"torrents/a.img.torrent", 1, time.Time{}}, {"a.img", 3, time.Time{}}, {"future.img", 0, now.Add(time.Hour)},
		{"late.img", 0, now.Add(time.Second)}, {"new.img", 0, now.Add(time.Hour)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := removals([]string{"new.img"}, v, 0, now); !got[0].Due.IsZero() {
		t.Errorf("without grace: %v", got)
	}
}

func TestShorten(t *testing.T) {
	line := func(name string) string { return strings.Repeat("00", 32) + "  " + name + "\n" }
	documents := map[string][]byte{
		"SHA256SUMS": []byte(line("a.img") + line("index.json")), "rdiffs/SHA256SUMS": []byte(line("a.rdiff") + line("b.rdiff")),
		"meta/SHA256SUMS": []byte("damaged"), "CKSUMS": []byte("1 1 a.img\n"),
	}
	got := shorten(documents, map[string]bool{"rdiffs/a.rdiff": true, "a.rdiff": true, "index.json": true})
	want := []document{{"meta/SHA256SUMS", nil}, {"rdiffs/SHA256SUMS", []byte(line("b.rdiff"))}, {"SHA256SUMS", []byte(line("a.img"))}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := shorten(map[string][]byte{"SHA256SUMS": documents["SHA256SUMS"]}, map[string]bool{"b": true}); got != nil {
		t.Errorf("a list that names nothing of it: %q", got)
	}
}

// The list of the root keeps paths to files in folders, which earlier versions write. The
// lists of folders have names.
func TestFormat(t *testing.T) {
	lines := []cksum.SHA256Line{{Path: "rdiffs/a.rdiff"}, {Path: "rdiffs/b.rdiff"}}
	zeros := strings.Repeat("00", 32) + "  "
	for list, want := range map[string]string{
		"SHA256SUMS": zeros + "rdiffs/a.rdiff\n" + zeros + "rdiffs/b.rdiff\n", "rdiffs/SHA256SUMS": zeros + "a.rdiff\n" + zeros + "b.rdiff\n",
	} {
		if got := string(format(list, lines)); got != want {
			t.Errorf("%s: %s\nwant %s", list, got, want)
		}
	}
}

// What has the digest of another document is written after it.
func TestSortDocuments(t *testing.T) {
	want := []string{"meta/a.json", "index.html", "index.json", "CKSUMS", "meta/SHA256SUMS", "rdiffs/SHA256SUMS", "SHA256SUMS"}
	var all []document
	for _, name := range slices.Backward(want) {
		all = append(all, document{name: name})
	}
	if sortDocuments(all); !slices.Equal(namesOf(all), want) {
		t.Errorf("%v, want %v", namesOf(all), want)
	}
}

// An edition without images is refused, whatever is there.
func TestCheckRemoval(t *testing.T) {
	for _, e := range []*edition{{}, {series: []meta.Series{{Name: "a"}}}} {
		if err := checkRemoval(e, &Inventory{}, "x"); !errors.Is(err, ErrMirror) || !strings.Contains(err.Error(), "no images") {
			t.Errorf("%v: %v", e.series, err)
		}
	}
}
