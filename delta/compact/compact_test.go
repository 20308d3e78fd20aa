package compact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/testdata"
)

// Each pair is made again, from each group on and on any number of cores.
func TestPairs(t *testing.T) {
	t.Parallel()
	for _, p := range pairs() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			file := encode(t, p.base, p.target, 2)
			if len(file) > p.most {
				t.Errorf("the delta has %d bytes, want at most %d", len(file), p.most)
			}
			for cores := 1; cores <= 8; cores += testdata.Scale(1, 3) {
				if got, err := decode(t, file, p.base.Bytes, compact.DecodeOptions{Cores: cores}); err != nil || !bytes.Equal(got, p.target.Bytes) {
					t.Errorf("%d cores: %d bytes, %v, want %d", cores, len(got), err, len(p.target.Bytes))
				}
			}
			for _, cores := range []int{8, 1}[:testdata.Scale(2, 1)] {
				if again := encode(t, p.base, p.target, cores); !bytes.Equal(again, file) {
					t.Errorf("another delta on %d cores", cores)
				}
			}
			resume(t, file, p)
		})
	}
}

// resume makes the target from each group on.
func resume(t *testing.T, file []byte, p pair) {
	t.Helper()
	d, err := compact.Open(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for from := range d.Info().Groups + 1 {
		_, at := d.Start(from)
		got, err := decode(t, file, p.base.Bytes, compact.DecodeOptions{From: from, Trusted: true})
		if err != nil || !bytes.Equal(got, p.target.Bytes[at:]) {
			t.Errorf("from group %d: %d bytes, %v, want %d", from, len(got), err, len(p.target.Bytes[at:]))
		}
	}
	if _, err := decode(t, file, p.base.Bytes, compact.DecodeOptions{From: d.Info().Groups + 1}); err == nil {
		t.Error("a group that there is not")
	}
}

// What mksquashfs makes becomes small, and comes back.
func TestSquashfs(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "mksquashfs")
	tree := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(tree, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		write(fmt.Sprint("file", i), words(uint64(i), 500*i))
	}
	write("large", words(1000, 400_000))
	before := make(map[string]compact.Image)
	for _, o := range []string{"-comp lzo -b 4K", "-comp lzo", "-comp lzo -b 1M -no-fragments", "-comp xz -b 64K"} {
		before[o] = squashed(t, tree, o)
	}
	write("file7", []byte("changed"))
	write("large", edited(words(1000, 400_000)))
	for o, base := range before {
		p := pair{o, base, squashed(t, tree, o), 0}
		file := encode(t, p.base, p.target, 2)
		t.Logf("%s: %d bytes for an image of %d", o, len(file), len(p.target.Bytes))
		if len(p.base.Blocks) > 0 && len(file) > 30_000 {
			t.Errorf("%s: the delta has %d bytes", o, len(file))
		}
		if got, err := decode(t, file, p.base.Bytes, compact.DecodeOptions{}); err != nil || !bytes.Equal(got, p.target.Bytes) {
			t.Errorf("%s: %d bytes, %v", o, len(got), err)
		}
	}
}

// A base that is another one leaves nothing behind.
func TestWrongBase(t *testing.T) {
	t.Parallel()
	text := words(1, 50_000)
	file := encode(t, packed(text, 4096), packed(edited(text), 4096), 1)
	good := packed(text, 4096).Bytes
	other := bytes.Clone(good)
	other[len(other)/2]++
	for name, base := range map[string][]byte{"other": other, "shorter": good[1:], "longer": append(bytes.Clone(good), 0), "none": nil} {
		got, err := decode(t, file, base, compact.DecodeOptions{})
		if !errors.Is(err, compact.ErrBase) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		// Who is wrong about the base finds out at the group.
		if got, err := decode(t, file, base, compact.DecodeOptions{Trusted: true}); err == nil && name != "longer" {
			t.Errorf("%s, trusted: %d bytes without an error", name, len(got))
		}
	}
}

// A wrong list of blocks is an error.
func TestWrongBlocks(t *testing.T) {
	t.Parallel()
	image := []byte("ten bytes.")
	for _, blocks := range [][]compact.Block{
		{{Offset: -1, Size: 2}}, {{Offset: 5, Size: 6}}, {{Offset: 11, Size: 1}}, {{Offset: 1, Size: 0}},
		{{Offset: 5, Size: 2}, {Offset: 1, Size: 2}}, {{Offset: 1, Size: 3}, {Offset: 3, Size: 2}}, {{Offset: 1, Size: 1<<63 - 1}},
	} {
		for i := range blocks {
			blocks[i].Codec = compact.LZO
		}
		m := compact.Image{Bytes: image, Blocks: blocks}
		for _, two := range [][2]compact.Image{{m, raw(image)}, {raw(image), m}} {
			if _, err := compact.Encode(t.Context(), new(bytes.Buffer), two[0], two[1], options(t, 1)); err == nil {
				t.Errorf("no error for %v", blocks)
			}
		}
	}
}

// cancelling is a reader, a writer and a base after whose first call a context ends.
type cancelling struct {
	cancel func()
	*bytes.Reader
	bytes.Buffer
}

func (c *cancelling) Read(p []byte) (int, error)  { c.cancel(); return c.Reader.Read(p) }
func (c *cancelling) Write(p []byte) (int, error) { c.cancel(); return len(p), nil }
func (c *cancelling) ReadAt(p []byte, at int64) (int, error) {
	c.cancel()
	return c.Reader.ReadAt(p, at)
}

// What was cancelled is an error, whenever it was.
func TestCancelled(t *testing.T) {
	t.Parallel()
	text := words(1, 300_000)
	base, target := packed(text, 4096), packed(edited(text), 4096)
	file := encode(t, base, target, 2)
	d, err := compact.Open(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	start, _ := d.Start(0)
	for _, name := range []string{"before", "reading", "base", "writing"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := &cancelling{cancel: cancel, Reader: bytes.NewReader(base.Bytes)}
		r := &cancelling{cancel: cancel, Reader: bytes.NewReader(file[start:])}
		o := compact.DecodeOptions{Trusted: true}
		switch name {
		case "before":
			cancel()
			err = d.Decode(ctx, bytes.NewReader(file[start:]), bytes.NewReader(base.Bytes), new(bytes.Buffer), o)
		case "reading":
			err = d.Decode(ctx, r, bytes.NewReader(base.Bytes), new(bytes.Buffer), o)
		case "base":
			err = d.Decode(ctx, bytes.NewReader(file[start:]), c, new(bytes.Buffer), compact.DecodeOptions{})
		case "writing":
			err = d.Decode(ctx, bytes.NewReader(file[start:]), bytes.NewReader(base.Bytes), c, o)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// A run that makes a delta ends with its context, at each of its steps.
func TestEncodeCancelled(t *testing.T) {
	t.Parallel()
	text := words(1, 100_000)
	base, target := packed(text, 4096), packed(edited(text), 4096)
	for after := range 7 {
		ctx, cancel := context.WithCancel(t.Context())
		o := options(t, 2)
		create, n := o.Scratch, 0
		o.Scratch = func() (*os.File, error) {
			if n++; n > after {
				cancel()
			}
			return create()
		}
		if after == 0 {
			cancel()
		}
		w := &cancelling{cancel: cancel}
		_, err := compact.Encode(ctx, w, base, target, o)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d files: %v", after, err)
		}
		cancel()
	}
}

// What the scratch files and the writer say is passed on.
func TestEncodeErrors(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	base, target := raw(words(1, 10_000)), raw(words(2, 10_000))
	for after := range 6 {
		o := options(t, 2)
		create, n := o.Scratch, 0
		o.Scratch = func() (*os.File, error) {
			if n++; n > after {
				return nil, failed
			}
			return create()
		}
		if _, err := compact.Encode(t.Context(), new(bytes.Buffer), base, target, o); !errors.Is(err, failed) {
			t.Errorf("after %d files: %v", after, err)
		}
	}
}

// Where the file breaks off, all groups whose section has come are made.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	o := options(t, 2)
	o.Effort = delta.Fast
	target := noise(1, 17<<20)
	var file bytes.Buffer
	if _, err := compact.Encode(t.Context(), &file, raw(nil), raw(target), o); err != nil {
		t.Fatal(err)
	}
	d, err := compact.Open(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	start, _ := d.Start(0)
	broken := errors.New("broken")
	for group := range d.Info().Groups {
		at, made := d.Start(group)
		r := io.MultiReader(bytes.NewReader(file.Bytes()[start:at+1]), iotest.ErrReader(broken))
		var got bytes.Buffer
		err := d.Decode(t.Context(), r, bytes.NewReader(nil), &got, compact.DecodeOptions{})
		if !errors.Is(err, broken) || !bytes.Equal(got.Bytes(), target[:made]) {
			t.Errorf("in the section of group %d: %d bytes, %v; want %d", group, got.Len(), err, made)
		}
	}
}
