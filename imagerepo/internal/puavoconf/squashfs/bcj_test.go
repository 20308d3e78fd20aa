package squashfs

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// xzTool returns b as xz compresses it, with a check of CRC-32 as mksquashfs has it.
func xzTool(t testing.TB, b []byte, filters ...string) []byte {
	t.Helper()
	testdata.Tool(t, "xz")
	cmd := exec.CommandContext(t.Context(), "xz", append([]string{"--format=xz", "--check=crc32", "-T1", "-0"}, filters...)...)
	cmd.Stdin = bytes.NewReader(b)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sayX86 makes an xz stream of one filter say that it has that for x86, too.
func sayX86(b []byte) []byte {
	header := b[xzBlock+1:]
	copy(header[3:], header[1:4]) // there are bytes of padding
	header[0], header[1], header[2] = 1, x86Filter, 0
	return b
}

// calls returns n bytes, of which many are calls of a few functions.
func calls(n int) []byte {
	b := noise(n)
	for i := 0; i+10 < n; i += 10 {
		b[i] = 0xe8
		le.PutUint32(b[i+1:], uint32(i%7*1000-i-5))
	}
	return b
}

// opcodes returns n bytes that are mostly those which the filter for x86 looks at.
func opcodes(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = [...]byte{0xe8, 0xe9, 0, 0xff, 0xe8, 0, 0xff, byte(r.IntN(256))}[r.IntN(8)]
	}
	return b
}

// TestX86 has blocks before and after.
func TestX86(t *testing.T) {
	for _, row := range []struct{ name, b, want string }{
		{"nothing", "", ""},
		{"too short", "e8 010000", "e8 010000"},
		{"call", "e8 05000000", "e8 00000000"},
		{"jump", "e9 05000000", "e9 00000000"},
		{"other", "ea 05000000", "ea 05000000"},
		{"later", "9090 e8 07000000", "9090 e8 00000000"},
		{"backwards", "e8 00000000", "e8 fbffffff"},
		{"from below", "e8 000000ff", "e8 fbffff00"}, // 25 bits count
		{"24 bits", "e8 ffffff00", "e8 faffff00"},
		{"25 bits", "e8 04000001", "e8 04000001"},
		{"far", "e8 05000080", "e8 05000080"},
		{"one after the other", "e8 05000000 e8 0a000000", "e8 00000000 e8 00000000"},
		{"opcodes in an operand", "e8 ede8e800 00000000", "e8 e8e8e800 00000000"},
		{"opcode before", "e8 e8 06010200", "e8 e8 00010200"},
		{"opcode before, one after", "e8 e8 06010200 e8 0b000000", "e8 e8 00010200 e8 00000000"},
		{"opcode before, its operand filtered", "e8 e8060000 00", "e8 e3060000 00"},
		{"opcode before, repeated", "e8 e8 03000100", "e8 e8 fcfffe00"},
		{"opcode two before", "e8 90 e8 07050300", "e8 90 e8 00050300"},
		{"opcode two before, repeated", "e8 90 e8 01010300", "e8 90 e8 fefe0300"},
		{"opcode three before", "e8 9090 e8 08030201", "e8 9090 e8 08030201"},
		{"opcode three before, filtered", "e8 9090 e8 09030200", "e8 9090 e8 01030200"},
		{"opcode four before", "e8 909090 03 e8 0a000000", "e8 909090 03 e8 00000000"},
		{"two opcodes before", "e8 e8 e8 07010200", "e8 e8 e8 07010200"},
		{"opcode before, its operand left", "e8 e8 e8 0701 e8 00010200", "e8 e8 e8 0701 e8 00010200"},
		{"end", "90909090 e8 090000", "90909090 e8 090000"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(row.b, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			unx86(b)
			if got, want := fmt.Sprintf("%x", b), strings.ReplaceAll(row.want, " ", ""); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// TestX86Peer reads what xz has filtered.
func TestX86Peer(t *testing.T) {
	blocks := [][]byte{nil, calls(5), calls(maxMetadata), calls(maxBlock)}
	for i := range testdata.Scale(200, 50) {
		blocks = append(blocks, opcodes(i, uint64(i)), opcodes(20_000, uint64(i)))
	}
	for i, block := range blocks {
		got, _, err := unxz(xzTool(t, block, "--x86", "--lzma2=preset=0"), len(block))
		if len(block) == 0 { // of which xz makes no block
			continue
		}
		if err != nil || !bytes.Equal(got, block) {
			t.Errorf("block %d: got %d bytes, %v, want %d", i, len(got), err, len(block))
		}
	}
}

// TestFilters changes the filters in the header of a block.
func TestFilters(t *testing.T) {
	const filter, start, next = xzBlock + 2, xzBlock + 3, xzBlock + 4 // offsets
	content := calls(5000)
	good := xzTool(t, content, "--x86", "--lzma2=preset=0")
	not := func(name string) string {
		return "the squashfs is compressed with xz and the BCJ filter " + name + ", which is not supported"
	}
	for _, row := range []struct {
		name  string
		forge func(b []byte)
		want  string // the error, or its start; nothing if there is none
	}{
		{"x86", func([]byte) {}, ""},
		{"delta", func(b []byte) { b[filter] = 3 }, errXZ.Error()},
		{"powerpc", func(b []byte) { b[filter] = 5 }, not("powerpc")},
		{"ia64", func(b []byte) { b[filter] = 6 }, not("ia64")},
		{"arm", func(b []byte) { b[filter] = 7 }, not("arm")},
		{"armthumb", func(b []byte) { b[filter] = 8 }, not("armthumb")},
		{"sparc", func(b []byte) { b[filter] = 9 }, not("sparc")},
		{"arm64", func(b []byte) { b[filter] = 10 }, not("arm64")},
		{"riscv", func(b []byte) { b[filter] = 11 }, not("riscv")},
		{"unknown", func(b []byte) { b[filter] = 12 }, errXZ.Error()},
		{"LZMA2 twice", func(b []byte) { b[filter] = lzma2Filter }, errXZ.Error()},
		{"start", func(b []byte) { b[start] = 4 }, errXZ.Error()},
		{"start of arm", func(b []byte) { b[filter], b[start] = 7, 4 }, errXZ.Error()},
		{"x86 twice", func(b []byte) { b[next] = x86Filter }, errXZ.Error()},
		{"LZMA2 with more", func(b []byte) { b[next+1] = 2 }, errXZ.Error()},
		{"three", func(b []byte) { b[xzBlock+1] |= 2 }, errXZ.Error()},
		{"reserved", func(b []byte) { b[xzBlock+1] |= 4 }, errXZ.Error()},
		{"no filters", func(b []byte) {
			b[xzBlock+1] |= 0x40 // a size, which takes all that is left of the header
			copy(b[filter:], "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")
		}, errXZ.Error()},
		{"one", func(b []byte) { b[xzBlock+1] &^= 1 }, errXZ.Error()},
		{"x86 left out", func(b []byte) { b[xzBlock+1] &^= 1; copy(b[filter:], b[next:next+3]) }, "wrong checksum"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := bytes.Clone(good)
			row.forge(b)
			got, _, err := unxz(b, len(content))
			if row.want != "" {
				if err == nil || err.Error() != row.want {
					t.Errorf("got %v, want %q", err, row.want)
				}
			} else if err != nil || !bytes.Equal(got, content) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

// filteredBlocks returns how many of an image's xz blocks have a filter besides LZMA2.
func filteredBlocks(image []byte, filter byte) int {
	return bytes.Count(image, []byte{filter, 0, lzma2Filter, 1})
}

// TestBCJ reads images of mksquashfs with filtered blocks.
func TestBCJ(t *testing.T) {
	root := t.TempDir()
	const n = 300_000
	arm := noise(n)
	for i := 0; i+8 < n; i += 8 {
		le.PutUint32(arm[i:], 0xeb000000|uint32(i%7*1000-i/4)&0xffffff)
	}
	want := map[string]string{"x86": string(calls(n)), "arm": string(arm), "tail": string(calls(999)), "text": letters(n)}
	plant(t, root, want)
	for _, row := range []struct {
		args, want string
		filter     byte
	}{
		{"-Xbcj x86", "", x86Filter},
		{"-Xbcj x86 -b 8K -Xdict-size 8K", "", x86Filter},
		{"-Xbcj x86 -b 1M -no-fragments", "", x86Filter},
		{"-Xbcj arm", "the squashfs is compressed with xz and the BCJ filter arm, which is not supported", 7},
		{"-Xbcj x86,arm", "the squashfs is compressed with xz and the BCJ filter arm, which is not supported", 7},
	} {
		t.Run(row.args, func(t *testing.T) {
			image := mksquashfs(t, root, append(strings.Fields(row.args), "-comp", "xz")...)
			if filteredBlocks(image, row.filter) == 0 {
				t.Fatal("no block is filtered")
			}
			if row.want == "" {
				readsAs(t, image, want)
				return
			}
			r, err := open(image)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := collect(r); err == nil || err.Error() != row.want {
				t.Errorf("got %d files, %v, want %q", len(got), err, row.want)
			}
		})
	}
}

// TestBCJMetadata reads filtered metadata, which mksquashfs does not make. The names in
// the directory are calls of one function.
func TestBCJMetadata(t *testing.T) {
	const files, namesAt, entrySize, callSize = 100, 12 + 8, 8 + 4 + 50, 5
	root, want := t.TempDir(), make(map[string]string)
	for i := range files {
		name := fmt.Appendf(nil, "%04d", i)
		for len(name) < entrySize-8 {
			end := namesAt + i*entrySize + len(name) + callSize
			name = le.AppendUint32(append(name, 0xe8), uint32(-0x400000-end))
		}
		want[strings.NewReplacer("/", "0", "\x00", "0").Replace(string(name))] = ""
	}
	plant(t, root, want)
	f := &forgery{t, mksquashfs(t, root, "-comp", "xz", "-nopad")}
	r, err := open(f.b)
	if err != nil {
		t.Fatal(err)
	}
	listing, err := r.readMetadata(r.directoryTable)
	if err != nil {
		t.Fatal(err)
	}
	plain, filtered := xzTool(t, listing.bytes), xzTool(t, listing.bytes, "--x86", "--lzma2=preset=0")
	if len(filtered) > len(plain)/2 {
		t.Fatalf("filtered, %d bytes take %d instead of %d", len(listing.bytes), len(filtered), len(plain))
	}
	f.u64(72, uint64(f.add(le.AppendUint16(nil, uint16(len(filtered))))))
	f.add(filtered)
	readsAs(t, f.b, want)
}
