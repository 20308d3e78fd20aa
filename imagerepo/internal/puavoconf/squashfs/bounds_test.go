package squashfs

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// TestWork has images in which there is always more to do. The reader has little
// left of its work, so that the test does not take as long.
func TestWork(t *testing.T) {
	const left, ceiling = 8 << 20, 12 << 20
	for _, row := range []struct {
		name  string
		forge func(f *forgery)
	}{
		{"directories in themselves", func(f *forgery) {
			b := entries(1000, le.Uint64(f.b[32:]))
			f.u64(72, uint64(f.addMetadata(b, false)))
			root := f.inode("")
			f.u32(root+16, 0)
			f.u16(root+24, 8000)
			f.u16(root+26, 0)
		}},
		{"long links", func(f *forgery) {
			// A thousand links to a path that goes down and up.
			link := slices.Concat(make([]byte, 20), le.AppendUint32(nil, 4096), []byte(strings.Repeat("e/../", 820)))
			link[0] = typeLink
			off := f.addMetadata(link, false)
			b := entries(1000, uint64(off-int(le.Uint64(f.b[64:])))<<16)
			f.extend(uint32(len(b)+3), f.addMetadata(append(entries(1, 0), b...), false))
		}},
		{"large files", func(f *forgery) {
			f.u32(f.inode("d/tail")+28, 1<<20)
			i := f.inode("d/tail")
			ref := uint64(i-int(le.Uint64(f.b[64:]))-2) & 0xffff
			b := entries(1000, ref)
			f.extend(uint32(len(b)+3), f.addMetadata(b, false))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := &forgery{t, load(t, "plain")}
			row.forge(f)
			r, err := open(f.b)
			if err != nil {
				t.Fatal(err)
			}
			r.work = Work - left
			n := testdata.Allocated(func() {
				for err == nil || !strings.Contains(err.Error(), "units of work") {
					_, err = collect(r)
					if n := r.work; n < Work-left {
						t.Fatalf("%d units of work are left, %v", Work-n, err)
					}
				}
			})
			if n > ceiling {
				t.Errorf("%d bytes of memory, the ceiling is %d", n, ceiling)
			}
		})
	}
}

// same reads all of an image that was changed or cut, and checks that the memory
// is bounded by the work. It returns whether nothing is amiss.
func same(t *testing.T, image []byte) bool {
	t.Helper()
	r, err := open(image)
	if err != nil {
		return false
	}
	r.work = Work - 16<<20
	var got map[string]string
	if n := testdata.Allocated(func() { got, err = collect(r) }); n > 32<<20 {
		t.Errorf("%d bytes of memory", n)
	}
	if err != nil {
		return false
	}
	want := tree()
	for path := range want {
		if got[path] != want[path] {
			return false
		}
	}
	return len(got) == len(want)
}

// TestCut cuts images at every tenth byte, as if that was their size. What comes
// last, the table of IDs, is not needed.
func TestCut(t *testing.T) {
	const ids = 64
	for _, name := range images {
		image := load(t, name)
		for n := superSize; n < len(image); n += 10 {
			b := bytes.Clone(image[:n])
			le.PutUint64(b[40:], uint64(n))
			if same(t, b) && n < len(image)-ids {
				t.Errorf("%s: the first %d of %d bytes are enough", name, n, len(image))
			}
		}
	}
}

// TestBytes changes each byte of what is not a file in plain.img, and every 11th
// of all others; the short tests take every fifth of these. Most changes are noticed; none may take memory or panic.
func TestBytes(t *testing.T) {
	for _, name := range images {
		image := load(t, name)
		step, start := 11, 0
		if name == "plain" {
			step, start = 1, int(le.Uint64(image[64:]))
		}
		for i := start; i < len(image); i += step * testdata.Scale(1, 5) {
			for _, change := range []byte{0xff, 1, 0x80} {
				b := bytes.Clone(image)
				b[i] ^= change
				same(t, b)
			}
		}
	}
}
