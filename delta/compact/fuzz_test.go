package compact_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/internal/wire"
)

// FuzzPairs makes and applies the delta of any two images, as they are or in blocks.
func FuzzPairs(f *testing.F) {
	for _, p := range pairs() {
		if len(p.base.Bytes)+len(p.target.Bytes) < 1<<16 {
			f.Add(p.base.Bytes, p.target.Bytes, uint8(0))
		}
	}
	f.Add(words(1, 10_000), edited(words(1, 10_000)), uint8(3))
	f.Add(table(9, 200), table(1234, 200), uint8(1))
	f.Fuzz(func(t *testing.T, a, b []byte, how uint8) {
		if len(a)+len(b) > 1<<17 {
			return
		}
		base, target := raw(a), raw(b)
		if how&1 != 0 {
			base = packed(a, 200+int(how))
		}
		if how&2 != 0 {
			target = packed(b, 300)
		}
		file := encode(t, base, target, 1)
		got, err := decode(t, file, base.Bytes, compact.DecodeOptions{Cores: 1})
		if err != nil || !bytes.Equal(got, target.Bytes) {
			t.Errorf("%d bytes, %v, want %d", len(got), err, len(target.Bytes))
		}
	})
}

// FuzzStreams changes a stream of a delta whose digests of groups are those of the target.
func FuzzStreams(f *testing.F) {
	base, target, file := small(f)
	section := forge(f, file).sections[0]
	for n := tableOf; n < wire.StreamCount; n++ {
		f.Add(n, *section.stream(n))
	}
	f.Fuzz(func(t *testing.T, n int, stream []byte) {
		g := forge(t, file)
		if n < tableOf || n >= wire.StreamCount {
			return
		}
		*g.sections[0].stream(n) = stream
		if n != tableOf {
			g.refit(n, len(stream))
		}
		right(t, "a stream", base, target, g.bytes(t))
	})
}

// refit makes the last group have what is left of a stream, so that the table fits it.
func (f *forgery) refit(stream, length int) {
	s := &f.sections[0]
	c := wire.Cursor{Bytes: s.table}
	var lengths []uint64
	for len(c.Bytes) > 0 {
		lengths = append(lengths, uint64(c.Int(1<<40)))
	}
	for i := stream; i < len(lengths); i += wire.StreamCount {
		lengths[i] = min(lengths[i], uint64(length))
		if i+wire.StreamCount >= len(lengths) {
			lengths[i] = uint64(length)
		}
		length -= int(lengths[i])
	}
	s.table = numbers(slices.Clip(lengths)...)
}

// FuzzOpen reads any file as the delta of the vector whose target it names, or of the first,
// with the digest of its head made right.
func FuzzOpen(f *testing.F) {
	var all []map[string][]byte
	for _, v := range vectors {
		files, err := v.read()
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, files)
		f.Add(files[".cdelta"])
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		files := all[0]
		for _, v := range all {
			if bytes.HasPrefix(file[min(targetSum, len(file)):], v[".cdelta"][targetSum:][:32]) {
				files = v
			}
		}
		right(t, "a file", files[".base"], files[".target"], redigest(file))
	})
}

// targetSum is where the digest of the target stands.
const targetSum = 64

// redigest returns a file with the digest that its head and tables have.
func redigest(file []byte) []byte {
	const tables, digest, fixed = 136, 140, 172
	if len(file) < fixed {
		return file
	}
	length := min(int64(binary.LittleEndian.Uint32(file[tables:])), int64(len(file)-fixed))
	h := cksum.NewBLAKE3()
	h.Write(file[:digest])
	h.Write(file[fixed : fixed+length])
	return slices.Concat(file[:digest], h.Sum(nil), file[fixed:])
}
