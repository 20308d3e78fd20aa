package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"puavo-image-repository/testdata"
)

// resumable returns a pair whose delta has a long literal, long copies and many
// short ones.
func resumable(t *testing.T) (base, target, delta []byte) {
	t.Helper()
	base = random(1, 6<<20)
	target = slices.Concat(random(2, 10<<20), base[256<<10:5<<20], base[:2304<<10])
	for i := 10496 << 10; i < 12800<<10; i += 5000 {
		target[i]++
	}
	delta, _ = diff(t, base, target)
	return base, target, delta
}

// From each position that a patch tells, another goes on to the same target.
func TestResume(t *testing.T) {
	base, target, delta := resumable(t)
	var marks []Position
	var out bytes.Buffer
	out.Grow(len(target))
	mark := func(p Position) func() error {
		return func() error {
			if !bytes.HasPrefix(out.Bytes(), target[:p.Target]) {
				t.Errorf("%+v: %d bytes are written", p, out.Len())
			}
			marks = append(marks, p)
			return nil
		}
	}
	err := Resume(t.Context(), &out, bytes.NewReader(base), bytes.NewReader(delta), int64(len(target)), Position{}, mark)
	if err != nil || !bytes.Equal(out.Bytes(), target) {
		t.Fatalf("%d bytes, %v", out.Len(), err)
	}
	if len(marks) < 3 || marks[0].Literal == 0 || marks[len(marks)-1].Literal != 0 {
		t.Errorf("positions %+v", marks)
	}
	for i, p := range marks {
		if i%testdata.Scale(1, 8) > 0 {
			continue
		}
		out.Reset()
		err := Resume(t.Context(), &out, bytes.NewReader(base), bytes.NewReader(delta[p.Delta:]), int64(len(target)), p, nil)
		if err != nil || !bytes.Equal(out.Bytes(), target[p.Target:]) {
			t.Errorf("from %+v: %d bytes, %v", p, out.Len(), err)
		}
	}
}

// A position is told each 1 MiB of the target, and each of the delta, where its
// commands take more than what they make.
func TestResumeMarks(t *testing.T) {
	const mi = 1 << 20
	for _, c := range []struct {
		name     string
		commands []command
		want     int
	}{
		{"short", []command{{offset: 0, length: mi - 1}}, 0},
		{"long copies", slices.Repeat([]command{{offset: 0, length: mi}}, 3), 3},
		{"copies of half as much", slices.Repeat([]command{{offset: 0, length: mi / 2}}, 6), 3},
		{"copies of a byte", slices.Repeat([]command{{offset: 0, length: 1}}, 2*mi/3+1), 2},
	} {
		size, marks := int64(0), 0
		for _, cmd := range c.commands {
			size += cmd.length
		}
		mark := func(Position) func() error { marks++; return nil }
		err := Resume(t.Context(), io.Discard, bytes.NewReader(make([]byte, mi)), bytes.NewReader(encoded(c.commands...)), size, Position{}, mark)
		if err != nil || marks != c.want {
			t.Errorf("%s: %d positions, want %d, %v", c.name, marks, c.want, err)
		}
	}
}

// What was made before a delta is cut off is written, and so is a position near the
// end of it.
func TestResumeCutOff(t *testing.T) {
	base, target, delta := resumable(t)
	var out bytes.Buffer
	out.Grow(len(target))
	for _, end := range []int{3 << 20, 8<<20 + 7, len(delta) - 100, len(delta) - 1} {
		out.Reset()
		var last Position
		mark := func(p Position) func() error { return func() error { last = p; return nil } }
		err := Resume(t.Context(), &out, bytes.NewReader(base), bytes.NewReader(delta[:end]), int64(len(target)), Position{}, mark)
		if !errors.Is(err, ErrFormat) || !bytes.HasPrefix(target, out.Bytes()) {
			t.Errorf("%d bytes: %d made, %v", end, out.Len(), err)
		}
		if far := last.Delta > int64(end)-2<<20 || last.Target > int64(out.Len())-2<<20; !far || last.Target > int64(out.Len()) {
			t.Errorf("%d bytes, %d made: the last position is %+v", end, out.Len(), last)
		}
	}
}

func TestResumeFails(t *testing.T) {
	base, target, delta := resumable(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	stop := errors.New("the journal is full")
	size := int64(len(target))
	for _, c := range []struct {
		name string
		ctx  context.Context
		size int64
		from Position
		mark func(Position) func() error
		want error
	}{
		{"a mark's error", t.Context(), size, Position{}, func(Position) func() error { return func() error { return stop } }, stop},
		{"cancelled", cancelled, size, Position{}, nil, context.Canceled},
		{"a negative position", t.Context(), size, Position{Delta: -1}, nil, ErrFormat},
		{"a negative literal", t.Context(), size, Position{Delta: 10, Literal: -1}, nil, ErrFormat},
		{"beyond the target", t.Context(), size, Position{Target: size + 1}, nil, ErrFormat},
		{"a literal beyond the target", t.Context(), size, Position{Delta: 10, Target: size - 1, Literal: 2}, nil, ErrFormat},
		{"a literal beyond the delta", t.Context(), -1, Position{Delta: 10, Literal: 1 << 40}, nil, io.ErrUnexpectedEOF},
		{"within the magic number", t.Context(), size, Position{Delta: 3}, nil, ErrFormat},
		{"a target before the delta begins", t.Context(), -1, Position{Target: 5}, nil, ErrFormat},
		{"a literal before the delta begins", t.Context(), -1, Position{Literal: 5}, nil, ErrFormat},
		{"a target of 2^63-1, and a literal", t.Context(), -1, Position{Delta: 10, Target: 1<<63 - 1, Literal: 1}, nil, ErrFormat},
		{"not at the beginning of a delta", t.Context(), size, Position{Target: 1}, nil, ErrFormat},
	} {
		in := bytes.NewReader(delta)
		if c.from.Delta > 0 || c.from.Target == 1 {
			in.Seek(9, io.SeekStart)
		}
		err := Resume(c.ctx, io.Discard, bytes.NewReader(base), in, c.size, c.from, c.mark)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
