package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/archive/internal/disk"
	"puavo-image-repository/imagerepo/archive/internal/extents"
	"puavo-image-repository/imagerepo/archive/internal/pieces"
	"puavo-image-repository/imagerepo/atomicfile"
)

const (
	v1 = "2024-01-01-120000"
	v2 = "2024-01-02-120000"
	v3 = "2024-01-03-120000"
)

const mib = 1 << 20

// place is the group of a disk, and the disk.
type place struct {
	*testing.T
	path, disk string
	dir        atomicfile.Dir
	newest     *catalog.Version
	content    []byte // of that
}

func newPlace(t *testing.T) *place {
	p := &place{T: t, path: t.TempDir(), disk: filepath.Join(t.TempDir(), "disk.img")}
	dir, err := atomicfile.Open(p.path)
	p.must(err)
	t.Cleanup(func() { dir.Close() })
	dir.NoSync = true
	p.dir = dir
	return p
}

func (p *place) must(errs ...error) {
	p.Helper()
	if err := errors.Join(errs...); err != nil {
		p.Fatal(err)
	}
}

// random returns bytes, the same each time.
func random(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// open opens the disk, with this content and this bitmap.
func (p *place) open(content []byte, dirty extents.Map) (*Disk, error) {
	p.Helper()
	p.must(os.WriteFile(p.disk, content, 0o666))
	d, err := Open(p.Context(), p.dir, p.newest, disk.Spec{Name: "vda", Format: disk.Raw, Source: p.disk})
	if err == nil {
		p.Cleanup(d.Close)
		if d.parent != nil && dirty != nil {
			d.Dirty, d.Why = dirty, ""
		}
	}
	return d, err
}

// add makes a version of this content, and names it.
func (p *place) add(version string, content []byte, dirty extents.Map, o Options) (Plan, Made) {
	p.Helper()
	d, err := p.open(content, dirty)
	p.must(err)
	plan := d.Plan("web/vda", p.path)
	o.Version = version
	m, err := d.Make(p.Context(), p.dir, o)
	p.must(err)
	w := m.Waiting
	p.must(Present(p.dir, w), Withdraw(p.dir, w), Present(p.dir, w))
	for _, f := range w.files() {
		p.must(p.dir.Rename(f[1], strings.TrimSuffix(f[1], catalog.New)))
	}
	p.newest, p.content = &w.Version, bytes.Clone(content)
	return plan, m
}

// check checks the files of a version, and the delta that makes the one before.
func (p *place) check(name string, m Made, before []byte) {
	p.Helper()
	version := m.Waiting.Version.Version
	got, err := os.ReadFile(filepath.Join(p.path, version+".img"))
	if err != nil || !bytes.Equal(got, p.content) {
		p.Errorf("%s: the file has another content, %v", name, err)
	}
	list, err := os.ReadFile(filepath.Join(p.path, version+piecesSuffix))
	if err != nil || !bytes.Equal(list, m.List.Encode()) {
		p.Errorf("%s: the list of sums: %v", name, err)
	}
	if m.Waiting.Delta.Size == 0 {
		return
	}
	data, err := os.ReadFile(filepath.Join(p.path, m.Waiting.Parent+".rdiff"))
	p.must(err)
	var made bytes.Buffer
	if err := delta.Patch(p.Context(), &made, bytes.NewReader(got), bytes.NewReader(data), int64(len(before))); err != nil || !bytes.Equal(made.Bytes(), before) {
		p.Errorf("%s: the delta makes something else, %v", name, err)
	}
	if m.Waiting.Delta.Parent != version || m.Waiting.Delta.Size != int64(len(data)) {
		p.Errorf("%s: %+v", name, m.Waiting.Delta)
	}
}

// names returns which files are there.
func (p *place) names() (names []string) {
	p.Helper()
	entries, err := os.ReadDir(p.path)
	p.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// all is a bitmap that says this of a whole disk.
func all(size int, dirty bool) extents.Map {
	return extents.Map{{Offset: 0, Length: int64(size), Set: dirty}}
}

// only is a bitmap in which a range is dirty.
func only(size, from, to int) extents.Map {
	m := extents.Map{}
	for _, e := range []extents.Extent{{Offset: 0, Length: int64(from)}, {Offset: int64(from), Length: int64(to - from), Set: true}, {Offset: int64(to), Length: int64(size - to)}} {
		if e.Length > 0 {
			m = append(m, e)
		}
	}
	return m
}

// A version is made from what is there of the one before, and of the bitmap; what cannot be used
// is read in full, for a reason.
func TestMake(t *testing.T) {
	const size = 4*mib + 4096
	old := random(size, 1)
	edit := func(size, from, n int) []byte {
		now := append(bytes.Clone(old), random(max(0, size-len(old)), 3)...)[:size]
		copy(now[from:], random(n, 2))
		return now
	}
	for _, c := range []struct {
		name   string
		old    []byte // nil: that above
		now    []byte
		dirty  extents.Map
		harm   string // a file that is removed, or else
		how    func(path string) error
		stays  bool
		full   string // contained in the reason why all is read
		lost   bool   // the version before
		read   int64  // bytes of the disk; 0: all
		pieces int64  // that changed
	}{
		{name: "without a bitmap", now: edit(size, 5000, 100), full: "no bitmap", pieces: 1},
		{name: "a bitmap", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), read: 0, pieces: 1},
		{name: "a bitmap of all", now: edit(size, 5000, 100), dirty: all(size, true), pieces: 1},
		{name: "nothing changed", now: old, dirty: all(size, false), pieces: 0},
		{name: "a bitmap that misses a change", now: edit(size, 2*mib, 100), dirty: only(size, 0, 65536), full: "misses changes", read: -1, pieces: 1},
		{name: "a bitmap that misses a change in a piece that it has", now: edit(size, 65530, 100), dirty: only(size, 0, 65536), full: "misses changes", read: -1, pieces: 1},
		{name: "the parent stays", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), stays: true, pieces: 1},
		{name: "the parent is missing", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + ".img", how: os.Remove, full: "missing or damaged", lost: true, pieces: 5},
		{name: "the parent is short", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + ".img", how: func(p string) error { return os.Truncate(p, mib) }, full: "missing or damaged", lost: true, pieces: 5},
		{name: "the parent is damaged where the disk changed", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + ".img", how: flip(70000), full: "missing or damaged", lost: true, read: -1, pieces: 5},
		{name: "the parent is damaged, and the list is missing", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + ".img", how: func(p string) error {
			return errors.Join(flip(3*mib)(p), os.Remove(strings.TrimSuffix(p, ".img")+piecesSuffix))
		}, full: "missing or damaged", lost: true, pieces: 5},
		{name: "the list is missing", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + piecesSuffix, how: os.Remove, pieces: 1},
		{name: "the list is damaged", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + piecesSuffix, how: flip(40), pieces: 1},
		{name: "the list is short", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + piecesSuffix, how: func(p string) error { return os.Truncate(p, 32) }, pieces: 1},
		{name: "the list is long", now: edit(size, 5000, 100), dirty: only(size, 0, 65536), harm: v1 + piecesSuffix, how: func(p string) error { return os.Truncate(p, 4096) }, pieces: 1},
		{name: "grown", now: edit(6*mib, 5000, 100), dirty: only(6*mib, 0, 65536), pieces: 3},
		{name: "grown by less than a piece", now: edit(size+512, 5000, 100), dirty: only(size+512, 0, 65536), pieces: 2},
		{name: "shrunk", now: edit(2*mib+512, 5000, 100), dirty: only(2*mib+512, 0, 65536), pieces: 2},
		{name: "shrunk by pieces", now: edit(2*mib, 5000, 100), dirty: only(2*mib, 0, 65536), pieces: 1},
		{name: "shrunk to less than a piece", now: edit(mib/2, 5000, 100), dirty: only(mib/2, 0, 65536), pieces: 1},
		{name: "shrunk to a piece", now: edit(mib, 5000, 100), dirty: only(mib, 0, 65536), pieces: 1},
		{name: "grown from less than a piece", old: old[:mib/2], now: edit(2*mib+512, 5000, 100), dirty: only(2*mib+512, 0, 65536), pieces: 3},
		{name: "grown from a piece", old: old[:mib], now: edit(mib+512, 5000, 100), dirty: only(mib+512, 0, 65536), pieces: 2},
		{name: "less than a piece", old: old[:mib/2], now: edit(mib/2, 5000, 100), dirty: only(mib/2, 0, 65536), pieces: 1},
		{name: "grown within a piece", old: old[:mib/2], now: edit(mib/2+512, 5000, 100), dirty: only(mib/2+512, 0, 65536), pieces: 1},
	} {
		p := newPlace(t)
		before := c.old
		if before == nil {
			before = old
		}
		if plan, m := p.add(v1, before, nil, Options{}); plan.Full != "it is the first version" || plan.Read != int64(len(before)) || m.Read != plan.Read || m.Waiting.Lost {
			t.Errorf("%s: the first: %+v, %+v", c.name, plan, m.Waiting)
		}
		p.check(c.name, Made{}.of(p), nil)
		if c.harm != "" {
			p.must(c.how(filepath.Join(p.path, c.harm)))
		}
		plan, m := p.add(v2, c.now, c.dirty, Options{Stays: c.stays})
		why := plan.Full + m.Full
		if c.full == "" && why != "" || !strings.Contains(why, c.full) || m.Waiting.Lost != c.lost || m.Waiting.Parent != v1 {
			t.Errorf("%s: %q, %+v", c.name, why, m.Waiting)
		}
		if c.read == 0 && m.Read != plan.Read || m.Changed != c.pieces || (m.Waiting.Delta.Size > 0) == (c.lost || c.stays) {
			t.Errorf("%s: %d bytes read, planned were %d; %d pieces changed; delta %+v", c.name, m.Read, plan.Read, m.Changed, m.Waiting.Delta)
		}
		p.check(c.name, m, before)
		p.must(Forget(p.dir, v2))
		if i := slices.IndexFunc(p.names(), func(n string) bool { return strings.HasSuffix(n, Part) || n == v1+piecesSuffix }); i >= 0 {
			t.Errorf("%s: left are %q", c.name, p.names())
		}
	}
}

// of returns the version that is the newest of a place.
func (Made) of(p *place) (m Made) {
	f, l, err := OpenNewest(p.Context(), p.dir, p.newest)
	p.must(err)
	f.Close()
	m.Waiting.Version, m.List = *p.newest, l
	return m
}

// flip returns what flips a bit of a file.
func flip(at int64) func(string) error {
	return func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[at] ^= 4
		return os.WriteFile(path, data, 0o666)
	}
}

// A version that cannot be made leaves nothing.
func TestMakeFails(t *testing.T) {
	broken := errors.New("broken")
	old := random(3*mib, 1)
	now := random(3*mib, 2)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		read func(p *place) error
		see  func(atomicfile.Change) error
		want string
	}{
		{"cancelled", cancelled, nil, nil, "context canceled"},
		{"a limit that fails", t.Context(), func(*place) error { return broken }, nil, "broken"},
		{"written to while it is read", t.Context(), func(p *place) error { return os.WriteFile(p.disk, old, 0o666) }, nil, "written to while it was read"},
		{"cut while it is read", t.Context(), func(p *place) error { return os.Truncate(p.disk, mib) }, nil, "reading the disk at 1048576"},
		{"the file cannot be written", t.Context(), nil, func(c atomicfile.Change) error {
			if c.Kind == atomicfile.Write && strings.HasSuffix(c.Name, ".img.part") {
				return broken
			}
			return nil
		}, "broken"},
		{"the delta cannot be written", t.Context(), nil, func(c atomicfile.Change) error {
			if c.Kind == atomicfile.Write && strings.HasSuffix(c.Name, ".rdiff.part") {
				return broken
			}
			return nil
		}, "broken"},
		{"the list cannot be written", t.Context(), nil, func(c atomicfile.Change) error {
			if c.Kind == atomicfile.Rename && strings.HasSuffix(c.To, ".pieces.part") {
				return broken
			}
			return nil
		}, "broken"},
	} {
		p := newPlace(t)
		p.add(v1, old, nil, Options{})
		before := p.names()
		d, err := p.open(now, nil)
		p.must(err)
		o := Options{Version: v2}
		if c.read != nil {
			o.Read = func(context.Context, int) error { return c.read(p) }
		}
		dir := p.dir
		if c.see != nil {
			stop := atomicfile.Observe(p.path, c.see)
			dir, err = atomicfile.Open(p.path)
			p.must(err)
			t.Cleanup(func() { stop(); dir.Close() })
		}
		if _, err := d.Make(c.ctx, dir, o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := p.names(); !slices.Equal(got, before) {
			t.Errorf("%s: left are %q", c.name, got)
		}
	}
	p := newPlace(t)
	p.add(v1, old, nil, Options{})
	p.must(os.Remove(filepath.Join(p.path, v1+piecesSuffix)))
	if _, err := Open(cancelled, p.dir, p.newest, disk.Spec{Format: disk.Raw, Source: p.disk}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A decision is read as it was written, and nothing else is taken for one.
func TestDecided(t *testing.T) {
	p := newPlace(t)
	w := Waiting{Group: "web/vda", Parent: v1, Version: catalog.Version{Version: v2, Name: catalog.DiskName("web/vda", v2), Size: 5}, Delta: catalog.Stored{Form: catalog.Rdiff, Size: 3, Parent: v2}}
	first := Waiting{Group: "web/vdb", Version: catalog.Version{Version: v2, Size: 5}, Lost: true}
	if got, err := Decided(p.dir, "web"); got != nil || err != nil || IsDecided(p.dir) {
		t.Errorf("nothing was decided: %+v, %v", got, err)
	}
	p.must(Settled(p.dir), Decide(p.dir, []Waiting{w, first}))
	got, err := Decided(p.dir, "web")
	if err != nil || !slices.Equal(got, []Waiting{w, first}) || !IsDecided(p.dir) {
		t.Errorf("%+v, %v", got, err)
	}
	right, err := os.ReadFile(filepath.Join(p.path, pendingFile))
	p.must(err)
	for _, c := range []struct{ name, old, new string }{
		{"no object", string(right), "[]"},
		{"cut", string(right), string(right[:len(right)/2])},
		{"empty", string(right), ""},
		{"another format", `"format":1`, `"format":2`},
		{"no disks", string(right), `{"format":1,"disks":[]}`},
		{"another guest", `"web/vda"`, `"mail/vda"`},
		{"the guest itself", `"web/vda"`, `"web"`},
		{"a path", `"web/vda"`, `"web/../x"`},
		{"a path of three", `"web/vda"`, `"web/vda/x"`},
		{"no version", `"version":"` + v2, `"version":"../` + v2},
		{"no parent", `"parent":"` + v1, `"parent":"/etc`},
	} {
		text := strings.Replace(string(right), c.old, c.new, 1)
		p.must(os.WriteFile(filepath.Join(p.path, pendingFile), []byte(text), 0o666))
		if got, err := Decided(p.dir, "web"); !errors.Is(err, errPending) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
	p.must(Settled(p.dir))
	if IsDecided(p.dir) {
		t.Error("it is decided still")
	}
}

// Files that are lost are noticed when the version is about to be named.
func TestPresentLost(t *testing.T) {
	for _, name := range []string{v2 + ".img" + Part, v1 + ".rdiff" + Part} {
		p := newPlace(t)
		p.add(v1, random(3*mib, 1), nil, Options{})
		d, err := p.open(random(3*mib, 2), nil)
		p.must(err)
		m, err := d.Make(t.Context(), p.dir, Options{Version: v2})
		p.must(err)
		p.must(os.Remove(filepath.Join(p.path, name)))
		if err := Present(p.dir, m.Waiting); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	p := newPlace(t)
	p.add(v1, random(3*mib, 1), nil, Options{})
	d, err := p.open(random(3*mib, 2), nil)
	p.must(err)
	m, err := d.Make(t.Context(), p.dir, Options{Version: v2})
	p.must(err, os.Remove(filepath.Join(p.path, v2+piecesSuffix+Part)))
	if err := Present(p.dir, m.Waiting); err != nil {
		t.Errorf("without the list of sums: %v", err)
	}
}

// The list of sums is bounded by the size of the disk.
func TestOpenNewest(t *testing.T) {
	p := newPlace(t)
	p.add(v3, random(2*mib+1, 1), nil, Options{})
	f, l, err := OpenNewest(t.Context(), p.dir, p.newest)
	p.must(err)
	defer f.Close()
	if int64(len(l)) != pieces.Count(2*mib+1) || l.Digest() != p.newest.BLAKE3 {
		t.Errorf("%d sums", len(l))
	}
}

// Whatever is read is written again as the same.
func FuzzPending(f *testing.F) {
	for _, p := range []pending{
		{pendingFormat, []Waiting{{Group: "web/vda", Version: catalog.Version{Version: v1}}}},
		{pendingFormat, []Waiting{{Group: "web/vda", Parent: v1, Version: catalog.Version{Version: v2}, Lost: true}, {Group: "web/vdb", Version: catalog.Version{Version: v2}}}},
		{pendingFormat + 1, nil},
	} {
		data, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		disks, err := parsePending(data, "web")
		if err != nil {
			if !errors.Is(err, errPending) {
				t.Fatal(err)
			}
			return
		}
		again, err := json.Marshal(pending{pendingFormat, disks})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parsePending(again, "web"); err != nil || !reflect.DeepEqual(got, disks) {
			t.Errorf("%+v, %v; want %+v", got, err, disks)
		}
	})
}
