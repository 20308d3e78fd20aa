package compact_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/testdata"
)

// pack returns the block of a content, as a simple compressor makes it.
func pack(content []byte) []byte {
	var tokens []lzo.Token
	last := make(map[uint32]int)
	run := 0
	flush := func() {
		if run > 0 {
			tokens = append(tokens, lzo.Token{Length: uint32(run)})
			run = 0
		}
	}
	for x := 0; x < len(content); {
		n, d := 0, 0
		if x+4 <= len(content) {
			gram := binary.LittleEndian.Uint32(content[x:])
			if p, ok := last[gram]; ok && x-p <= lzo.MaxDistance {
				d = x - p
				for n < 2000 && x+n < len(content) && content[x+n] == content[p+n] {
					n++
				}
			}
			last[gram] = x
		}
		if n < 4 {
			run++
			x++
			continue
		}
		flush()
		tokens = append(tokens, lzo.Token{Length: uint32(n), Distance: uint32(d)})
		x += n
	}
	flush()
	b, err := lzo.Append(nil, content, tokens)
	if err != nil {
		panic(err)
	}
	return b
}

// words returns n bytes that pack well.
func words(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	list := make([]string, 300)
	for i := range list {
		b := make([]byte, 3+r.IntN(9))
		for k := range b {
			b[k] = 'a' + byte(r.IntN(26))
		}
		list[i] = string(b) + " "
	}
	var all []byte
	for len(all) < n {
		all = append(all, list[r.IntN(len(list))]...)
	}
	return all[:n]
}

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// packed returns an image of contents in blocks of a size, with bytes as they are before,
// after, and behind every tenth block.
func packed(content []byte, size int) (m compact.Image) {
	m.Bytes = []byte("the head of the image")
	for i, c := range slices.Collect(slices.Chunk(content, size)) {
		b := pack(c)
		m.Blocks = append(m.Blocks, compact.Block{Offset: int64(len(m.Bytes)), Size: int64(len(b)), Codec: compact.LZO})
		m.Bytes = append(m.Bytes, b...)
		if i%10 == 9 {
			m.Bytes = append(m.Bytes, noise(uint64(i), 100)...)
		}
	}
	m.Bytes = append(m.Bytes, "its end"...)
	return m
}

// edited returns content with some bytes changed, put in and taken out.
func edited(content []byte) []byte {
	n := len(content)
	return slices.Concat(content[:n/5], []byte("something new"), content[n/5:n/2], content[n/2+50:n-n/4], words(99, n/50), content[n-n/4:])
}

// table returns n records of numbers that grow from a start, as the inodes of an image.
func table(start uint32, n int) (b []byte) {
	for i := range n {
		b = binary.LittleEndian.AppendUint32(b, start+uint32(i*i))
		b = append(b, "some bytes that are the same in all"...)
		b = binary.LittleEndian.AppendUint16(b, uint16(i))
	}
	return b
}

type pair struct {
	name         string
	base, target compact.Image
	most         int // bytes of the delta
}

func raw(b []byte) compact.Image { return compact.Image{Bytes: b} }

// pairs are images that are made here, and take no time.
func pairs() []pair {
	text, other := words(1, 300_000), words(2, 50_000)
	image := packed(text, 4096)
	wrong := packed(text, 4096)
	wrong.Blocks = slices.Clone(wrong.Blocks)
	for i := range wrong.Blocks {
		wrong.Blocks[i].Offset++ // so that none of them is a block
	}
	unknown := packed(edited(text), 4096)
	for i := range unknown.Blocks {
		unknown.Blocks[i].Codec = 9
	}
	return []pair{
		{"nothing", raw(nil), raw(nil), 300},
		{"nothing to something", raw(nil), raw([]byte("something")), 300},
		{"something to nothing", image, raw(nil), 300},
		{"the same", image, image, 300},
		{"a byte", raw([]byte{1}), raw([]byte{2}), 300},
		{"noise", raw(noise(1, 100_000)), raw(noise(2, 100_000)), 101_000},
		{"raw, edited", raw(text), raw(edited(text)), 4_000},
		{"packed, edited", image, packed(edited(text), 4096), 11_600},
		{"packed in large blocks", packed(text, 128<<10), packed(edited(text), 128<<10), 16_000},
		{"packed in other blocks", packed(text, 128<<10), packed(text, 4096), 11_600},
		{"packed after raw", raw(text), packed(text, 4096), 11_600},
		{"raw after packed", image, raw(text), 1_000},
		{"full", raw(nil), packed(other, 4096), 25_000},
		{"wrong blocks in the base", wrong, packed(edited(text), 4096), 200_000},
		{"wrong blocks in the target", image, wrong, 1_000},
		{"an unknown codec", image, unknown, 200_000},
		{"records", raw(table(1<<20, 5000)), raw(table(1<<20+4711, 5000)), 3_600},
		{"records in blocks", packed(table(1<<20, 5000), 8192), packed(table(1<<20+4711, 5000), 8192), 20_000},
		{"zeros", raw(make([]byte, 1<<20)), packed(slices.Concat(make([]byte, 300_000), text), 1<<20), 100_000},
		{"blocks in reverse", image, reversed(image), 2_000},
	}
}

// reversed returns an image with the blocks of another in reverse.
func reversed(m compact.Image) (r compact.Image) {
	for _, b := range slices.Backward(m.Blocks) {
		r.Blocks = append(r.Blocks, compact.Block{Offset: int64(len(r.Bytes)), Size: b.Size, Codec: b.Codec})
		r.Bytes = append(r.Bytes, m.Bytes[b.Offset:b.Offset+b.Size]...)
	}
	return r
}

// options are those of tests.
func options(t testing.TB, cores int) compact.Options {
	dir := t.TempDir()
	return compact.Options{Cores: cores, Scratch: func() (*os.File, error) { return os.CreateTemp(dir, "scratch") }}
}

// encode returns the delta of a pair.
func encode(t testing.TB, base, target compact.Image, cores int) []byte {
	t.Helper()
	var out bytes.Buffer
	info, err := compact.Encode(t.Context(), &out, base, target, options(t, cores))
	if err != nil {
		t.Fatal(err)
	}
	d, err := compact.Open(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if d.Info() != info || info.Length != int64(out.Len()) {
		t.Errorf("Encode returns %+v, Open %+v, of %d bytes", info, d.Info(), out.Len())
	}
	return out.Bytes()
}

// decode returns what a delta makes from a group on.
func decode(t testing.TB, file []byte, base []byte, o compact.DecodeOptions) ([]byte, error) {
	t.Helper()
	d, err := compact.Open(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	at, _ := d.Start(o.From)
	var out bytes.Buffer
	err = d.Decode(t.Context(), bytes.NewReader(file[at:]), bytes.NewReader(base), &out, o)
	return out.Bytes(), err
}

// squashed returns a squashfs of the files in a directory.
func squashed(t testing.TB, dir string, options string) compact.Image {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	args := append([]string{dir, name, "-noappend", "-quiet", "-no-progress", "-all-time", "0", "-mkfs-time", "0"}, strings.Fields(options)...)
	testdata.Run(t, "mksquashfs", args...)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return compact.Image{Bytes: b, Blocks: squashfs.Blocks(b)}
}
