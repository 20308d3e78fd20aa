package compact_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/testdata"
)

// With the flag, this test makes the vectors that are missing, as
//
//	go test ./delta/compact -run TestVectors -make
//
// Those that exist are never made again: each version reads them all.
var makeVectors = flag.Bool("make", false, "make the missing vectors in testdata")

// vector is a pair whose delta is in testdata, with both images.
type vector struct {
	name string
	pair func(t *testing.T) (base, target compact.Image)
	xz   bool // whether its pieces are LZMA by xz
}

// vectors are how the vectors of this version were made.
var vectors = []vector{
	{"v1-blocks", blockPair, false},
	{"v1-blocks-xz", blockPair, true},
	{"v1-records", func(*testing.T) (base, target compact.Image) {
		return raw(table(1<<20, 500)), raw(table(1<<20+4711, 500))
	}, false},
	{"v1-full", func(*testing.T) (base, target compact.Image) { return raw(nil), packed(words(7, 10_000), 1024) }, false},
	{"v1-squashfs", squashPair, false}, // mksquashfs 4.5.1
}

// blockPair has two groups, and all operations and commands.
func blockPair(*testing.T) (base, target compact.Image) {
	text := words(1, 40_000)
	return packed(text, 512), packed(edited(text), 512)
}

// squashPair has two versions of some files.
func squashPair(t *testing.T) (base, target compact.Image) {
	tree := t.TempDir()
	for name, n := range map[string]int{"a": 100, "b": 5000, "c": 20_000} {
		if err := os.WriteFile(filepath.Join(tree, name), words(uint64(n), n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const options = "-comp lzo -b 4K -all-root -no-xattrs"
	base = squashed(t, tree, options)
	if err := os.WriteFile(filepath.Join(tree, "c"), edited(words(20_000, 20_000)), 0o644); err != nil {
		t.Fatal(err)
	}
	return base, squashed(t, tree, options)
}

// read returns the files of a vector by their extensions.
func (v vector) read() (files map[string][]byte, err error) {
	files = make(map[string][]byte)
	for _, ext := range []string{".base", ".target", ".cdelta"} {
		if files[ext], err = os.ReadFile(filepath.Join("testdata", v.name+ext)); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// make writes the files of a vector.
func (v vector) make(t *testing.T) {
	t.Helper()
	base, target := v.pair(t)
	file := encode(t, base, target, 1)
	if v.xz {
		file = forge(t, file).lzma(t)
	}
	for ext, b := range map[string][]byte{".base": base.Bytes, ".target": target.Bytes, ".cdelta": file} {
		if err := os.WriteFile(filepath.Join("testdata", v.name+ext), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// images returns the pair of a vector with its blocks.
func (v vector) images(t *testing.T, base, target []byte) (a, b compact.Image) {
	t.Helper()
	if v.name == "v1-squashfs" {
		return compact.Image{Bytes: base, Blocks: squashfs.Blocks(base)}, compact.Image{Bytes: target, Blocks: squashfs.Blocks(target)}
	}
	a, b = v.pair(t)
	if !bytes.Equal(a.Bytes, base) || !bytes.Equal(b.Bytes, target) {
		t.Error("the test makes other images")
	}
	return a, b
}

// The vectors are applied for ever, and, by this version, made as they are.
func TestVectors(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			files, err := v.read()
			if errors.Is(err, fs.ErrNotExist) && *makeVectors {
				v.make(t)
				files, err = v.read()
			}
			if err != nil {
				t.Fatal(err)
			}
			base, target, file := files[".base"], files[".target"], files[".cdelta"]
			got, err := decode(t, file, base, compact.DecodeOptions{})
			if err != nil || !bytes.Equal(got, target) {
				t.Errorf("%d bytes, %v, want %d", len(got), err, len(target))
			}
			if v.xz {
				return
			}
			a, b := v.images(t, base, target)
			if again := encode(t, a, b, 2); !bytes.Equal(again, file) {
				t.Errorf("this version makes %d bytes, other than the vector's %d", len(again), len(file))
			}
		})
	}
}

// lzma puts a forgery together with pieces that the xz tool makes.
func (f *forgery) lzma(t *testing.T) []byte {
	t.Helper()
	var sections []byte
	for i := range f.sections {
		before := len(sections)
		for n := tableOf; n < wire.StreamCount; n++ {
			sections = appendLZMA(t, sections, *f.sections[i].stream(n))
		}
		f.head.Sections[i].Length = int64(len(sections) - before)
	}
	b, err := f.head.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, sections...)
}

// appendLZMA appends the piece of LZMA of a content, or the one that is stored if that is
// shorter.
func appendLZMA(t testing.TB, dst, content []byte) []byte {
	t.Helper()
	testdata.Tool(t, "xz")
	const lc, lp, pb = 3, 0, 2
	cmd := exec.CommandContext(t.Context(), "xz", "--format=raw", "--lzma1=preset=9,lc=3,lp=0,pb=2", "-c")
	cmd.Stdin = bytes.NewReader(content)
	packed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if packed = append([]byte{(pb*5+lp)*9 + lc}, packed...); len(packed) >= len(content) {
		return append(binary.AppendUvarint(append(dst, 0), uint64(len(content))), content...)
	}
	dst = binary.AppendUvarint(append(dst, 2), uint64(len(content)))
	return append(binary.AppendUvarint(dst, uint64(len(packed))), packed...)
}
