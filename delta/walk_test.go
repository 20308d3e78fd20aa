package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
)

// onlyReader hides that a reader can seek.
type onlyReader struct{ io.Reader }

// Walk gives the commands that make the target, whether or not it can leap over literals.
func TestWalk(t *testing.T) {
	base := random(1, 1<<20)
	target := slices.Concat(random(2, 3<<20), base[1000:90000], []byte("short"), base[200000:900000], random(3, patchBuffer+300<<10))
	x, err := NewIndex(t.Context(), base, Options{Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var d bytes.Buffer
	if _, err := x.Diff(t.Context(), &d, target, nil); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	errStop := errors.New("stop")
	whole := d.Bytes()
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    io.Reader
		stop error
		err  error
	}{
		{"a seeker", t.Context(), bytes.NewReader(whole), nil, nil},
		{"a stream", t.Context(), onlyReader{bytes.NewReader(whole)}, nil, nil},
		{"a seeker, cut in the last literal", t.Context(), bytes.NewReader(whole[:len(whole)-2]), nil, ErrFormat},
		{"a seeker, cut far before its end", t.Context(), bytes.NewReader(whole[:len(whole)-patchBuffer]), nil, ErrFormat},
		{"a stream, cut", t.Context(), onlyReader{bytes.NewReader(whole[:len(whole)-2])}, nil, ErrFormat},
		{"emit fails", t.Context(), bytes.NewReader(whole), errStop, errStop},
		{"cancelled", cancelled, bytes.NewReader(whole), nil, context.Canceled},
	} {
		var got []byte
		err := Walk(c.ctx, c.r, func(cmd Command) error {
			from := base
			if cmd.Literal {
				from = whole
			}
			got = append(got, from[cmd.From:min(cmd.From+cmd.Length, int64(len(from)))]...)
			return c.stop
		})
		if !errors.Is(err, c.err) || err == nil && !bytes.Equal(got, target) {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
}
