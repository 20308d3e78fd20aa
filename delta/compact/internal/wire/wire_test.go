package wire

import (
	"bytes"
	"reflect"
	"testing"
	"testing/iotest"

	"puavo-image-repository/testdata"
)

func example() *Head {
	h := &Head{
		Depth: 32, Allowance: 8, Memory: 1 << 27, Unpacked: 5000, Coded: 4000, Block: 3000,
		Extents:  []Extent{{10, 20, 3000}, {30, 5, 100}, {1000, 20, 100}},
		Sections: []Section{{12345, 2}, {1, 1}},
		Groups:   []Group{{Length: 100, Sum: [16]byte{1}}, {Length: 20000, Sum: [16]byte{2}}, {Length: 1, Sum: [16]byte{3}}},
	}
	h.Base.Size, h.Base.BLAKE3[0] = 2000, 4
	h.Target.Size, h.Target.BLAKE3[0] = 20101, 5
	return h
}

func appended(t testing.TB, h *Head) []byte {
	t.Helper()
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A head comes back, and nothing behind it is read.
func TestHead(t *testing.T) {
	t.Parallel()
	empty := &Head{Depth: 1, Allowance: 1, Extents: []Extent{}, Sections: []Section{}, Groups: []Group{}}
	for _, h := range []*Head{example(), empty} {
		r := bytes.NewReader(append(appended(t, h), "more"...))
		got, err := Read(iotest.OneByteReader(r))
		if err != nil || !reflect.DeepEqual(got, h) || r.Len() != 4 {
			t.Errorf("%+v, %v, want %+v; %d bytes are left", got, err, h, r.Len())
		}
	}
}

// Any change of a head is an error.
func TestHeadChanged(t *testing.T) {
	t.Parallel()
	b := appended(t, example())
	for i := range b {
		if _, err := Read(bytes.NewReader(b[:i])); err == nil {
			t.Errorf("%d bytes of %d are enough", i, len(b))
		}
		for _, change := range []byte{1, 0x80, 0xff} {
			c := bytes.Clone(b)
			c[i] ^= change
			if _, err := Read(bytes.NewReader(c)); err == nil {
				t.Errorf("byte %d is %#x, and no error", i, c[i])
			}
		}
	}
}

// A head that says that it has much takes no memory for it before its digest is right.
func TestHeadMemory(t *testing.T) {
	h := example()
	b := appended(t, h)
	le.PutUint32(b[offExtents:], MaxExtents)
	le.PutUint32(b[offGroups:], MaxGroups)
	le.PutUint32(b[offTables:], mostTables)
	if n := testdata.Allocated(func() { Read(bytes.NewReader(b)) }); n > 1<<16 {
		t.Errorf("%d bytes of memory", n)
	}
}

// The codes of places are those of the specification.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for distance, code := range map[int64]int64{0: 1, 1: 2, -1: 3, 2: 4, -2: 5, 1 << 40: 1 << 41} {
		if got := PlaceCode(distance); got != code || PlaceDistance(code) != distance {
			t.Errorf("distance %d: code %d, want %d, whose distance is %d", distance, got, code, PlaceDistance(code))
		}
	}
	if PlaceDistance(OnDifferences) != 0 {
		t.Error("differences do not go on")
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	c := Cursor{Bytes: []byte{5, 0x80, 1, 3, 4, 9}}
	if a, b, d, e := c.Int(5), c.Int(128), c.Signed(2), c.Signed(2); a != 5 || b != 128 || d != -2 || e != 2 {
		t.Errorf("%d %d %d %d, %v", a, b, d, e, c.Err())
	}
	if c.Err() != nil || c.End() == nil {
		t.Error("a byte is left, and that is no error")
	}
	for name, c := range map[string]struct {
		bytes  []byte
		signed bool
		most   int64
	}{
		"nothing":     {nil, false, 9},
		"cut":         {[]byte{0x80}, false, 9},
		"large":       {[]byte{10}, false, 9},
		"negative":    {[]byte{19}, true, 9},
		"positive":    {[]byte{20}, true, 9},
		"overflowing": {bytes.Repeat([]byte{0xff}, 11), false, 9},
		"over 2^63":   {append(bytes.Repeat([]byte{0xff}, 9), 1), false, 1<<63 - 1},
		"least":       {append(bytes.Repeat([]byte{0xff}, 9), 1), true, 1<<63 - 1},
	} {
		r := Cursor{Bytes: c.bytes}
		read := r.Int
		if c.signed {
			read = r.Signed
		}
		if n := read(c.most); n != 0 || r.Err() == nil || read(c.most) != 0 {
			t.Errorf("%s: %d, %v", name, n, r.Err())
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(appended(f, example()))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The digest is made right, so that what is behind it is read.
		if len(b) > fixedLen {
			b = bytes.Clone(b)
			n := min(int(le.Uint32(b[offTables:])), len(b)-fixedLen)
			le.PutUint32(b[offTables:], uint32(n))
			d := digest(b, b[fixedLen:fixedLen+n])
			copy(b[offDigest:], d[:])
		}
		h, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := Read(bytes.NewReader(appended(t, h)))
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Errorf("%+v, %v, want %+v", again, err, h)
		}
	})
}
