package increment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/archive/internal/extents"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/testdata"
)

const mib = 1 << 20

// place is a directory with versions of a disk.
type place struct {
	testing.TB
	path string
	dir  atomicfile.Dir
}

func newPlace(t testing.TB, path string) *place {
	t.Helper()
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	dir.NoSync = true
	return &place{t, path, dir}
}

func blake3Of(p []byte) cksum.Digest256 {
	h := cksum.NewBLAKE3()
	h.Write(p)
	return cksum.Digest256(h.Sum(nil))
}

// first makes a first version.
func (p *place) first(content []byte) *Parent {
	p.Helper()
	return p.parent("old", p.make(Job{File: "old", Disk: bytes.NewReader(content), Size: int64(len(content))}, content))
}

func (p *place) parent(file string, r Result) *Parent {
	p.Helper()
	f, err := os.Open(filepath.Join(p.path, file))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		p.Fatal(err)
	}
	return &Parent{f, info.Size(), r.List}
}

// make makes a version, whose file must have the content and the digest.
func (p *place) make(j Job, content []byte) Result {
	p.Helper()
	j.Dir = p.dir
	r, err := Make(p.Context(), j)
	if err != nil {
		p.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(p.path, j.File))
	if err != nil || !bytes.Equal(got, content) {
		p.Fatalf("%s has another content, %v", j.File, err)
	}
	if r.Digest() != blake3Of(content) {
		p.Fatalf("%s: digest %s", j.File, r.Digest())
	}
	return r
}

// restores checks that a delta makes old.
func (p *place) restores(file string, r Result, now, old []byte) {
	p.Helper()
	data, err := os.ReadFile(filepath.Join(p.path, file))
	if err != nil {
		p.Fatal(err)
	}
	var made bytes.Buffer
	if err := delta.Patch(p.Context(), &made, bytes.NewReader(now), bytes.NewReader(data), int64(len(old))); err != nil || !bytes.Equal(made.Bytes(), old) {
		p.Fatalf("the delta makes something else: %v", err)
	}
	if r.Delta.Size != int64(len(data)) || r.Delta.BLAKE3 != blake3Of(data) {
		p.Fatalf("the delta is not as said: %+v", r.Delta)
	}
	stats, err := delta.Inspect(p.Context(), bytes.NewReader(data))
	if err != nil || stats.Copies+stats.Literals != r.Delta.Commands {
		p.Fatalf("%+v, %v, want %d commands", stats, err, r.Delta.Commands)
	}
}

// disk counts what is read.
type disk struct {
	*bytes.Reader
	read int64
}

func (d *disk) ReadAt(b []byte, off int64) (int, error) {
	n, err := d.Reader.ReadAt(b, off)
	d.read += int64(n)
	return n, err
}

const block = 64 << 10 // of the bitmap

// write changes a disk, and returns what a bitmap says.
func write(r *rand.Rand, old []byte, size int) (now []byte, dirty extents.Map) {
	now = make([]byte, size)
	copy(now, old)
	blocks := make([]bool, (size+block-1)/block)
	for range r.IntN(6) {
		from := r.IntN(size)
		part := now[from:min(size, from+1+r.IntN(3*block))]
		switch r.IntN(3) {
		case 0:
			clear(part)
		case 1: // what was there
		default:
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		}
		for b := from / block; b <= (from+len(part)-1)/block; b++ {
			blocks[b] = true
		}
	}
	for b := len(old) / block; b < len(blocks); b++ { // what grew
		blocks[b] = true
	}
	for b, is := range blocks {
		dirty = join(dirty, extents.Extent{Offset: int64(b) * block, Length: int64(min(block, size-b*block)), Set: is})
	}
	return now, dirty
}

func zeroMap(p []byte) (m extents.Map) {
	for off := 0; off < len(p); off += block {
		part := p[off:min(off+block, len(p))]
		m = join(m, extents.Extent{Offset: int64(off), Length: int64(len(part)), Set: isZero(part)})
	}
	return m
}

// join continues a map.
func join(m extents.Map, e extents.Extent) extents.Map {
	if n := len(m); n > 0 && m[n-1].Set == e.Set {
		m[n-1].Length += e.Length
		return m
	}
	return append(m, e)
}

// ranges returns a map of ranges that end at these places. The first is clean, and each second
// dirty.
func ranges(ends ...int64) (m extents.Map) {
	at := int64(0)
	for i, end := range ends {
		m = append(m, extents.Extent{Offset: at, Length: end - at, Set: i%2 == 1})
		at = end
	}
	return m
}

// Random writes on disks of random sizes: new file, digest and delta are right, by a bitmap and
// without one.
func TestRandom(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	p.random(testdata.Scale(200, 25))
}

// The same where files share blocks.
func TestRandomReflinks(t *testing.T) {
	t.Parallel()
	p := newPlace(t, testdata.NewDisk(t, "xfs").Dir)
	if !p.random(testdata.Scale(60, 10)) {
		t.Error("no file shared blocks")
	}
}

func (p *place) random(rounds int) (reflinks bool) {
	p.Helper()
	sizes := []int{1, 512, 4096, mib - 1, mib, mib + 1, 2 * mib, 2*mib + 12345, 3*mib - 512, 4 * mib}
	for round := range rounds {
		r := rand.New(rand.NewPCG(uint64(round), 7))
		old, _ := write(r, nil, sizes[r.IntN(len(sizes))])
		size := len(old)
		if r.IntN(3) == 0 {
			size = sizes[r.IntN(len(sizes))]
		}
		parent := p.first(old)
		now, dirty := write(r, old[:min(len(old), size)], size)
		j := Job{File: "new", Delta: "delta", Disk: bytes.NewReader(now), Size: int64(size), Parent: parent, Sample: r.IntN(3)}
		if r.IntN(4) > 0 {
			j.Dirty = dirty
		}
		if r.IntN(2) > 0 {
			j.Zero = zeroMap(now)
		}
		result := p.make(j, now)
		if result.Full != "" {
			p.Errorf("round %d: %s", round, result.Full)
		}
		p.restores("delta", result, now, old)
		reflinks = reflinks || result.Reflink
		parent.File.Close()
	}
	return reflinks
}

// By a bitmap, only pieces that changed are read, and those that are compared.
func TestReads(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	old := make([]byte, 20*mib)
	rand.NewChaCha8([32]byte{1}).Read(old)
	clear(old[9*mib : 12*mib])
	parent := p.first(old)
	now := bytes.Clone(old)
	now[5*mib+100] ^= 1
	now[10*mib] = 1
	dirty := ranges(5*mib, 5*mib+block, 10*mib, 10*mib+block, 20*mib)
	for _, c := range []struct {
		name    string
		dirty   extents.Map
		zero    extents.Map
		sample  int
		read    int64
		changed int64
	}{
		{"bitmap", dirty, nil, 0, 2, 2},
		{"bitmap, and pieces compared", dirty, nil, 3, 5, 2},
		{"bitmap, all compared", dirty, nil, 100, 20, 2},
		{"no bitmap", nil, nil, 3, 20, 2},
		{"no bitmap, zeros known", nil, zeroMap(now), 3, 18, 2},
	} {
		d := &disk{Reader: bytes.NewReader(now)}
		var progress int64
		r := p.make(Job{File: "new", Delta: "delta", Disk: d, Size: int64(len(now)), Zero: c.zero, Dirty: c.dirty, Parent: parent, Sample: c.sample,
			Progress: func(n int64) { progress += n }}, now)
		if d.read != c.read*mib || r.Read != d.read || r.Changed != c.changed || progress != int64(len(now)) {
			t.Errorf("%s: %d MiB read, %d said, %d changed, progress %d", c.name, d.read/mib, r.Read/mib, r.Changed, progress)
		}
		p.restores("delta", r, now, old)
		if r.Delta.Size > 10<<10 {
			t.Errorf("%s: the delta has %d bytes", c.name, r.Delta.Size)
		}
	}
}

// Zeros cost nothing: neither blocks of files, nor bytes of the delta.
func TestZeros(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	old := make([]byte, 40*mib)
	old[0] = 1
	parent := p.first(old)
	now := bytes.Clone(old)
	rand.NewChaCha8([32]byte{1}).Read(now[10*mib : 20*mib])
	r := p.make(Job{File: "new", Delta: "delta", Disk: bytes.NewReader(now), Size: int64(len(now)), Parent: parent}, now)
	p.restores("delta", r, now, old)
	if r.Delta.Size > 200 {
		t.Errorf("the delta has %d bytes", r.Delta.Size)
	}
	for file, most := range map[string]int64{"old": mib, "new": 12 * mib} {
		out := strings.Fields(string(testdata.Run(t, "du", "-B1", filepath.Join(p.path, file))))
		var used int64
		fmt.Sscan(out[0], &used)
		if used > most {
			t.Errorf("%s takes %d bytes", file, used)
		}
	}
}

// A bitmap that misses changes is found out where something is read, and all is read.
func TestWrongBitmap(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	old := make([]byte, 6*mib)
	rand.NewChaCha8([32]byte{1}).Read(old)
	parent := p.first(old)
	now := bytes.Clone(old)
	now[mib+5] ^= 1
	now[mib+block+5] ^= 1
	now[4*mib] ^= 1
	for _, c := range []struct {
		name   string
		dirty  extents.Map
		sample int
	}{
		{"a range of a piece that is read", ranges(mib, mib+block, 6*mib), 0},
		{"a piece that is compared", ranges(6 * mib), 6},
	} {
		r := p.make(Job{File: "new", Delta: "delta", Disk: bytes.NewReader(now), Size: 6 * mib, Dirty: c.dirty, Parent: parent, Sample: c.sample}, now)
		if r.Full == "" || r.Read != 6*mib || r.Changed != 2 {
			t.Errorf("%s: %q, %d read, %d changed", c.name, r.Full, r.Read, r.Changed)
		}
		p.restores("delta", r, now, old)
	}
}

// After an error nothing is left.
func TestErrors(t *testing.T) {
	t.Parallel()
	p := newPlace(t, t.TempDir())
	old := make([]byte, 4*mib)
	rand.NewChaCha8([32]byte{1}).Read(old)
	parent := p.first(old)
	now := bytes.Clone(old)
	now[2*mib] ^= 1
	broken := errors.New("broken")
	damaged := p.first(old)
	damaged.List = slices.Clone(damaged.List)
	damaged.List[1][0] ^= 1
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		job  Job
		want error
	}{
		{"cancelled", cancelled, Job{Disk: bytes.NewReader(now)}, context.Canceled},
		{"the disk is shorter", t.Context(), Job{Disk: bytes.NewReader(now[:3*mib])}, nil},
		{"a limit ends it", t.Context(), Job{Disk: bytes.NewReader(now), Read: func(context.Context, int) error { return broken }}, broken},
		{"the archive is damaged", t.Context(), Job{Disk: bytes.NewReader(now), Parent: damaged, Dirty: ranges(2*mib, 3*mib, 4*mib)}, ErrWrong},
	} {
		j := c.job
		j.Dir, j.File, j.Delta, j.Size = p.dir, "new", "delta", 4*mib
		if j.Parent == nil {
			j.Parent = parent
		}
		_, err := Make(c.ctx, j)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, file := range []string{"new", "delta"} {
			if _, err := os.Stat(filepath.Join(p.path, file)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %s is there, %v", c.name, file, err)
			}
		}
	}
}
