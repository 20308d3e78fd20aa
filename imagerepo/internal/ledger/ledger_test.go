package ledger

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/state"
)

const (
	image = "os-2021-01-01-000000-amd64.img"
	delta = "os-2021-01-01-000000--2022-02-02-000000-amd64.rdiff"
)

var sums = cksum.Sums{Size: 5, CRC: 1, SHA256: [32]byte{2}, SHA512: [64]byte{3}, BLAKE3: [32]byte{4}}

// open returns the records in a new directory, and its path.
func open(t *testing.T) (*state.Dir, string) {
	t.Helper()
	path := t.TempDir()
	for _, dir := range []string{"state", "tmp"} {
		if err := os.Mkdir(filepath.Join(path, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return state.New(dir, "state", "tmp"), filepath.Join(path, "state")
}

func load(t *testing.T, dir *state.Dir) *Ledger {
	t.Helper()
	l, damaged, err := Load(dir)
	if err != nil || len(damaged) > 0 {
		t.Fatal(damaged, err)
	}
	return l
}

func TestLedger(t *testing.T) {
	dir, _ := open(t)
	l := load(t, dir)
	if l.Changed() || l.Has(image) || l.Of(image).Summed() {
		t.Error("an empty ledger knows something")
	}
	if err := l.Put(image, &state.Record{Sums: sums, Placed: true, Copy: state.Stamp{Size: 5}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Put(delta, &state.Record{Sums: sums}); err != nil {
		t.Fatal(err)
	}
	l.Of(image).Placed = false // a copy
	for _, l := range []*Ledger{l, load(t, dir)} {
		if !l.Of(image).Placed || !l.Has(delta) || !slices.Equal(l.Names(), []string{delta, image}) {
			t.Errorf("%+v", l.All())
		}
	}
	l.Suspect(delta)
	l.SuspectCopy(image)
	l.Suspect("none")
	if l.Of(delta).Summed() || !l.Has(delta) || l.Of(image).Copy.Size != 0 || !l.Of(image).Summed() || l.Has("none") {
		t.Errorf("suspected: %+v", l.All())
	}
	if !load(t, dir).Of(delta).Summed() {
		t.Error("a suspicion was written")
	}
	if err := l.Delete(image); err != nil || l.Has(image) || load(t, dir).Has(image) || !l.Changed() {
		t.Errorf("deleted: %v, %v", l.All(), err)
	}
}

// What a version without checks has written is believed as far as the documents bear
// it out, and an image is its own if the last run was of the same images.
func TestTakeOver(t *testing.T) {
	record := func(sha512 string, more string) string {
		return `{"stamp":{"size":5,"mtime":6,"inode":7},"sums":{"size":5,"cksum":1,"sha256":"02` + strings.Repeat("00", 31) +
			`","sha512":"` + sha512 + strings.Repeat("00", 63) + `","blake3":"04` + strings.Repeat("00", 31) + `"}` + more + "}\n"
	}
	other := cksum.Sums{Size: 6, CRC: 9, SHA256: [32]byte{9}, SHA512: [64]byte{9}, BLAKE3: [32]byte{9}}
	predecessor := sums
	predecessor.BLAKE3, predecessor.SHA256 = [32]byte{}, [32]byte{}
	for _, c := range []struct {
		name            string
		record          string
		says            *cksum.Sums
		listed, same    bool
		damaged, placed bool
	}{
		{"published, from the same directory", record("03", ""), &sums, true, true, false, true},
		{"published, from another directory", record("03", ""), &sums, true, false, false, false},
		{"not published: a base", record("03", ""), nil, false, true, false, false},
		{"it waits for its removal", record("03", `,"unnamed":9`), nil, false, true, false, true},
		{"a digit of the digest is another", record("13", ""), &sums, true, true, true, false},
		{"the image was replaced since", record("03", ""), &other, true, true, false, true},
		{"the predecessor's documents", record("03", ""), &predecessor, true, true, false, true},
		{"nothing known", "{}\n", &sums, true, true, false, true},
	} {
		dir, path := open(t)
		if err := os.WriteFile(filepath.Join(path, image+".json"), []byte(c.record), 0o666); err != nil {
			t.Fatal(err)
		}
		l := load(t, dir)
		damaged := l.TakeOver(func(name string) (cksum.Sums, bool) {
			if c.says == nil {
				return cksum.Sums{}, false
			}
			return *c.says, true
		}, map[string]bool{image: c.listed}, c.same)
		if (len(damaged) > 0) != c.damaged || l.Has(image) == c.damaged || l.Of(image).Placed != c.placed {
			t.Errorf("%s: damaged %v, %+v", c.name, damaged, l.Of(image))
		}
		if err := l.Upgrade(); err != nil {
			t.Error(err)
		}
		data, _ := os.ReadFile(filepath.Join(path, image+".json"))
		if strings.Contains(string(data), `"check":`) == c.damaged {
			t.Errorf("%s: upgraded to %s", c.name, data)
		}
	}
	dir, _ := open(t)
	l := load(t, dir)
	l.Put(image, &state.Record{Sums: sums})
	if l.TakeOver(func(string) (cksum.Sums, bool) { return other, true }, map[string]bool{image: true}, true); l.Of(image).Placed {
		t.Error("a record with a check is taken over")
	}
}
