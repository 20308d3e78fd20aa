package squashfs

import (
	"bytes"
	"slices"
	"testing"

	"puavo-image-repository/testdata"
)

// FuzzRead changes images. All that is in them is read, with as little work as
// their size calls for, so that no image takes long.
func FuzzRead(f *testing.F) {
	for _, name := range images {
		f.Add(load(f, name))
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		r, err := open(image)
		if err != nil {
			return
		}
		const most = 32 << 20
		r.work = Work - most
		var all map[string]string
		n := testdata.Allocated(func() { all, err = collect(r) })
		if n > 2*most {
			t.Errorf("%d bytes of memory, %v", n, err)
		}
		for path, content := range all {
			if len(content) > limit {
				t.Errorf("%q: %d bytes", path, len(content))
			}
		}
	})
}

// FuzzDecompress changes blocks, decompresses them twice into some room, and
// compares.
func FuzzDecompress(f *testing.F) {
	text := []byte("some text, some more of the text, and some text")
	for _, n := range []uint32{100, 2000, maxMetadata} {
		f.Add(uint16(1), n, compress(f, deflate, text))
		f.Add(uint16(3), n, lzoZeros(1000))
		f.Add(uint16(4), n, compress(f, lzma2, text))
		f.Add(uint16(4), n, sayX86(compress(f, lzma2, opcodes(90, 1))))
		f.Add(uint16(4), n, sayX86(compress(f, uncheckedLZMA2, opcodes(90, 2))))
		f.Add(uint16(5), n, lz4Block(f, text))
		f.Add(uint16(5), n, lz4Block(f, slices.Concat(make([]byte, 999), noise(999), make([]byte, 99))))
		f.Add(uint16(6), n, compress(f, zstandard, text))
	}
	image := load(f, "plain")
	f.Fuzz(func(t *testing.T, method uint16, n uint32, b []byte) {
		if int(method) >= len(methods) || methods[method].open == nil || n > maxBlock || len(b) > maxBlock {
			return
		}
		r, err := open(image)
		if err != nil {
			t.Fatal(err)
		}
		r.decompress = methods[method].open(r)
		dst, touched := room(int(n))
		got, err := r.guarded(dst, b)
		if touched() || got > len(dst) {
			t.Fatalf("%d bytes into %d, or more", got, len(dst))
		}
		again := make([]byte, n)
		got2, err2 := r.guarded(again, b)
		if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(dst[:got], again[:got2]) {
			t.Errorf("got %d bytes, %v, and then %d, %v", got, err, got2, err2)
		}
	})
}
