package published

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// listed returns the lines of a list, nil if it is not there.
func listed(t *testing.T, dir atomicfile.Dir, list string) []cksum.SHA256Line {
	t.Helper()
	data, err := dir.ReadFile(list, meta.MaxDocument)
	if err != nil {
		return nil
	}
	lines, err := mirror.ParseList(list, data)
	if err != nil {
		t.Errorf("%s: %v", list, err)
	}
	return lines
}

// oneList makes the lists of a mirror the one that a version before has made.
func oneList(t *testing.T, dir atomicfile.Dir) {
	t.Helper()
	var all []cksum.SHA256Line
	for _, list := range mirror.Lists() {
		all = append(all, listed(t, dir, list)...)
		if err := os.Remove(filepath.Join(dir.Name(), list)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir.Name(), mirror.SHA256), cksum.AppendSHA256SUMS(nil, all), 0o666); err != nil {
		t.Fatal(err)
	}
}

// A mirror with one list names what it did before, and gets a list for each folder; the
// list of a folder comes before what it says of it in the root's.
func TestOneList(t *testing.T) {
	dir, _ := mirrorOf(t)
	before := load(t, dir).Names()
	oneList(t, dir)
	wrong := cksum.SHA256Line{SHA256: cksum.Digest256{1}, Path: "rdiffs/" + delta(image1, image2)}
	if err := os.WriteFile(filepath.Join(dir.Name(), "rdiffs/SHA256SUMS"), mirror.FormatList([]cksum.SHA256Line{wrong}), 0o666); err != nil {
		t.Fatal(err)
	}
	d := load(t, dir)
	if got := d.Names(); len(got) != len(before) || len(got) != 16 {
		t.Errorf("named are %v, were %v", got, before)
	}
	if got := d.lines[delta(image1, image2)].sha256; got == nil || *got != wrong.SHA256 {
		t.Errorf("the digest of the folder's list is not taken: %v", got)
	}
	d.Publish(d.All(), nil, torrents)
	if _, err := d.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkSums(t, "taken over", dir)
	if deltas, images := listed(t, dir, "rdiffs/SHA256SUMS"), listed(t, dir, "SHA256SUMS"); len(deltas) != 6 || len(images) != 5 {
		t.Errorf("%d deltas and %d files of the root are listed", len(deltas), len(images))
	}
}

// A folder whose files are all withdrawn loses its list, if that is the tool's own.
func TestUnneededList(t *testing.T) {
	theirs := strings.Repeat("0", 64) + "  own.rdiff\n"
	for _, c := range []struct {
		name   string
		change func(list string) error
		left   string // of the list
	}{
		{"the tool's own", func(string) error { return nil }, ""},
		{"it is gone", os.Remove, ""},
		{"empty", func(list string) error { return os.Truncate(list, 0) }, ""},
		{"somebody's", func(list string) error { return os.WriteFile(list, []byte(theirs), 0o666) }, theirs},
		{"malformed", func(list string) error { return os.WriteFile(list, []byte("x"), 0o666) }, "x"},
	} {
		dir, _ := mirrorOf(t)
		list := filepath.Join(dir.Name(), "rdiffs/SHA256SUMS")
		if err := c.change(list); err != nil {
			t.Fatal(err)
		}
		d := load(t, dir)
		d.Publish([]meta.Series{{Name: "a", Images: []meta.Image{image(image1)}}}, nil, nil)
		for _, changed := range []bool{true, false} {
			if got, err := d.Write(t.Context()); got != changed || err != nil {
				t.Errorf("%s: changed %v, %v", c.name, got, err)
			}
			if left, _ := os.ReadFile(list); string(left) != c.left {
				t.Errorf("%s: left is %q", c.name, left)
			}
			d.dirty = true
		}
	}
}

// The lists are written last, those of the folders before that of the root, and what is
// removed is named by none when that happens; at each step, a run that ends there leaves
// lists from which the next run makes the right ones.
func TestOrderOfLists(t *testing.T) {
	t.Parallel()
	want := []string{"meta/a.json", "meta/b.json", "CKSUMS", "rdiffs/SHA256SUMS", "compact/SHA256SUMS", "meta/SHA256SUMS", "torrents/SHA256SUMS", "SHA256SUMS"}
	for _, old := range []bool{false, true} {
		for ends := 0; ; ends += testdata.Scale(1, 4) { // before that change
			dir, _ := mirrorOf(t)
			if old {
				oneList(t, dir)
			}
			var order []string
			n := 0
			stop := atomicfile.Observe(dir.Name(), func(change atomicfile.Change) error {
				if n++; n > ends {
					return context.Canceled
				}
				if change.Kind == atomicfile.Rename {
					order = append(order, change.To)
				}
				return nil
			})
			observed, err := atomicfile.Open(dir.Name())
			if err != nil {
				t.Fatal(err)
			}
			d := load(t, observed)
			d.Withdraw(delta(image1, image2), compact(image1, image3).Filename)
			_, err = d.Write(t.Context())
			stop()
			observed.Close()
			d = load(t, dir)
			d.Publish([]meta.Series{threeImages("a"), {Name: "b", Images: []meta.Image{image(image2)}}}, nil, torrents)
			if _, err := d.Write(t.Context()); err != nil {
				t.Fatal(err)
			}
			checkSums(t, "after a run that ended", dir)
			if deltas := listed(t, dir, "rdiffs/SHA256SUMS"); len(deltas) != 6 {
				t.Errorf("ended before change %d: %d deltas are listed", ends, len(deltas))
			}
			if err == nil {
				if !slices.Equal(order, want) {
					t.Errorf("old %v: the order is %q, want %q", old, order, want)
				}
				break
			}
		}
	}
}

// What is listed is the same whichever way it got there.
func TestListsAreTheSame(t *testing.T) {
	fresh, _ := mirrorOf(t)
	over, _ := mirrorOf(t)
	oneList(t, over)
	d := load(t, over)
	d.Publish(d.All(), nil, torrents)
	if _, err := d.Write(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, list := range mirror.Lists() {
		a, _ := fresh.ReadFile(list, meta.MaxDocument)
		b, err := over.ReadFile(list, meta.MaxDocument)
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is %q, want %q, %v", list, b, a, err)
		}
	}
}
