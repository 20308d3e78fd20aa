package state

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
)

func open(t *testing.T) (*Dir, atomicfile.Dir) {
	t.Helper()
	root, err := atomicfile.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	d := New(root, ".repo/state", ".repo/tmp")
	if records, damaged, err := d.Load(); len(records) > 0 || len(damaged) > 0 || err != nil {
		t.Errorf("no directory: %v, %v, %v", records, damaged, err)
	}
	for _, dir := range []string{".repo/state", ".repo/tmp"} {
		if err := root.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return d, root
}

var full = Record{
	Stamp:    Stamp{5, 6, 10, 7},
	Sums:     cksum.Sums{Size: 5, CRC: 1, SHA256: [32]byte{2}, SHA512: [64]byte{3}, BLAKE3: [32]byte{4}},
	Copy:     Stamp{5, 8, 11, 9},
	Placed:   true,
	Conf:     map[string]json.RawMessage{"a": json.RawMessage(`{"default":"<ä>"}`)},
	Base:     [32]byte{5},
	Target:   [32]byte{6},
	Dropped:  true,
	Compact:  Compact{12, 13, 14},
	Orphaned: 8,
}

func TestRoundTrip(t *testing.T) {
	d, _ := open(t)
	want := map[string]*Record{"a.img": &full, "b.rdiff": {}}
	for name, r := range want {
		if err := d.Put(name, r); err != nil {
			t.Fatal(err)
		}
	}
	got, damaged, err := d.Load()
	if err != nil || len(damaged) > 0 || len(got) != 2 {
		t.Fatalf("%v, %v, %v", got, damaged, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got["a.img"], full)
	}
	for range 2 {
		if err := d.Delete("a.img"); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err := d.Load(); err != nil || got["a.img"] != nil || got["b.rdiff"] == nil {
		t.Errorf("after Delete: %v, %v", got, err)
	}
}

// Whatever is wrong with a record, the others are read, and it can be written
// anew.
func TestDamaged(t *testing.T) {
	d, root := open(t)
	dir := filepath.Join(root.Name(), ".repo/state")
	for name, data := range map[string]string{"empty": "", "cut": `{"stamp":{"si`, "other": `[1]`, "digest": `{"base":"00"}`} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "dir.json", "x"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := d.Put("good", &full); err != nil {
		t.Fatal(err)
	}
	records, damaged, err := d.Load()
	if err != nil || len(records) != 1 || records["good"] == nil {
		t.Errorf("%v, %v", records, err)
	}
	if want := []string{"cut", "digest", "dir", "empty", "other"}; !slices.Equal(slices.Sorted(slices.Values(damaged)), want) {
		t.Errorf("damaged are %v, want %v", damaged, want)
	}
	for _, name := range damaged {
		if err := d.Delete(name); err != nil {
			t.Error(err)
		}
		if err := d.Put(name, &full); err != nil {
			t.Error(err)
		}
	}
}

// No damaged record is taken for a right one, whichever bit was flipped, and
// wherever it was cut. A record of another file is damaged.
func TestCheck(t *testing.T) {
	for name, record := range map[string]*Record{"full": &full, "none": {}} {
		data, err := encode(name, record)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(name, data); err != nil || !reflect.DeepEqual(got, record) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if _, err := decode("other", data); err == nil {
			t.Errorf("%s: right for another file", name)
		}
		for i := range data {
			if got, err := decode(name, data[:i]); err == nil {
				t.Errorf("%s, cut after %d bytes: %+v", name, i, got)
			}
			for bit := range 8 {
				damaged := slices.Clone(data)
				damaged[i] ^= 1 << bit
				if got, err := decode(name, damaged); err == nil && !reflect.DeepEqual(got, record) {
					t.Errorf("%s, bit %d of byte %d: %+v", name, bit, i, got)
				}
			}
		}
	}
}

// A record of a version before there was a check is read, and its stamp compared
// as far as it goes.
func TestUnchecked(t *testing.T) {
	r, err := decode("a", []byte(`{"stamp":{"size":5,"mtime":6,"inode":7},"base":"`+strings.Repeat("05", 32)+`"}`+"\n"))
	if err != nil || !r.Unchecked || r.Base[0] != 5 {
		t.Fatalf("%+v, %v", r, err)
	}
	now := Stamp{5, 6, 10, 7}
	if r.Stamp == now || !r.Stamp.Matches(now) || !now.Matches(r.Stamp) || (Stamp{5, 6, 11, 7}).Matches(now) || r.Stamp.Matches(Stamp{5, 6, 10, 8}) {
		t.Error("the change time is compared wrongly")
	}
	if renamed, ok := (Stamp{5, 6, 1, 7}).Renamed(now); !ok || renamed != now {
		t.Errorf("renamed: %v", renamed)
	}
	if _, ok := (Stamp{5, 5, 1, 7}).Renamed(now); ok {
		t.Error("a file that was written counts as renamed")
	}
}

func FuzzDecode(f *testing.F) {
	data, _ := encode("a", &full)
	f.Add(data)
	f.Add([]byte(`{"stamp":{"size":5,"mtime":6,"inode":7}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode("a", data)
		if err != nil {
			return
		}
		again, err := encode("a", r)
		if err != nil {
			return // a conf that is no JSON document of its own
		}
		if back, err := decode("a", again); err != nil || back.Unchecked {
			t.Errorf("%q became %q, %v", data, again, err)
		}
	})
}

func TestStamp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	stamp := func() Stamp {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return StampOf(info)
	}
	write := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	first := stamp()
	r := &Record{Stamp: first, Sums: full.Sums}
	if !r.Known(stamp()) || (*Record)(nil).Known(first) || (&Record{Stamp: first}).Known(first) {
		t.Error("Known is wrong for the same file, no record, or no sums")
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 1)); err != nil {
		t.Fatal(err)
	}
	if r.Known(stamp()) {
		t.Error("a touched file is known")
	}
	os.Remove(path)
	write("longer")
	if r.Known(stamp()) {
		t.Error("another file is known")
	}
}
