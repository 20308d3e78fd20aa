package squash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/testdata"
)

// text returns n bytes that pack well.
func text(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	var b []byte
	for len(b) < n {
		b = fmt.Appendf(b, "line %d of %d\n", r.IntN(1000), r.IntN(10))
	}
	return b[:n]
}

// tree makes files of all types.
func tree(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	sizes := map[string]int{"empty": 0, "small": 100, "block": 4096, "blocks": 3 * 4096, "more": 50_000, "large": 700_000, "dir/a": 5000}
	for i := range 600 {
		sizes[fmt.Sprintf("many/a file with a long name %d", i)] = 300 + i
	}
	for name, n := range sizes {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text(uint64(n), n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		if err := os.Symlink(strings.Repeat("far/", i+1), filepath.Join(root, fmt.Sprint("link", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(root, "more"), filepath.Join(root, "hard")); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 30_000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	if err := os.WriteFile(filepath.Join(root, "noise"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func imageOf(t testing.TB, root, options string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	args := []string{root, name, "-noappend", "-quiet", "-no-progress", "-nopad"}
	testdata.Run(t, "mksquashfs", append(args, strings.Fields(options)...)...)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// All that mksquashfs packs is listed: what is left is what it stores.
func TestBlocks(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "mksquashfs")
	root := tree(t)
	const noise = 30_000
	rows := []struct {
		options string
		content int // bytes that the blocks have at least
		left    int // bytes of the image that no block has, at most
	}{
		{"-comp lzo -b 4K", 1_100_000, noise + 3000},
		{"-comp lzo", 1_100_000, noise + 1000},
		{"-comp lzo -b 1M", 1_100_000, noise + 1000},
		{"-comp lzo -no-fragments", 1_100_000, noise + 1000},
		{"-comp lzo -always-use-fragments", 1_100_000, noise + 1000},
		{"-comp lzo -no-exports", 1_100_000, noise + 1000},
		{"-comp lzo -noI", 1_070_000, noise + 30_000},
		{"-comp lzo -noF", 700_000, noise + 450_000},
		{"-comp lzo -noD", 200_000, 1_000_000},
		{"-comp gzip", 0, 1 << 30},
		{"-comp xz", 0, 1 << 30},
	}
	for _, c := range rows[:testdata.Short(len(rows), 3)] {
		b := imageOf(t, root, c.options)
		blocks := Blocks(b)
		content, left, end := 0, len(b), int64(0)
		room := make([]byte, 1<<20)
		for _, x := range blocks {
			n, err := lzo.Unpack(room, b[x.Offset:x.Offset+x.Size])
			if err != nil || x.Offset < end {
				t.Fatalf("%s: %+v after %d: %v", c.options, x, end, err)
			}
			end = x.Offset + x.Size
			content += n
			left -= int(x.Size)
		}
		if content < c.content || left > c.left {
			t.Errorf("%s: %d blocks of %d bytes, want %d; %d bytes are left of %d, want at most %d", c.options, len(blocks), content, c.content, left, len(b), c.left)
		}
		if c.content == 0 && len(blocks) > 0 {
			t.Errorf("%s: %d blocks", c.options, len(blocks))
		}
	}
}

// valid fails the test if a list is not one that Encode takes.
func valid(t *testing.T, b []byte) {
	t.Helper()
	var end int64
	for _, x := range Blocks(b) {
		if x.Offset < end || x.Size < 1 || x.Size > int64(len(b))-x.Offset {
			t.Fatalf("%+v of %d bytes, after %d", x, len(b), end)
		}
		end = x.Offset + x.Size
	}
}

// An image that is damaged or cut has some blocks, and takes no longer.
func TestDamaged(t *testing.T) {
	t.Parallel()
	b := imageOf(t, tree(t), "-comp lzo -b 4K")
	tables := int(binary.LittleEndian.Uint64(b[64:]))
	step := testdata.Short(1, 8)
	for at := 0; at < len(b); at += step {
		if at == 96 {
			at, step = tables, 1
		}
		if at > 200 {
			at += testdata.Scale(10, 2000)
		}
		for _, change := range []byte{1, 0x80, 0xff} {
			c := bytes.Clone(b)
			c[min(at, len(c)-1)] ^= change
			valid(t, c)
		}
		valid(t, b[:min(at, len(b))])
	}
}

// Tables that lead to each other, and say that there is more than there is, end.
func TestEndless(t *testing.T) {
	b := imageOf(t, tree(t), "-comp lzo -b 4K")
	le := binary.LittleEndian
	for name, change := range map[string]func(b []byte){
		"many inodes":        func(b []byte) { le.PutUint32(b[4:], 1<<32-1) },
		"many fragments":     func(b []byte) { le.PutUint32(b[16:], 1<<32-1) },
		"tiny blocks":        func(b []byte) { le.PutUint32(b[12:], 1) },
		"fragments anywhere": func(b []byte) { le.PutUint32(b[16:], 1<<32-1); le.PutUint64(b[80:], 0) },
		"no tables":          func(b []byte) { copy(b[48:96], bytes.Repeat([]byte{0xff}, 48)) },
	} {
		c := bytes.Clone(b)
		change(c)
		testdata.Promptly(t, name, func() { valid(t, c) })
	}
	// Each entry of a table of offsets leads to the same block of fragments.
	c := bytes.Clone(b)
	at := le.Uint64(b[le.Uint64(b[80:]):])
	table := uint64(len(c))
	for range 100_000 {
		c = le.AppendUint64(c, at)
	}
	le.PutUint32(c[16:], 1<<32-1)
	le.PutUint64(c[80:], table)
	if n := testdata.Allocated(func() { valid(t, c) }); n > 1<<30 {
		t.Errorf("%d bytes of memory", n)
	}
	if n := len(Blocks(c)); n == 0 {
		t.Error("no block is found")
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add(imageOf(f, tree(f), "-comp lzo -b 4K"))
	f.Fuzz(func(t *testing.T, b []byte) { valid(t, b) })
}
