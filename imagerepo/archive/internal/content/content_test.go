package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

// group is a group of which each version differs a little from the next.
type group struct {
	t     *testing.T
	dir   atomicfile.Dir
	steps []catalog.Step // the newest first
	data  [][]byte
}

func digest(b []byte) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write(b)
	return cksum.Digest256(h.Sum(nil))
}

// newGroup makes a group whose versions have these forms, the newest first.
func newGroup(t *testing.T, forms ...catalog.Form) *group {
	t.Helper()
	dir, err := atomicfile.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	g := &group{t: t, dir: dir}
	random := rand.New(rand.NewPCG(1, 2))
	noise := rand.NewChaCha8([32]byte{1})
	now := make([]byte, 300<<10)
	noise.Read(now)
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, form := range forms {
		older := slices.Clone(now)
		for range 40 {
			i := random.IntN(len(older) - 5000)
			switch random.IntN(3) {
			case 0:
				noise.Read(older[i : i+random.IntN(3000)])
			case 1:
				older = slices.Delete(older, i, i+random.IntN(2000))
			case 2:
				older = slices.Insert(older, random.IntN(len(older)), older[i:i+2000]...)
			}
		}
		v := catalog.Version{Version: at.Format("2006-01-02-150405"), Size: int64(len(older)), BLAKE3: digest(older)}
		at = at.Add(-time.Hour)
		g.add(v, form, now, older)
		now = older
	}
	return g
}

func (g *group) add(v catalog.Version, form catalog.Form, base, target []byte) {
	g.t.Helper()
	var file bytes.Buffer
	v.Stored = catalog.Stored{Form: form}
	var err error
	switch form {
	case catalog.Whole:
		file.Write(target)
	case catalog.Rdiff:
		index, indexErr := delta.NewIndex(g.t.Context(), base, delta.Options{Memory: 1 << 20})
		if indexErr != nil {
			g.t.Fatal(indexErr)
		}
		defer index.Close()
		var s delta.Stats
		s, err = index.Diff(g.t.Context(), &file, target, nil)
		v.Stored.Commands = s.Copies + s.Literals
	case catalog.Compact:
		_, err = compact.Encode(g.t.Context(), &file, compact.Image{Bytes: base}, compact.Image{Bytes: target}, compact.Options{Memory: 128 << 20, Cores: 1, Scratch: g.dir.Scratch})
	}
	if form != catalog.Whole {
		v.Stored.Parent = g.steps[len(g.steps)-1].Version.Version
	}
	v.Stored.Size, v.Stored.BLAKE3 = int64(file.Len()), digest(file.Bytes())
	g.steps, g.data = append(g.steps, catalog.Step{Version: v, File: v.File()}), append(g.data, target)
	if err := errors.Join(err, os.WriteFile(filepath.Join(g.dir.Name(), v.File()), file.Bytes(), 0o666)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) open(ctx context.Context, steps []catalog.Step, memory int64) (*Content, error) {
	files, err := OpenFiles(ctx, g.dir, steps)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	return Open(ctx, g.dir, files, memory)
}

// Every range of every version is read as it is, whatever memory there is.
func TestOpen(t *testing.T) {
	t.Parallel()
	w, r, c := catalog.Whole, catalog.Rdiff, catalog.Compact
	g := newGroup(t, w, r, r, r, c, r, r)
	random := rand.New(rand.NewPCG(5, 6))
	for _, memory := range []int64{0, 3000, 1 << 30} {
		for i := range g.steps {
			content, err := g.open(t.Context(), g.steps[:i+1], memory)
			if err != nil {
				t.Fatalf("%d with %d bytes: %v", i, memory, err)
			}
			defer content.Close()
			want := g.data[i]
			for range 300 {
				from := random.IntN(len(want) + 10)
				p := make([]byte, random.IntN(9000))
				n, err := content.ReadAt(p, int64(from))
				right := want[min(from, len(want)):min(from+len(p), len(want))]
				if !bytes.Equal(p[:n], right) || (n < len(p)) != (err == io.EOF) {
					t.Fatalf("%d with %d bytes: %d bytes from %d are %d, %v", i, memory, len(p), from, n, err)
				}
			}
			if all, err := content.Bytes(t.Context(), g.dir); err != nil || !bytes.Equal(all, want) || content.Size() != int64(len(want)) {
				t.Errorf("%d with %d bytes: all of it is %d bytes, %v", i, memory, len(all), err)
			}
		}
	}
	if left, _ := os.ReadDir(g.dir.Name()); len(left) != len(g.steps) {
		t.Errorf("%d files are left", len(left))
	}
}

func TestPlanOf(t *testing.T) {
	step := func(form catalog.Form, size, stored, commands int64) catalog.Step {
		return catalog.Step{Version: catalog.Version{Size: size, Stored: catalog.Stored{Form: form, Size: stored, Commands: commands}}}
	}
	whole, a, b, z := step(catalog.Whole, 1000, 1000, 0), step(catalog.Rdiff, 900, 10, 5), step(catalog.Rdiff, 800, 20, 7), step(catalog.Compact, 700, 1, 0)
	for _, c := range []struct {
		steps  []catalog.Step
		memory int64
		want   Plan
	}{
		{[]catalog.Step{whole}, 0, Plan{Read: 1000}},
		{[]catalog.Step{whole, a, b}, 1000, Plan{Deltas: 2, Memory: 12 * 16, Read: 1030}},
		{[]catalog.Step{whole, a, b}, 12*16 - 1, Plan{Deltas: 2, Memory: 5*16 + patchMemory, Temporary: 800, Read: 1030}},
		{[]catalog.Step{whole, a, b}, 0, Plan{Deltas: 2, Memory: patchMemory, Temporary: 1700, Read: 1030}},
		{[]catalog.Step{whole, a, z, b}, 1000, Plan{Deltas: 3, Memory: 5*16 + compactMemory, Temporary: 700, Read: 1031}},
	} {
		if got := PlanOf(c.steps, c.memory); got != c.want {
			t.Errorf("%d steps, %d bytes: %+v, want %+v", len(c.steps), c.memory, got, c.want)
		}
	}
}

// What is not as the catalog says is an error, and nothing is read beyond it.
func TestWrongFiles(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(steps []catalog.Step, path func(int) string) error
		err    error // nil is any
	}{
		{"nothing", t.Context(), func([]catalog.Step, func(int) string) error { return nil }, io.EOF},
		{"the whole one is missing", t.Context(), func(_ []catalog.Step, path func(int) string) error { return os.Remove(path(0)) }, fs.ErrNotExist},
		{"the whole one is short", t.Context(), func(_ []catalog.Step, path func(int) string) error { return os.Truncate(path(0), 1000) }, nil},
		{"a delta is cut", t.Context(), func(s []catalog.Step, path func(int) string) error { return os.Truncate(path(1), s[1].Stored.Size-1) }, delta.ErrFormat},
		{"a delta makes another size", t.Context(), func(s []catalog.Step, _ func(int) string) error { s[1].Size++; return nil }, delta.ErrFormat},
		{"a delta has more commands", t.Context(), func(s []catalog.Step, _ func(int) string) error { s[1].Stored.Commands--; return nil }, delta.ErrFormat},
		{"a delta is none", t.Context(), func(_ []catalog.Step, path func(int) string) error {
			return os.WriteFile(path(1), []byte("delta"), 0o666)
		}, delta.ErrMagic},
		{"a compact delta is none", t.Context(), func(_ []catalog.Step, path func(int) string) error {
			return os.WriteFile(path(2), []byte("delta"), 0o666)
		}, nil},
		{"a copy beyond the base", t.Context(), func(s []catalog.Step, path func(int) string) error {
			s[1].Size = 9
			return os.WriteFile(path(1), []byte("rs\x02\x36\x4d\x7f\xff\xff\xff\x09\x00"), 0o666)
		}, delta.ErrFormat},
		{"a copy across the end of the base", t.Context(), func(s []catalog.Step, path func(int) string) error {
			s[1].Size, s[1].Stored.Commands = 9, 1
			n := s[0].Size - 5
			return os.WriteFile(path(1), []byte{'r', 's', 2, 0x36, 0x4d, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 9, 0}, 0o666)
		}, delta.ErrFormat},
		{"cancelled", cancelled, func([]catalog.Step, func(int) string) error { return nil }, context.Canceled},
	} {
		for _, memory := range []int64{0, 1 << 20} {
			if memory == 0 && c.name == "a delta has more commands" {
				continue // they are not counted where they are not kept
			}
			g := newGroup(t, catalog.Whole, catalog.Rdiff, catalog.Compact)
			if err := c.change(g.steps, func(i int) string { return filepath.Join(g.dir.Name(), g.steps[i].File) }); err != nil {
				t.Fatal(err)
			}
			content, err := g.open(c.ctx, g.steps, memory)
			if right := c.err == io.EOF; right != (err == nil) || !right && c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%s with %d bytes: %v", c.name, memory, err)
			}
			if err == nil {
				content.Close()
			}
		}
	}
}

// While a change is completed, the file of a version has one name or the other.
func TestLocate(t *testing.T) {
	for _, c := range []struct {
		name       string
		old, fresh string // "" is none; fresh may be that before the trash
		want       string
		err        error
	}{
		{"complete", "right", "", "f", nil},
		{"not yet complete", "", "right", "f.new", nil},
		{"the old one of another size", "other size", "right", "f.new", nil},
		{"the new one of another size", "right", "other size", "f", nil},
		{"the old one of the same size", "other", "right", "f.new", nil},
		{"the new one of the same size", "right", "other", "f", nil},
		{"none", "", "", "", fs.ErrNotExist},
		{"not yet in the trash", "", "before", "before", nil},
	} {
		dir, err := atomicfile.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		for name, text := range map[string]string{"f": c.old, "f.new": c.fresh} {
			if text == "before" {
				name = text
			}
			if text != "" {
				if err := os.WriteFile(filepath.Join(dir.Name(), name), []byte(text), 0o666); err != nil {
					t.Fatal(err)
				}
			}
		}
		step := catalog.Step{File: "f", Before: "before", Version: catalog.Version{Stored: catalog.Stored{Size: 5, BLAKE3: digest([]byte("right"))}}}
		got, err := Locate(t.Context(), dir, step)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
	}
}

func TestCheck(t *testing.T) {
	dir, err := atomicfile.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.WriteFile(filepath.Join(dir.Name(), "f"), []byte("right"), 0o666); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx  context.Context
		name string
		want catalog.Stored
		err  error
	}{
		{t.Context(), "f", catalog.Stored{Size: 5, BLAKE3: digest([]byte("right"))}, nil},
		{t.Context(), "f", catalog.Stored{Size: 5, BLAKE3: digest([]byte("wrong"))}, ErrWrong},
		{t.Context(), "f", catalog.Stored{Size: 6, BLAKE3: digest([]byte("right"))}, ErrWrong},
		{t.Context(), "g", catalog.Stored{}, fs.ErrNotExist},
		{cancelled, "f", catalog.Stored{Size: 5, BLAKE3: digest([]byte("right"))}, context.Canceled},
	} {
		var read int64
		err := Check(c.ctx, dir, c.name, c.want, func(n int64) { read += n })
		if !errors.Is(err, c.err) || c.err == nil && read != 5 {
			t.Errorf("%s: %v, %d bytes read", fmt.Sprint(c.name, c.want.Size), err, read)
		}
	}
}
