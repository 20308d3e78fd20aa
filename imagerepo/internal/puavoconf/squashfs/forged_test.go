package squashfs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// forgery is an image of testdata that is being changed.
type forgery struct {
	t testing.TB
	b []byte
}

func (f *forgery) u16(off int, v uint16) { le.PutUint16(f.b[off:], v) }
func (f *forgery) u32(off int, v uint32) { le.PutUint32(f.b[off:], v) }
func (f *forgery) u64(off int, v uint64) { le.PutUint64(f.b[off:], v) }

// add appends b to the image, and returns its offset.
func (f *forgery) add(b []byte) int {
	off := len(f.b)
	f.b = append(f.b, b...)
	f.u64(40, uint64(len(f.b)))
	return off
}

// addMetadata appends b as metadata blocks, compressed or not.
func (f *forgery) addMetadata(b []byte, compressed bool) int {
	off := len(f.b)
	for part := range slices.Chunk(b, maxMetadata) {
		if compressed {
			part = compress(f.t, deflate, part)
			f.add(le.AppendUint16(nil, uint16(len(part))))
		} else {
			f.add(le.AppendUint16(nil, uint16(len(part))|0x8000))
		}
		f.add(part)
	}
	return off
}

// find returns the offset of a file's inode in plain.img, and the file.
func (f *forgery) find(name string) (int, *File) {
	f.t.Helper()
	r, err := open(f.b)
	if err != nil {
		f.t.Fatal(err)
	}
	ref := r.root
	if name != "" {
		d, err := r.Find(path.Dir(name))
		if err != nil {
			f.t.Fatal(err)
		}
		err = d.list(func(n []byte, to uint64) bool {
			ref = to
			return string(n) != path.Base(name)
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	i, err := r.readInode(ref)
	if err != nil {
		f.t.Fatal(err)
	}
	return int(r.inodeTable+ref>>16) + 2 + int(ref&0xffff), &File{r: r, inode: i}
}

func (f *forgery) inode(name string) int {
	off, _ := f.find(name)
	return off
}

// listing returns the offset of a directory's listing in plain.img.
func (f *forgery) listing(name string) int {
	_, d := f.find(name)
	return int(d.r.directoryTable+d.start) + 2 + int(d.offset)
}

// fragment returns the offset of the entry of the fragment of d/tail in plain.img.
func (f *forgery) fragment() int {
	_, tail := f.find("d/tail")
	return int(le.Uint64(f.b[le.Uint64(f.b[80:]):])) + 2 + int(tail.fragment)*16
}

// extend makes directory d an extended one of some bytes, whose listing begins at
// an offset in the image.
func (f *forgery) extend(size uint32, listing int) {
	d := f.inode("d")
	f.u16(d, typeDirectory+extended)
	f.u32(d+20, size)
	f.u32(d+24, uint32(listing)-uint32(le.Uint64(f.b[72:])))
	f.u16(d+34, 0) // offset in the block
}

// entries returns a listing of n files, all with the inode that is referred to.
func entries(n int, ref uint64) []byte {
	var b []byte
	for i := range n {
		if i%maxEntries == 0 {
			b = le.AppendUint32(b, uint32(min(n-i, maxEntries)-1))
			b = le.AppendUint32(b, uint32(ref>>16))
			b = le.AppendUint32(b, 1)
		}
		name := fmt.Sprintf("%07d", i)
		b = le.AppendUint16(b, uint16(ref))
		b = append(b, 0, 0, typeFile, 0, byte(len(name)-1), 0)
		b = append(b, name...)
	}
	return b
}

// forged are changes to plain.img, after which a path cannot be read.
var forged = []struct {
	name  string
	forge func(f *forgery)
	path  string
	want  string
}{
	{"magic", func(f *forgery) { f.b[3] = 'S' }, "", `starts with "hsqS"`},
	{"other endian", func(f *forgery) { copy(f.b, "sqsh") }, "", `starts with "sqsh"`},
	{"major version", func(f *forgery) { f.u16(28, 3) }, "", "version 3.0"},
	{"minor version", func(f *forgery) { f.u16(30, 1) }, "", "version 4.1"},
	{"block size 0", func(f *forgery) { f.u32(12, 0); f.u16(22, 64) }, "", "blocks of 0 bytes"},
	{"block size 2K", func(f *forgery) { f.u32(12, 2<<10); f.u16(22, 11) }, "", "blocks of 2048 bytes"},
	{"block size 2M", func(f *forgery) { f.u32(12, 2<<20); f.u16(22, 21) }, "", "blocks of 2097152 bytes"},
	{"block size 4G", func(f *forgery) { f.u32(12, 1<<32-1); f.u16(22, 32) }, "", "damaged: blocks of"},
	{"block size 5000", func(f *forgery) { f.u32(12, 5000) }, "", "blocks of 5000 bytes"},
	{"block log", func(f *forgery) { f.u16(22, 13) }, "", "to the power of 13"},
	{"block log 65535", func(f *forgery) { f.u16(22, 65535) }, "", "to the power of 65535"},
	{"compression 0", func(f *forgery) { f.u16(20, 0) }, "", "compression number 0"},
	{"compression 7", func(f *forgery) { f.u16(20, 7) }, "", "compression number 7"},
	{"compression 65535", func(f *forgery) { f.u16(20, 65535) }, "", "compression number 65535"},
	{"used 2^63", func(f *forgery) { f.u64(40, 1<<63) }, "", "cut off"},
	{"used one more", func(f *forgery) { f.u64(40, uint64(len(f.b)+1)) }, "", "cut off"},
	{"used 0", func(f *forgery) { f.u64(40, 0) }, "", "damaged: tables"},
	{"inode table", func(f *forgery) { f.u64(64, 1<<64-1) }, "", "damaged: tables"},
	{"inode table at the end", func(f *forgery) { f.u64(64, uint64(len(f.b))) }, "", "2 bytes at offset 9596 of 9596"},
	{"directory table", func(f *forgery) { f.u64(72, 1<<63) }, "", "damaged: tables"},
	{"fragment table", func(f *forgery) { f.u64(80, 1<<64-8) }, "", "damaged: tables"},
	{"fragments", func(f *forgery) { f.u32(16, 0) }, "d/tail", "fragment 1 of 0"},
	{"root block", func(f *forgery) { f.u64(32, 1<<63) }, "", "bytes at offset"},
	{"root block, around", func(f *forgery) { f.u64(32, 1<<64-1) }, "", "bytes at offset"},
	{"root offset", func(f *forgery) { f.u16(32, 8191) }, "", "byte 8191 of"},
	{"root offset 65535", func(f *forgery) { f.u16(32, 65535) }, "", "byte 65535 of"},
	{"root is a file", func(f *forgery) { f.u16(32, uint16(f.inode("d/tail")-int(le.Uint64(f.b[64:]))-2)) }, "", "the root is no directory"},

	{"metadata size 0", func(f *forgery) { f.u16(int(le.Uint64(f.b[64:])), 0) }, "", "0 bytes at offset"},
	{"metadata size 0, plain", func(f *forgery) { f.u16(int(le.Uint64(f.b[64:])), 0x8000) }, "", "0 bytes at offset"},
	{"metadata size 8193", func(f *forgery) { f.u16(int(le.Uint64(f.b[64:])), 8193|0x8000) }, "", "8193 bytes at offset"},
	{"metadata size 32767", func(f *forgery) { f.u16(int(le.Uint64(f.b[64:])), 0xffff) }, "", "32767 bytes at offset"},
	{"metadata past the end", func(f *forgery) { f.u16(int(le.Uint64(f.b[64:])), 8192|0x8000) }, "", "8192 bytes at offset"},
	{"metadata is not compressed", func(f *forgery) { f.u16(int(le.Uint64(f.b[64:])), 100) }, "", "gzip: zlib: invalid header"},
	{"metadata bomb", func(f *forgery) {
		bomb := compress(f.t, deflate, make([]byte, 8<<20))
		f.u64(64, uint64(f.add(append(le.AppendUint16(nil, uint16(len(bomb[:8000]))), bomb[:8000]...))))
		f.u64(32, 0)
	}, "", "too many bytes"},
	{"metadata bomb by a byte", func(f *forgery) {
		bomb := compress(f.t, deflate, make([]byte, maxMetadata+1))
		f.u64(64, uint64(f.add(append(le.AppendUint16(nil, uint16(len(bomb))), bomb...))))
		f.u64(32, 0)
	}, "", "too many bytes"},

	{"type 0", func(f *forgery) { f.u16(f.inode("d/tail"), 0) }, "d/tail", "an inode of type 0"},
	{"type 15", func(f *forgery) { f.u16(f.inode("d/tail"), 15) }, "d/tail", "an inode of type 15"},
	{"type 65535", func(f *forgery) { f.u16(f.inode("d/tail"), 65535) }, "d/tail", "an inode of type 65535"},
	{"file size 2^32-1", func(f *forgery) { f.u32(f.inode("d/tail")+28, 1<<32-1) }, "d/tail", "too large: it has 4294967295 bytes"},
	{"file size 2^63", func(f *forgery) { f.u64(f.inode("d/again")+24, 1<<63) }, "d/again", "too large: it has 9223372036854775808"},
	{"file size 2^64-1", func(f *forgery) { f.u64(f.inode("d/again")+24, 1<<64-1) }, "d/again", "too large: it has 18446744073709551615"},
	{"file size, as much as is allowed", func(f *forgery) { f.u32(f.inode("d/tail")+28, limit) }, "d/tail", "damaged"},
	{"file start", func(f *forgery) { f.u64(f.inode("d/again")+16, 1<<64-100) }, "d/again", "bytes at offset 18446744073709551516"},
	{"block size", func(f *forgery) { f.u32(f.inode("d/again")+56, 1<<32-1) }, "d/again", "for a block of 4096"},
	{"block size, compressed", func(f *forgery) { f.u32(f.inode("d/again")+56, 4097) }, "d/again", "4097 bytes at offset 96 for a block of 4096"},
	{"block size 1", func(f *forgery) { f.u32(f.inode("d/again")+56, 1|plainBit) }, "d/again", "makes 1 bytes instead of 4096"},
	{"block size 0, plain", func(f *forgery) { f.u32(f.inode("d/again")+56, plainBit) }, "d/again", "0 bytes at offset"},
	{"block bomb", func(f *forgery) {
		bomb := compress(f.t, deflate, make([]byte, 3<<20))
		f.u64(f.inode("d/again")+16, uint64(f.add(bomb)))
		f.u32(f.inode("d/again")+56, uint32(len(bomb)))
	}, "d/again", "too many bytes"},
	{"fragment 2^31", func(f *forgery) { f.u32(f.inode("d/tail")+20, 1<<31) }, "d/tail", "fragment 2147483648 of 2"},
	{"fragment of many", func(f *forgery) {
		f.u32(16, 1<<32-1)
		f.u32(f.inode("d/tail")+20, 1<<32-2)
	}, "d/tail", "8 bytes at offset"},
	{"fragment offset", func(f *forgery) { f.u32(f.inode("d/tail")+24, 1<<32-1) }, "d/tail", "116 bytes at offset 4294967295 of a fragment"},
	{"fragment offset, near", func(f *forgery) { f.u32(f.inode("d/tail")+24, 4000) }, "d/tail", "116 bytes at offset 4000 of a fragment"},
	{"fragments' block", func(f *forgery) { f.u64(int(le.Uint64(f.b[80:])), 1<<63+5) }, "d/tail", "2 bytes at offset 9223372036854775813"},
	{"fragments' block is itself", func(f *forgery) { f.u64(int(le.Uint64(f.b[80:])), le.Uint64(f.b[80:])) }, "d/tail", "damaged"},
	{"fragment start", func(f *forgery) { f.u64(f.fragment(), 1<<64-1) }, "d/tail", "bytes at offset 18446744073709551615"},
	{"fragment size 0", func(f *forgery) { f.u32(f.fragment()+8, 0) }, "d/tail", "0 bytes at offset"},
	{"fragment size 1", func(f *forgery) { f.u32(f.fragment()+8, 1|plainBit) }, "d/tail", "of a fragment of 1"},
	{"fragment size 2^32-1", func(f *forgery) { f.u32(f.fragment()+8, 1<<32-1) }, "d/tail", "for a block of 4096"},
	{"fragment bomb", func(f *forgery) {
		bomb := compress(f.t, deflate, make([]byte, 3<<20))
		f.u64(f.fragment(), uint64(f.add(bomb)))
		f.u32(f.fragment()+8, uint32(len(bomb)))
	}, "d/tail", "too many bytes"},

	{"link size 0", func(f *forgery) { f.u32(f.inode("d/link")+20, 0) }, "d/link", "a symbolic link to a path of 0 bytes"},
	{"link size 2^32-1", func(f *forgery) { f.u32(f.inode("d/link")+20, 1<<32-1) }, "d/link", "a path of 4294967295 bytes"},
	{"link size, past the end", func(f *forgery) { f.u32(f.inode("d/link")+20, 4096) }, "d/link", "damaged"},
	{"link circle", func(f *forgery) {}, "d/circle", "too many levels"},
	{"link to itself", func(f *forgery) { copy(f.b[f.inode("d/link")+24:], "link") }, "d/link", "too many levels"},
	{"link grows", func(f *forgery) { copy(f.b[f.inode("d/up")+24:], "up/up/up/up/up/u") }, "d/up", "too many levels"},

	{"directory size", func(f *forgery) { f.u16(f.inode("d")+24, 65535) }, "d", "damaged"},
	{"directory size, one more", func(f *forgery) { f.u16(f.inode("d")+24, 195) }, "d", "damaged"},
	{"directory size, one less", func(f *forgery) { f.u16(f.inode("d")+24, 193) }, "d", "ends within an entry"},
	{"directory size 2^32-1", func(f *forgery) { f.extend(1<<32-1, f.listing("d")-2) }, "d/x", "too large: a directory of 4294967292 bytes"},
	{"directory block", func(f *forgery) { f.u32(f.inode("d")+16, 1<<32-1) }, "d", "bytes at offset"},
	{"directory offset", func(f *forgery) { f.u16(f.inode("d")+26, 65535) }, "d", "byte 65535 of"},
	{"directory header", func(f *forgery) { f.u32(f.listing("d"), 256) }, "d", "256 entries"},
	{"directory header 2^32-1", func(f *forgery) { f.u32(f.listing("d"), 1<<32-1) }, "d", "4294967295 entries"},
	{"directory header, one more", func(f *forgery) { f.u32(f.listing("d"), 13) }, "d", "ends within an entry"},
	{"inodes' block", func(f *forgery) { f.u32(f.listing("d")+4, 1<<32-1) }, "d/tail", "bytes at offset"},
	{"inode's offset", func(f *forgery) { f.u16(f.listing("d")+12, 65535) }, "d/absolute", "byte 65535 of"},
	{"name size", func(f *forgery) { f.u16(f.listing("d")+18, 65535) }, "d", "a name of 65536 bytes"},
	{"name size 257", func(f *forgery) { f.u16(f.listing("d")+18, 256) }, "d", "a name of 257 bytes"},
	{"name size 256", func(f *forgery) { f.u16(f.listing("d")+18, 255) }, "d", "damaged"},
	{"inode that lists itself", func(f *forgery) {
		// The entry of "d" in the root refers to the root.
		f.u16(f.listing("")+12, le.Uint16(f.b[32:]))
	}, strings.Repeat("d/", 300), "more than 256 directories"},
	{"directory of a million entries", func(f *forgery) {
		b := entries(1_000_000, le.Uint64(f.b[32:]))
		f.extend(uint32(len(b)+3), f.addMetadata(b, false))
	}, "d/x", "too large: a directory of 15"},
	{"listing that ends early", func(f *forgery) {
		b := entries(2000, le.Uint64(f.b[32:]))
		f.extend(uint32(len(b)+3+100), f.addMetadata(b, false))
	}, "d/x", "damaged"},
}

// TestForged reads forged images, and has a ceiling for the memory it takes: 4 MiB,
// for images of 10 KiB (but for the one of a million entries) with blocks of 4 KiB.
func TestForged(t *testing.T) {
	const ceiling = 4 << 20
	for _, row := range forged {
		t.Run(row.name, func(t *testing.T) {
			f := &forgery{t, load(t, "plain")}
			row.forge(f)
			var got string
			var err error
			n := testdata.Allocated(func() {
				var r *Reader
				if r, err = open(f.b); err == nil {
					got, err = show(r, row.path)
				}
			})
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %.60q, %v, want %q", got, err, row.want)
			}
			if n > ceiling {
				t.Errorf("%d bytes of memory, the ceiling is %d", n, ceiling)
			}
			if errors.Is(err, ErrRead) {
				t.Errorf("got %v, %v", err, ErrRead)
			}
		})
	}
}

// TestHole reads blocks of zeros that an image does not have.
func TestHole(t *testing.T) {
	f := &forgery{t, load(t, "plain")}
	f.u32(f.inode("d/again")+56, 0)
	r, err := open(f.b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := show(r, "d/again")
	// The second block follows the first, which has no bytes now.
	if want := strings.Repeat("\x00", 4096) + numbers(2200)[:4096] + numbers(2200)[8192:]; err != nil || got != want {
		t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// TestExtended makes a link and a pipe extended inodes, which have their
// attributes after all that is read.
func TestExtended(t *testing.T) {
	f := &forgery{t, load(t, "plain")}
	f.u16(f.inode("d/link"), typeLink+extended)
	f.u16(f.inode("d/pipe"), 6+extended)
	readsAs(t, f.b, tree())
}

// TestManyEntries has a directory of 200 000 entries, which is just allowed.
func TestManyEntries(t *testing.T) {
	f := &forgery{t, load(t, "plain")}
	b := entries(200_000, le.Uint64(f.b[32:]))
	f.extend(uint32(len(b)+3), f.addMetadata(b, true))
	for _, row := range []struct {
		limit   int
		ceiling uint64
	}{
		{4096, 8 << 20},
		{0, 1 << 20},
		{200_000, 128 << 20},
	} {
		var err error
		n := testdata.Allocated(func() {
			r, openErr := open(f.b)
			if openErr != nil {
				t.Fatal(openErr)
			}
			d, findErr := r.Find("d")
			if findErr != nil {
				t.Fatal(findErr)
			}
			_, err = d.Entries(row.limit)
		})
		if errors.Is(err, ErrTooLarge) != (row.limit < 200_000) || n > row.ceiling {
			t.Errorf("at most %d: got %v and %d bytes of memory, the ceiling is %d", row.limit, err, n, row.ceiling)
		}
	}
}
