package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// check calls Check, and fails the test where the progress is not that of the whole
// target after success, or more than that.
func check(ctx context.Context, t testing.TB, base, target []byte, d io.Reader) error {
	t.Helper()
	sum := 0
	err := Check(ctx, base, target, d, func(n int) { sum += n })
	if sum > len(target) || err == nil && sum != len(target) {
		t.Errorf("progress of %d bytes for a target of %d, %v", sum, len(target), err)
	}
	return err
}

// What Diff makes is right, and with any byte of the target changed it is not, which
// the error says.
func TestCheck(t *testing.T) {
	for name, p := range pairs() {
		d, _ := diff(t, p.base, p.target)
		if err := check(t.Context(), t, p.base, p.target, bytes.NewReader(d)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := Check(t.Context(), p.base, p.target, iotest.OneByteReader(bytes.NewReader(d)), nil); err != nil {
			t.Errorf("%s, read by bytes: %v", name, err)
		}
		for at := 0; at < len(p.target); at += 1 + len(p.target)/7 {
			other := slices.Clone(p.target)
			other[at]++
			err := check(t.Context(), t, p.base, other, bytes.NewReader(d))
			if err == nil || errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), fmt.Sprintf("at offset %d of", at)) {
				t.Errorf("%s, with byte %d changed: %v", name, at, err)
			}
		}
	}
}

// Long commands are compared in parts, each at its place.
func TestCheckParts(t *testing.T) {
	base := random(1, 5*comparePart+7)
	literal := random(2, 3*comparePart+5)
	d := encoded(command{offset: 3, length: 2*comparePart + 1})
	d = append(command{literal: true, length: int64(len(literal))}.appendHeader(d[:len(d)-1]), literal...)
	d = append(command{offset: 1, length: 5*comparePart + 6}.appendHeader(d), opEnd)
	target := slices.Concat(base[3:][:2*comparePart+1], literal, base[1:])
	if err := check(t.Context(), t, base, target, bytes.NewReader(d)); err != nil {
		t.Error(err)
	}
	for at := range target {
		if at%comparePart > 7 && at%10_007 != 0 {
			continue
		}
		target[at] ^= 0x80
		if err := check(t.Context(), t, base, target, bytes.NewReader(d)); err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf(" at offset %d of the target", at)) {
			t.Errorf("byte %d changed: %v", at, err)
		}
		target[at] ^= 0x80
	}
}

// Deltas that do harm are refused by Check as by Verify.
func TestCheckHostile(t *testing.T) {
	base := random(1, 1000)
	for _, c := range hostile {
		if c.size > 1<<20 {
			continue
		}
		d := []byte("rs\x02\x36" + c.delta)
		// What the delta makes before it is wrong is right, so that the end is reached.
		var target bytes.Buffer
		Verify(t.Context(), &target, bytes.NewReader(base), bytes.NewReader(d), c.size)
		target.Write(make([]byte, c.size-int64(target.Len())))
		if err := check(t.Context(), t, base, target.Bytes(), bytes.NewReader(d)); !says(err, c.verify) {
			t.Errorf("%s: %v, want one that says %q", c.name, err, c.verify)
		}
	}
}

func TestCheckFails(t *testing.T) {
	base := random(1, 1<<20)
	right := encoded(command{offset: 0, length: 1 << 20})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	later, cancelLater := context.WithCancel(t.Context())
	defer cancelLater()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		target []byte
		delta  io.Reader
		want   error
	}{
		{"right", t.Context(), base, bytes.NewReader(right), nil},
		{"cancelled", cancelled, base, bytes.NewReader(right), context.Canceled},
		{"cancelled later", later, base, io.MultiReader(bytes.NewReader(right[:4]), &cancelsReader{cancelLater, bytes.NewReader(right[4:])}), context.Canceled},
		{"a delta that cannot be read", t.Context(), base, io.MultiReader(bytes.NewReader(right[:5]), badReader{}), errDisk},
		{"a literal that cannot be read", t.Context(), base, io.MultiReader(strings.NewReader("rs\x026\x05a"), badReader{}), errDisk},
		{"an end that cannot be read", t.Context(), base, io.MultiReader(bytes.NewReader(right), badReader{}), errDisk},
		{"a target that is longer", t.Context(), slices.Concat(base, []byte("x")), bytes.NewReader(right), ErrFormat},
		{"a target that is shorter", t.Context(), base[1:], bytes.NewReader(right), ErrFormat},
		{"more after the end", t.Context(), base, io.MultiReader(bytes.NewReader(right), strings.NewReader("x")), ErrTrailing},
	} {
		if err := check(c.ctx, t, base, c.target, c.delta); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// What is mapped and becomes shorter while it is compared is an error.
func TestCheckMappedShrinks(t *testing.T) {
	data := random(1, 1<<20)
	d := encoded(command{offset: 0, length: 1 << 20})
	for _, c := range []string{"base", "target"} {
		bytesOf := map[string][]byte{"base": data, "target": data}
		f, m := mapped(t, data)
		bytesOf[c] = m
		if err := f.Truncate(1 << 13); err != nil {
			t.Fatal(err)
		}
		if err := check(t.Context(), t, bytesOf["base"], bytesOf["target"], bytes.NewReader(d)); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", c, err)
		}
	}
}

// FuzzCheck gives any bytes as a delta: Check passes what Verify makes the target of,
// and nothing else.
func FuzzCheck(f *testing.F) {
	addDeltas(f, func(d []byte, size int64) { f.Add(d, size, uint16(7)) })
	data := random(1, 2<<20)
	f.Fuzz(func(t *testing.T, d []byte, size int64, at uint16) {
		size = min(max(size, 0), 4<<20)
		if stats, err := Inspect(t.Context(), bytes.NewReader(d)); err == nil && stats.Target() < 4<<20 {
			size = stats.Target()
		}
		var made bytes.Buffer
		want := Verify(t.Context(), &made, bytes.NewReader(data), bytes.NewReader(d), size)
		target := append(made.Bytes(), make([]byte, int(size)-made.Len())...)
		got := check(t.Context(), t, data, target, bytes.NewReader(d))
		if (got == nil) != (want == nil) || errors.Is(got, ErrFormat) != errors.Is(want, ErrFormat) {
			t.Fatalf("Check: %v, Verify: %v", got, want)
		}
		if want != nil || size == 0 {
			return
		}
		target[int64(at)%size]++
		if err := check(t.Context(), t, data, target, bytes.NewReader(d)); err == nil || errors.Is(err, ErrFormat) {
			t.Fatalf("with another byte at %d of %d: %v", int64(at)%size, size, err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	base := random(1, 64<<20)
	target := scattered(base)
	d, _ := diff(b, base, target)
	_, m := mapped(b, base)
	_, want := mapped(b, target)
	b.SetBytes(int64(len(target)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(b.Context(), m, want, bytes.NewReader(d), nil); err != nil {
			b.Fatal(err)
		}
	}
}
