package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// hostile are deltas that somebody made to do harm, for a base of 1000 bytes and a
// target of size, with what the errors of each reader say of them. An empty text
// stands for no error.
var hostile = []struct {
	name                   string
	delta                  string // after the magic number
	size                   int64
	patch, verify, inspect string
}{
	{"zero lengths by the million", strings.Repeat("\x45\x00\x00", 1e6), 5, "command 1 has length 0", "a command has length 0", "command 1 has length 0"},
	{"empty literals by the million", strings.Repeat("\x41\x00", 1e6), 5, "command 1 has length 0", "a command has length 0", "command 1 has length 0"},
	{"a literal of 2^63", "\x44\x80\x00\x00\x00\x00\x00\x00\x00xx\x00", 5, "command 1 has a number of 2^63 or more", "a length of 2^63 or more", "command 1 has a number of 2^63 or more"},
	{"a literal of 2^64-1", "\x44\xff\xff\xff\xff\xff\xff\xff\xffxx\x00", 5, "command 1 has a number of 2^63 or more", "a length of 2^63 or more", "command 1 has a number of 2^63 or more"},
	{"a copy of 2^63", "\x48\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00", 5, "command 1 has a number of 2^63 or more", "a length of 2^63 or more", "command 1 has a number of 2^63 or more"},
	{"a copy from 2^63", "\x51\x80\x00\x00\x00\x00\x00\x00\x00\x05\x00", 5, "command 1 has a number of 2^63 or more", "an offset of 2^63 or more", "command 1 has a number of 2^63 or more"},
	{"a copy that ends at 2^64-2", "\x54\x7f\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00", math.MaxInt64, "the base has 1000", "the base has 1000", "needs a base, of 2^63 bytes or more"},
	{"a copy that ends at 2^63", "\x51\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x00", 1, "a copy of 1 bytes from offset 9223372036854775807, the base has 1000", "the base has 1000", "needs a base, of 2^63 bytes or more"},
	{"a copy of 2^63-1", "\x48\x00\x7f\xff\xff\xff\xff\xff\xff\xff\x00", math.MaxInt64, "a copy of 9223372036854775807 bytes from offset 0, the base has 1000", "beyond the base's 1000 bytes", ""},
	{"a copy beyond the target", "\x45\x00\x06\x00", 5, "more bytes than the target may have", "more bytes than the target may have", ""},
	{"a copy across the base's end", "\x4a\x03\xe4\x00\x06\x00", 6, "a copy of 6 bytes from offset 996, the base has 1000", "beyond the base's 1000 bytes", ""},
	{"a copy from the base's end", "\x49\x03\xe8\x01\x00", 1, "from offset 1000, the base has 1000", "beyond the base's 1000 bytes", ""},
	{"a copy from behind the base", "\x49\x03\xe9\x01\x00", 1, "from offset 1001, the base has 1000", "from offset 1001, the base has 1000", ""},
	{"a sum over 2^63", strings.Repeat("\x48\x00\x7f\xff\xff\xff\xff\xff\xff\xff", 3) + "\x00", 5, "more bytes than the target may have", "more bytes than the target may have", "command 2 makes it a target"},
	{"a literal longer than the delta", "\x44\x00\x00\x00\x7f\xff\xff\xff\xffxx", 1 << 40, "the delta ends within a literal", "the delta ends within a literal", "the delta ends within a literal"},
	{"a literal longer than the target", "\x06sixsix\x00", 5, "more bytes than the target may have", "more bytes than the target may have", ""},
	{"no end command", "\x05hello", 5, "the delta ends after 1 commands without an end command", "the delta ends early", "the delta ends after 1 commands without an end command"},
	{"commands after the target is full", "\x05hello\x45\x00\x01\x00", 5, "more bytes than the target may have", "more bytes than the target may have", ""},
	{"a million commands after the target is full", "\x05hello" + strings.Repeat("\x45\x00\x01", 1e6) + "\x00", 5, "more bytes than the target may have", "more bytes than the target may have", ""},
	{"bytes after the end command", "\x05hello\x00\x00", 5, "data after the end command", "data after the end command", "data after the end command"},
	{"a delta after the end command", "\x05hello\x00rs\x02\x36\x05hello\x00", 5, "data after the end command", "data after the end command", "data after the end command"},
	{"a reserved opcode", "\x55\x05hello\x00", 5, "command 1 has the reserved opcode 0x55", "Bogus command", "command 1 has the reserved opcode 0x55"},
	{"too few bytes", "\x04hell\x00", 5, "1 bytes too few", "1 bytes too few", ""},
	{"nothing", "\x00", 5, "5 bytes too few", "5 bytes too few", ""},
}

// hostileBase is a base of so many bytes, which fails the test if it is read outside
// of them, and counts what is read.
type hostileBase struct {
	t    testing.TB
	data []byte
	read int64
}

func (b *hostileBase) Size() int64 { return int64(len(b.data)) }

func (b *hostileBase) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || len(p) > len(b.data) || off > int64(len(b.data)-len(p)) {
		b.t.Errorf("%d bytes at %d are read, of %d", len(p), off, len(b.data))
		return 0, io.EOF
	}
	b.read += int64(len(p))
	return copy(p, b.data[off:]), nil
}

// says reports whether an error is one of the format that says a text, or none if
// that is empty.
func says(err error, text string) bool {
	if text == "" {
		return err == nil
	}
	return errors.Is(err, ErrFormat) && strings.Contains(err.Error(), text)
}

// Whatever a delta says, no more is read than the base has, no more is written than
// the target may have, memory does not grow with what it says, and the error tells
// what is wrong with it.
func TestHostile(t *testing.T) {
	const most = 8 << 20 // bytes of memory
	for _, c := range hostile {
		d := "rs\x02\x36" + c.delta
		for decoder, patch := range decoders {
			var out bytes.Buffer
			base := &hostileBase{t: t, data: random(1, 1000)}
			var err error
			took := testdata.Allocated(func() { err = patch(t.Context(), &out, base, strings.NewReader(d), c.size) })
			want := map[string]string{"Patch": c.patch, "Verify": c.verify}[decoder]
			if !says(err, want) || int64(out.Len()) > c.size || took > most {
				t.Errorf("%s of %s: %v, want one that says %q; %d bytes written of %d, %d bytes of memory", decoder, c.name, err, want, out.Len(), c.size, took)
			}
		}
		if _, err := Inspect(t.Context(), strings.NewReader(d)); !says(err, c.inspect) {
			t.Errorf("Inspect of %s: %v, want one that says %q", c.name, err, c.inspect)
		}
	}
}

// endless repeats its bytes after the first for ever, and counts what is read.
type endless struct {
	first, again string
	read         int64
	after        int64 // so many bytes, then is called:
	then         func()
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		at, from := e.read, e.first
		if at >= int64(len(e.first)) {
			at, from = (at-int64(len(e.first)))%int64(len(e.again)), e.again
		}
		m := copy(p[n:], from[at:])
		n, e.read = n+m, e.read+int64(m)
	}
	if e.then != nil && e.read > e.after {
		e.then()
	}
	return n, nil
}

// A delta without an end is read until the target is full, or the context ends.
func TestEndlessDelta(t *testing.T) {
	const magic = "rs\x02\x36"
	copies := strings.Repeat("\x45\x00\x01", 1000)
	some := int64(testdata.Scale(10<<20, 1<<20)) // bytes of it
	for _, c := range []struct{ name, first, again string }{
		{"copies", magic, copies},
		{"literals", magic, strings.Repeat("\x01x", 1000)},
		{"a literal", magic + "\x44\x7f\xff\xff\xff\xff\xff\xff\xff", strings.Repeat("x", 1000)},
	} {
		for decoder, patch := range decoders {
			base := bytes.NewReader(random(1, 1000))
			d := &endless{first: c.first, again: c.again}
			if err := patch(t.Context(), io.Discard, base, d, 100_000); !says(err, "more bytes than the target may have") || d.read > 1<<20 {
				t.Errorf("%s of %s: %v after %d bytes", decoder, c.name, err, d.read)
			}
		}
		readers := map[string]func(context.Context, io.Reader) error{
			"Inspect": func(ctx context.Context, d io.Reader) error { _, err := Inspect(ctx, d); return err },
			"Patch to any size": func(ctx context.Context, d io.Reader) error {
				return Patch(ctx, io.Discard, bytes.NewReader(random(1, 1000)), d, -1)
			},
		}
		for reader, read := range readers {
			ctx, cancel := context.WithCancel(t.Context())
			d := &endless{first: c.first, again: c.again, after: some, then: cancel}
			if err := read(ctx, d); !errors.Is(err, context.Canceled) || d.read > some+2<<20 {
				t.Errorf("%s of %s: %v after %d bytes", reader, c.name, err, d.read)
			}
			cancel()
		}
	}
	if err := Patch(t.Context(), &full{room: int(some)}, bytes.NewReader(nil), &endless{first: magic, again: "\x01x"}, -1); !errors.Is(err, errDisk) {
		t.Errorf("without an end and a size: %v", err)
	}
}

// What is read of the base is in proportion to the delta's commands, wherever they
// copy from.
func TestPatchReads(t *testing.T) {
	const size, copies, each = 8 << 20, 20_000, 9 << 10
	base := &hostileBase{t: t, data: random(1, size)}
	for name, commands := range commandsOf(size, copies) {
		d, made := withLiterals(commands...)
		base.read = 0
		var out bytes.Buffer
		if err := Patch(t.Context(), &out, base, bytes.NewReader(d), made); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if most := int64(len(commands))*each + made; base.read > most {
			t.Errorf("%s: %d bytes are read of the base for %d commands and %d bytes of the target, want at most %d", name, base.read, len(commands), made, most)
		}
		var want bytes.Buffer
		if err := Verify(t.Context(), &want, base, bytes.NewReader(d), made); err != nil || !bytes.Equal(out.Bytes(), want.Bytes()) {
			t.Errorf("%s: %v, or another target", name, err)
		}
	}
}

// What a signature says of itself takes no memory.
func TestHostileSignature(t *testing.T) {
	for _, c := range []struct {
		name, signature, says string
	}{
		{"the longest blocks", "rs\x01\x47\x7f\xff\xff\xff\x00\x00\x00\x20" + strings.Repeat("x", 36), ""},
		{"blocks over the longest", "rs\x01\x47\x80\x00\x00\x00\x00\x00\x00\x20" + strings.Repeat("x", 36), "block length 2147483648"},
		{"blocks of 2^32-1", "rs\x01\x47\xff\xff\xff\xff\x00\x00\x00\x20" + strings.Repeat("x", 36), "block length 4294967295"},
		{"strong sums of 2^32-1", "rs\x01\x47\x00\x00\x08\x00\xff\xff\xff\xff" + strings.Repeat("x", 36), "strong sums of 4294967295"},
		{"strong sums of 2^31", "rs\x01\x36\x00\x00\x08\x00\x80\x00\x00\x00" + strings.Repeat("x", 36), "strong sums of 2147483648"},
		{"MD4 of 17 bytes", "rs\x01\x46\x00\x00\x08\x00\x00\x00\x00\x11" + strings.Repeat("x", 36), "strong sums of 17"},
		{"a million blocks of a byte, all alike", "rs\x01\x47\x00\x00\x00\x01\x00\x00\x00\x01" + strings.Repeat("xxxxx", 1e6), ""},
		{"a million and a byte", "rs\x01\x47\x00\x00\x00\x01\x00\x00\x00\x01" + strings.Repeat("xxxxx", 1e6) + "x", "ends within a block's sums"},
	} {
		const most = 1 << 20 // bytes of memory
		var s Signature
		var err error
		took := testdata.Allocated(func() { s, err = ReadSignature(strings.NewReader(c.signature)) })
		if !says(err, c.says) || took > most {
			t.Errorf("%s: %+v, %v, want one that says %q; %d bytes of memory", c.name, s, err, c.says, took)
		}
		signature := []byte(c.signature)
		var b *Blocks
		took = testdata.Allocated(func() { b, err = LoadSignature(t.Context(), signature) })
		if !says(err, c.says) || took > most {
			t.Errorf("%s: LoadSignature: %v, want one that says %q; %d bytes of memory", c.name, err, c.says, took)
		}
		if err == nil {
			if d, stats := signDiff(t, signature, random(1, 5000)); stats.Target() != 5000 || len(d) > 5020 {
				t.Errorf("%s: %+v in %d bytes", c.name, stats, len(d))
			}
			b.Close()
		}
	}
}

// A delta of parts of blocks, for each of which a whole block is to be summed, is
// refused where they are many.
func TestHostileRecall(t *testing.T) {
	const n = SignBlockLen
	base := random(1, 100*n)
	signature := sign(t, Kept, base, 1<<20)
	parts := func(each int) (d, target []byte) {
		var commands []command
		for i := range 100 {
			commands = append(commands, command{offset: int64(i * n), length: n})
			target = append(target, base[i*n:][:n]...)
			for range each {
				commands = append(commands, command{offset: int64(i * n), length: 1})
				target = append(target, base[i*n])
			}
		}
		return encoded(commands...), target
	}
	for _, c := range []struct {
		each int // parts of a block
		says string
	}{
		{0, ""},
		{1, ""},
		{2, "too many parts of blocks"},
		{1000, "too many parts of blocks"},
	} {
		d, target := parts(c.each)
		got, err := recall(t.Context(), t, signature, len(base), d, target)
		if !says(err, c.says) || err == nil && !bytes.Equal(got, target) {
			t.Errorf("%d parts of each block: %v, want one that says %q", c.each, err, c.says)
		}
	}
	longest := sign(t, Signature{RollsumBLAKE2, maxRecall, 32, 0}, base, 1<<20)
	if got, err := recall(t.Context(), t, longest, len(base), encoded(command{offset: 0, length: 100 * n}), base); err != nil || !bytes.Equal(got, base) {
		t.Errorf("blocks of 1 MiB: %v, or another target", err)
	}
	large := sign(t, Signature{RollsumBLAKE2, maxRecall + 1, 32, 0}, base, 1<<20)
	if _, err := recall(t.Context(), t, large, len(base), encoded(), nil); err == nil || errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "1048577") {
		t.Errorf("blocks over 1 MiB: %v", err)
	}
}
