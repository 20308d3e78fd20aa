package meter

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestMeter(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		err  error
		done int64
	}{
		{"read", t.Context(), strings.NewReader("seven b"), nil, 7 + 7},
		{"fails", t.Context(), io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(io.ErrClosedPipe)), io.ErrClosedPipe, 2 + 2},
		{"cancelled", cancelled, strings.NewReader("seven b"), context.Canceled, 0},
		{"more than the total", t.Context(), strings.NewReader("more than was expected"), nil, 22 + 22},
	} {
		var last int64
		m := New(20, func(done, total int64) {
			if done < last || done > total || total != 20 {
				t.Errorf("%s: %d of %d after %d", c.name, done, total, last)
			}
			last = done
		})
		var out bytes.Buffer
		if _, err := io.Copy(m.Writer(&out), m.Reader(c.ctx, c.r)); err != c.err {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if m.Done() != c.done || last != min(c.done, 20) {
			t.Errorf("%s: %d done, %d told, want %d", c.name, m.Done(), last, c.done)
		}
	}
	New(1, nil).Add(1) // nobody looks
}

// What is worked on is told when it changes: of several steps, the one begun last.
func TestBegin(t *testing.T) {
	var got []Step
	m := New(0, nil)
	m.Tell(func(s Step) { got = append(got, s) })
	endA := m.Begin("read", "a")
	endB := m.At(Digest).Begin("read", "b")
	endA() // changes nothing
	endC := m.Begin("make", "c")
	endC()
	endB()
	m.Begin("read", "a")()
	want := []Step{{"read", "a"}, {"read", "b"}, {"make", "c"}, {"read", "b"}, {"read", "a"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	New(0, nil).Begin("read", "a")() // nobody looks
}

// Work of another cost counts together, and what is expected can change.
func TestAt(t *testing.T) {
	var done, total int64
	m := New(10, func(d, all int64) { done, total = d, all })
	dear := m.At(5)
	dear.Expect(2)
	m.Expect(-4)
	m.Add(1)
	if dear.Add(2); done != 11 || total != 16 || m.Done() != 11 {
		t.Errorf("%d of %d", done, total)
	}
	if dear.Add(2); done != 16 || total != 16 {
		t.Errorf("more than is expected: %d of %d", done, total)
	}
}
