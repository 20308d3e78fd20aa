package lzo_test

import (
	"bytes"
	"testing"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/squashtest"
)

// sameAsParse compares what Unpack and Parse make of a block.
func sameAsParse(t *testing.T, block []byte, most int) {
	t.Helper()
	_, want, failed := lzo.Parse(block, most)
	room := bytes.Repeat([]byte{0x55}, most+10)
	n, err := lzo.Unpack(room[:most:most], block)
	if (err == nil) != (failed == nil) {
		t.Fatalf("%x in %d bytes: %v, Parse: %v", block, most, err, failed)
	}
	if err == nil && !bytes.Equal(room[:n], want) {
		t.Errorf("%x in %d bytes: %x, want %x", block, most, room[:n], want)
	}
	if !bytes.Equal(room[most:], bytes.Repeat([]byte{0x55}, 10)) {
		t.Errorf("%x in %d bytes: it writes behind", block, most)
	}
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	for _, c := range blocks {
		for _, most := range []int{0, len(c.content) - 1, len(c.content), len(c.content) + 1, len(c.content) + 100, 1000} {
			if most >= 0 {
				sameAsParse(t, []byte(c.block), most)
			}
		}
		for n := range len(c.block) {
			sameAsParse(t, []byte(c.block)[:n], 1000)
			for _, change := range []byte{1, 3, 0x10, 0x80, 0xff} {
				b := []byte(c.block)
				b[n] ^= change
				sameAsParse(t, b, 1000)
			}
		}
	}
}

func TestUnpackReal(t *testing.T) {
	t.Parallel()
	for _, block := range squashtest.Sample(t) {
		sameAsParse(t, block, most)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, c := range blocks {
		f.Add([]byte(c.block), uint16(len(c.content)))
	}
	f.Fuzz(func(t *testing.T, block []byte, room uint16) { sameAsParse(t, block, int(room)) })
}

func BenchmarkUnpack(b *testing.B) {
	all := squashtest.Sample(b)
	dst := make([]byte, most)
	size := 0
	for b.Loop() {
		size = 0
		for _, block := range all {
			n, err := lzo.Unpack(dst, block)
			if err != nil {
				b.Fatal(err)
			}
			size += n
		}
	}
	b.SetBytes(int64(size))
}
