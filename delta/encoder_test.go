package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"

	"puavo-image-repository/delta/internal/match"
)

// commandList returns the commands of a delta.
func commandList(t *testing.T, d []byte) (all []command) {
	t.Helper()
	cs, err := newCommands(bytes.NewReader(d), true)
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := cs.next()
		if err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		if err := cs.skip(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

// A match between two long literals is copied only where that saves a byte or more:
// the copy itself takes 3 bytes to 10, and the second literal 3 for its length.
func TestCopyThatSavesNothing(t *testing.T) {
	const before, after = 300, 400
	for _, c := range []struct {
		offset, length int
		copied         bool
	}{
		{0, 1, false}, {0, 3, false}, {0, 4, false}, {0, 6, false}, {0, 7, true}, {255, 7, true},
		{256, 7, false}, {256, 8, true}, {1<<16 - 1, 8, true},
		{1 << 16, 9, false}, {1 << 16, 10, true}, {1<<32 - 1, 10, true},
		{1 << 32, 13, false}, {1 << 32, 14, true},
	} {
		size := before + c.length + after
		want := []command{{literal: true, length: int64(size)}}
		most := magicLen + 3 + size + 1 // as one literal, with its length and the end
		if c.copied {
			want = []command{{literal: true, length: before}, {offset: int64(c.offset), length: int64(c.length)}, {literal: true, length: after}}
			most-- // the shortest copy that saves anything saves one byte
		}
		var d bytes.Buffer
		e := newEncoder(t.Context(), &d, random(1, size))
		if err := e.copy(match.Match{Target: before, Base: c.offset, Len: c.length}); err != nil {
			t.Fatal(err)
		}
		if _, err := e.finish(); err != nil {
			t.Fatal(err)
		}
		if got := commandList(t, d.Bytes()); !slices.Equal(got, want) || d.Len() != most {
			t.Errorf("%d bytes from %d: %+v of %d bytes, want %+v of %d", c.length, c.offset, got, d.Len(), want, most)
		}
	}
}

// Matches that touch become one copy if they do in the base too, and what of one
// was matched before is left out.
func TestEncoderCopies(t *testing.T) {
	copies := func(places ...int) (all []command) { // offset, length
		for p := range slices.Chunk(places, 2) {
			all = append(all, command{offset: int64(p[0]), length: int64(p[1])})
		}
		return all
	}
	for _, c := range []struct {
		name    string
		matches []match.Match
		want    []command
	}{
		{"one", []match.Match{{Target: 0, Base: 7, Len: 300}}, copies(7, 300)},
		{"that goes on", []match.Match{{Target: 0, Base: 7, Len: 100}, {Target: 100, Base: 107, Len: 200}}, copies(7, 300)},
		{"a short one that goes on", []match.Match{{Target: 0, Base: 7, Len: 299}, {Target: 299, Base: 306, Len: 1}}, copies(7, 300)},
		{"from elsewhere", []match.Match{{Target: 0, Base: 7, Len: 100}, {Target: 100, Base: 108, Len: 200}}, copies(7, 100, 108, 200)},
		{"matched in part", []match.Match{{Target: 0, Base: 7, Len: 100}, {Target: 60, Base: 500, Len: 240}}, copies(7, 100, 540, 200)},
		{"matched in part, and goes on", []match.Match{{Target: 0, Base: 7, Len: 100}, {Target: 60, Base: 67, Len: 240}}, copies(7, 300)},
		{"matched as a whole", []match.Match{{Target: 0, Base: 7, Len: 300}, {Target: 60, Base: 500, Len: 240}, {Target: 60, Base: 900, Len: 10}}, copies(7, 300)},
	} {
		var d bytes.Buffer
		e := newEncoder(t.Context(), &d, random(1, 300))
		for _, m := range c.matches {
			if err := e.copy(m); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.finish(); err != nil {
			t.Fatal(err)
		}
		if got := commandList(t, d.Bytes()); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// A long literal ends soon after its context.
func TestLiteralCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &cancelsWriter{cancel: cancel}
	e := newEncoder(ctx, w, make([]byte, 5*patchBuffer))
	if _, err := e.finish(); !errors.Is(err, context.Canceled) || w.n == 0 || w.n > 2*patchBuffer {
		t.Errorf("%v after %d bytes", err, w.n)
	}
}

// cancelsWriter cancels a context when it is written to, and counts the bytes.
type cancelsWriter struct {
	cancel func()
	n      int
}

func (c *cancelsWriter) Write(p []byte) (int, error) {
	c.cancel()
	c.n += len(p)
	return len(p), nil
}

// nothingBut finds one match in each piece, from another place of the base each.
type nothingBut struct{}

func (nothingBut) Find(_ context.Context, lo, hi int) ([]match.Match, error) {
	return []match.Match{{Target: lo, Base: 2*lo + 1, Len: hi - lo}}, nil
}

// However few bytes its commands have, a delta follows the target.
func TestDeltaFollowsTarget(t *testing.T) {
	const piece = 1 << 20
	target := make([]byte, 3*mostHeld+5*piece)
	var d bytes.Buffer
	done, written := 0, 0 // bytes of the target
	var finders atomic.Int32
	s := search{piece, 2, func() finder { finders.Add(1); return nothingBut{} }}
	stats, err := encode(t.Context(), &d, target, s, func(n int) {
		made := 0
		if d.Len() > 0 {
			cut := append(slices.Clone(d.Bytes()), opEnd)
			for _, c := range commandList(t, cut) {
				made += int(c.length)
			}
		}
		if done += n; done-made > mostHeld+2*piece { // the last copy may go on
			t.Fatalf("after %d bytes the delta makes %d", done, made)
		}
		written = max(written, made)
	})
	if err != nil || stats.Target() != int64(len(target)) || written == 0 || finders.Load() != 2 {
		t.Errorf("%+v, %v, %d bytes before the end, by %d finders", stats, err, written, finders.Load())
	}
	if _, err := encode(t.Context(), &full{room: 10}, target, s, func(n int) {}); !errors.Is(err, errDisk) {
		t.Errorf("on a full disk: %v", err)
	}
}
