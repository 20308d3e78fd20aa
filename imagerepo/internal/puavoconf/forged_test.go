package puavoconf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/puavoconf/squashfs"
	"puavo-image-repository/testdata"
)

var le = binary.LittleEndian

// forged are changes to an image whose one file of definitions is a.json. Package
// squashfs tests many more; these show what becomes of them.
var forged = []struct {
	name  string
	forge func(b []byte)
	none  bool
	want  string
}{
	{"magic", func(b []byte) { b[0] = 'H' }, true, "not a squashfs"},
	{"version", func(b []byte) { b[28] = 3 }, true, "version 3.0 instead of 4.0"},
	{"block size", func(b []byte) { b[12] = 1 }, true, "damaged"},
	{"block size 0", func(b []byte) { le.PutUint32(b[12:], 0); b[22] = 32 }, true, "blocks of 0 bytes"},
	{"block size 1", func(b []byte) { le.PutUint32(b[12:], 1); b[22] = 0 }, true, "blocks of 1 bytes"},
	{"block size 2M", func(b []byte) { le.PutUint32(b[12:], 2<<20); b[22] = 21 }, true, "blocks of 2097152 bytes"},
	{"root", func(b []byte) { le.PutUint16(b[32:], 0xffff) }, true, "cannot be opened"},
	{"size", func(b []byte) { le.PutUint64(b[40:], 1<<63) }, false, "cut off"},
	{"inode table", func(b []byte) { le.PutUint64(b[64:], 1<<40) }, true, "damaged: tables at 1099511627776"},
	{"negative offset", func(b []byte) { le.PutUint64(b[64:], 1<<63) }, true, "damaged: tables at 9223372036854775808"},
	{"directory table", func(b []byte) { le.PutUint64(b[72:], 0) }, true, "cannot be opened"},
	{"fragment table", func(b []byte) { le.PutUint64(b[80:], 1<<40) }, true, "damaged: tables"},
	{"fragment table within", func(b []byte) { le.PutUint64(b[80:], 96) }, true, "a.json in the image cannot be read"},
	{"file size", func(b []byte) { le.PutUint32(inode(b)[28:], 1<<32-1) }, false, "a.json in the image is too large"},
	{"file size, near", func(b []byte) { le.PutUint32(inode(b)[28:], maxFile) }, true, "a.json in the image cannot be read"},
	{"file size 2^63", func(b []byte) { extend(b, 1<<63) }, false, "a.json in the image is too large"},
	{"file size 2^64-1", func(b []byte) { extend(b, 1<<64-1) }, false, "a.json in the image is too large"},
	{"file offset", func(b []byte) { le.PutUint32(inode(b)[24:], 1<<20) }, true, "damaged: 2 bytes at offset 1048576"},
	{"fragment", func(b []byte) { le.PutUint32(inode(b)[20:], 1<<31) }, true, "a.json in the image cannot be read"},
	{"type", func(b []byte) { inode(b)[0] = 99 }, true, "an inode of type 99"},
	{"pipe", func(b []byte) { inode(b)[0] = 6 }, true, "no *.json file"},
	{"directory", func(b []byte) { inode(b)[0] = 1 }, true, "no *.json file"},
	{"link", func(b []byte) { inode(b)[0] = 3 }, true, "a.json in the image cannot be opened"},
}

// inode returns a packed image, with inodes that are not compressed, from the
// inode of a file on.
func inode(b []byte) []byte { return b[bytes.Index(b, []byte{2, 0, 0o644 & 0xff, 0o644 >> 8}):] }

// extend makes the inode of the file an extended one of some bytes. It overwrites
// the next one, so that the directory above must not come next.
func extend(b []byte, size uint64) {
	i := inode(b)
	i[0] = 9
	le.PutUint64(i[16:], 96)
	le.PutUint64(i[24:], size)
}

// TestForged reads forged images, which take up to 16 MiB of memory and print
// nothing.
func TestForged(t *testing.T) {
	const ceiling = 16 << 20
	var printed bytes.Buffer
	defer log.SetOutput(log.Writer())
	log.SetOutput(&printed)
	image := pack(t, map[string]string{dir + "/a.json": "{}", dir + "/b": "{}"}, "-noI")
	for _, row := range forged {
		t.Run(row.name, func(t *testing.T) {
			b := bytes.Clone(image)
			row.forge(b)
			var err error
			n := testdata.Allocated(func() {
				got, readErr := read(b)
				fails(t, got, readErr, row.none, row.want)
				err = readErr
			})
			if n > ceiling {
				t.Errorf("%d bytes of memory, the ceiling is %d", n, ceiling)
			}
			if errors.Is(err, squashfs.ErrRead) {
				t.Errorf("got %v", err)
			}
		})
	}
	if printed.Len() > 0 {
		t.Errorf("printed %q", &printed)
	}
}

func TestUnsupported(t *testing.T) {
	image := load(t, "compression/puavo-os-gzip"+late)
	le.PutUint16(image[20:], 2)
	got, err := read(image)
	fails(t, got, err, true, "compressed with lzma, which is not supported")
}

// TestCutTables cuts an image at every 1000th byte, as if that was its size. What
// comes last, the table of IDs, is not needed.
func TestCutTables(t *testing.T) {
	const ids = 64
	for _, method := range []string{"gzip", "lzo", "xz", "lz4", "zstd"} {
		image := load(t, "compression/puavo-os-"+method+late)
		image = image[:le.Uint64(image[40:])]
		for n := 1000; n < len(image)-ids; n += 1000 {
			b := bytes.Clone(image[:n])
			le.PutUint64(b[40:], uint64(n))
			got, err := read(b)
			fails(t, got, err, true, "damaged")
		}
	}
}

// TestMost reads as much as the limits allow, and takes up to 320 MiB of memory for
// it, of which little more than a quarter is used at a time.
func TestMost(t *testing.T) {
	const ceiling = 320 << 20
	values, keys := make(map[string]string), make(map[string]string)
	for i := range maxTotal / maxFile {
		head := fmt.Sprintf(`{"%d":"`, i)
		values[fmt.Sprintf("%s/%d.json", dir, i)] = head + strings.Repeat("x", maxFile-len(head)-2) + `"}`
	}
	var most strings.Builder
	for i := range maxSettings {
		fmt.Fprintf(&most, `,"%d":0`, i)
	}
	keys[dir+"/0.json"] = "{" + most.String()[1:] + "}"
	keys[dir+"/1.json"] = `{"one":"too many"}`
	for _, row := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"values", values, ""},
		{"settings", keys, "1.json in the image: the image defines more than 65536 settings"},
	} {
		t.Run(row.name, func(t *testing.T) {
			image := pack(t, row.files, "-comp", "zstd")
			var got map[string]json.RawMessage
			var err error
			n := testdata.Allocated(func() { got, err = read(image) })
			if row.want != "" {
				fails(t, got, err, false, row.want)
			} else if err != nil || len(got) != len(row.files) {
				t.Errorf("got %d keys, %v", len(got), err)
			}
			if n > ceiling {
				t.Errorf("%d bytes of memory, the ceiling is %d", n, ceiling)
			}
		})
	}
}
