package meter

import (
	"bytes"
	"context"
	"io"
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
