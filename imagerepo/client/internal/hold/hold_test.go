package hold

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const (
	imageA = "os-2022-01-17-120001-amd64.img"
	imageB = "os-2022-01-20-173248-amd64.img"
	imageC = "os-2022-02-01-000000-amd64.img"
)

func name(t testing.TB, s string) meta.Name {
	t.Helper()
	n, err := meta.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func open(t testing.TB, dir string) atomicfile.Dir {
	t.Helper()
	d, err := atomicfile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

var since = time.Date(2022, 1, 21, 8, 30, 0, 0, time.UTC)

const text = "since 2022-01-21T08:30:00Z\nimage " + imageA + "\nfrom " + imageB + "\n"

func TestFormat(t *testing.T) {
	h := Hold{Since: since.In(time.FixedZone("there", 7200)), Image: name(t, imageA), From: name(t, imageB)}
	if got := string(h.Encode()); got != text {
		t.Errorf("got %q", got)
	}
	h.From = meta.Name{}
	if got := string(h.Encode()); got != strings.TrimSuffix(text, "from "+imageB+"\n") {
		t.Errorf("got %q", got)
	}
	// What a later version adds is skipped.
	got, err := Parse([]byte("reason the projector stays dark\n" + text + "by root\n"))
	if want := (Hold{since, name(t, imageA), name(t, imageB)}); got != want || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for what, c := range map[string]struct{ text, want string }{
		"nothing":            {"", "lacks the time or the image"},
		"no image":           {"since 2022-01-21T08:30:00Z\n", "lacks the time or the image"},
		"want a time":        {"image " + imageA + "\n", "lacks the time or the image"},
		"a cut":              {text[:len(text)-1], "cut short"},
		"a key alone":        {text + "odd\n", "not a key and a value"},
		"a blank line":       {"\n" + text, "not a key and a value"},
		"a key twice":        {text + "since 2022-01-21T08:30:00Z\n", "appears twice"},
		"another key twice":  {text + "by a\nby a\n", "appears twice"},
		"a path":             {strings.Replace(text, imageA, "../"+imageA, 1), "not an image's name"},
		"a from that is bad": {strings.Replace(text, imageB, "b.img", 1), "not an image's name"},
		"a local time":       {strings.Replace(text, "Z", "+02:00", 1), "want a time"},
		"a fraction":         {strings.Replace(text, "00Z", "00.5Z", 1), "want a time"},
		"another order":      {strings.Replace(text, "2022-01-21T", "21.1.2022 ", 1), "want a time"},
		"blanks":             {strings.Replace(text, "image ", "image  ", 1), "not an image's name"},
		"a carriage return":  {strings.Replace(text, "\n", "\r\n", 1), "want a time"},
		"too much":           {text + strings.Repeat("x y\n", maxFile/4), "more than 4096 bytes"},
	} {
		if h, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) || h != (Hold{}) {
			t.Errorf("%s: %v, %v; want %q", what, h, err, c.want)
		}
	}
}

func TestEnds(t *testing.T) {
	for what, c := range map[string]struct {
		state State
		image string
		want  bool
	}{
		"no hold":                    {State{}, imageA, true},
		"a hold without an end":      {State{Held: true, Hold: Hold{Image: name(t, imageA)}}, imageC, false},
		"the image rolled back from": {State{Held: true, Hold: Hold{Image: name(t, imageA), From: name(t, imageB)}}, imageB, false},
		"an older one":               {State{Held: true, Hold: Hold{Image: name(t, imageA), From: name(t, imageB)}}, imageA, false},
		"a newer one":                {State{Held: true, Hold: Hold{Image: name(t, imageA), From: name(t, imageB)}}, imageC, true},
		"a damaged one":              {State{Held: true, Damage: errors.New("bad"), Hold: Hold{From: name(t, imageB)}}, imageC, false},
	} {
		if got := c.state.Ends(name(t, c.image)); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// Whatever has the name of the file holds, and the error says what to do.
func TestDamagedHolds(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(p string) error
		mends bool // Write does
	}{
		{"empty", func(p string) error { return os.WriteFile(p, nil, 0o666) }, true},
		{"not text", func(p string) error { return os.WriteFile(p, []byte{0, 1, 2, 255}, 0o666) }, true},
		{"2 GiB", testdata.Sparse, true},
		{"a pipe", func(p string) error { return syscall.Mkfifo(p, 0o666) }, true},
		{"a symbolic link", func(p string) error { return os.Symlink("/etc/passwd", p) }, true},
		{"a link to nowhere", func(p string) error { return os.Symlink("none", p) }, true},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o777) }, false},
	} {
		dir := t.TempDir()
		if err := c.make(filepath.Join(dir, FileName)); err != nil {
			t.Fatal(err)
		}
		d := open(t, dir)
		s := Read(d)
		if !s.Held || s.Damage == nil || s.Ends(name(t, imageC)) {
			t.Errorf("%s: %+v", c.name, s)
			continue
		}
		for _, want := range []string{filepath.Join(dir, FileName), "run hold to write it again", "unhold to remove it"} {
			if !strings.Contains(s.Damage.Error(), want) {
				t.Errorf("%s: %v does not say %q", c.name, s.Damage, want)
			}
		}
		if err := Write(d, Hold{Since: since, Image: name(t, imageA)}); (err == nil) != c.mends {
			t.Errorf("%s: writing it: %v", c.name, err)
		} else if s := Read(d); c.mends && (s.Damage != nil || s.Hold.Image != name(t, imageA)) {
			t.Errorf("%s: written, it is %+v", c.name, s)
		}
		if err := Remove(d); err != nil || Read(d).Held {
			t.Errorf("%s: removing it: %v", c.name, err)
		}
		if err := Remove(d); err != nil {
			t.Errorf("%s: removing it again: %v", c.name, err)
		}
	}
}

// A power cut at any instant leaves the hold of before, or the new one; and what was done
// lasts.
func TestPowerCut(t *testing.T) {
	before, after := Hold{Since: since, Image: name(t, imageA)}, Hold{Since: since, Image: name(t, imageA), From: name(t, imageB)}
	for what, c := range map[string]struct {
		do         func(atomicfile.Dir) error
		first, end []byte // nil for no file
	}{
		"a hold":         {func(d atomicfile.Dir) error { return Write(d, after) }, nil, after.Encode()},
		"another hold":   {func(d atomicfile.Dir) error { return Write(d, after) }, before.Encode(), after.Encode()},
		"the end of one": {Remove, before.Encode(), nil},
	} {
		dir := t.TempDir()
		if c.first != nil {
			os.WriteFile(filepath.Join(dir, FileName), c.first, 0o666)
		}
		is := func(tree powercut.Tree, want []byte) bool {
			return (tree[FileName] == nil) == (want == nil) && (want == nil || bytes.Equal(tree[FileName].Data, want))
		}
		disk := powercut.Watch(t, dir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
			for _, tree := range trees() {
				if !is(tree, c.first) && !is(tree, c.end) {
					t.Errorf("%s, before %s: left are %v", what, next, tree)
				}
			}
			return nil
		})
		if err := c.do(open(t, dir)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		disk.Stop()
		for _, tree := range disk.Trees() {
			if !is(tree, c.end) {
				t.Errorf("%s does not last: left are %v", what, tree)
			}
		}
	}
}

// If a change fails, the error says where, and what was there stays.
func TestFails(t *testing.T) {
	for _, kind := range []atomicfile.Kind{atomicfile.Create, atomicfile.Write, atomicfile.Flush, atomicfile.Rename, atomicfile.Remove} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o666)
		stop := atomicfile.Observe(dir, func(c atomicfile.Change) error {
			if c.Kind == kind && (kind != atomicfile.Remove || c.Name == FileName) {
				return syscall.EIO
			}
			return nil
		})
		d := open(t, dir)
		err := Write(d, Hold{Since: since, Image: name(t, imageC)})
		if kind == atomicfile.Remove {
			if err != nil {
				t.Errorf("writing: %v", err)
			}
			os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o666)
			err = Remove(d)
		}
		stop()
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", kind, err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, FileName)); string(data) != text || err != nil {
			t.Errorf("%s: left is %q, %v", kind, data, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(text))
	f.Add([]byte(strings.TrimSuffix(text, "from "+imageB+"\n")))
	f.Add([]byte("by root\n" + text))
	f.Add([]byte("since 0000-01-01T00:00:00Z\nimage a-0000-00-00-000000-a.img\n"))
	f.Add([]byte(text + text))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Parse(data)
		if err != nil {
			if h != (Hold{}) {
				t.Errorf("%v with an error", h)
			}
			return
		}
		if again, err := Parse(h.Encode()); again != h || err != nil {
			t.Errorf("%v is read back as %v, %v", h, again, err)
		}
	})
}
