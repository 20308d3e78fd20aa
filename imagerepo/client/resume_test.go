package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
)

// breaking serves a mirror, and counts the bytes of payload.
// While limit is above 0 each answer is cut after so many bytes.
type breaking struct {
	*site
	sent, limit atomic.Int64
	tag         atomic.Value // the ETag, a string
	down        atomic.Bool
}

func newBreaking(t *testing.T) *breaking {
	return newBreakingFor(t, "huge", func(h http.Handler) http.Handler { return h })
}

func newBreakingFor(t *testing.T, mirror string, around func(http.Handler) http.Handler) *breaking {
	s := new(breaking)
	s.tag.Store(`"one"`)
	s.site = newSiteWith(t, mirror, nil, func(h http.Handler) http.Handler { return around(s.breaks(h)) })
	return s
}

// countAgain counts what is sent from now on. A run that has ended may have left an answer that
// is being sent still: that is ended, and awaited, first.
func (s *breaking) countAgain() {
	s.CloseClientConnections()
	s.sent.Store(0)
}

// breaks is the handler around the one that serves the mirror.
func (s *breaking) breaks(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isPayload(r.URL.Path) {
			inner.ServeHTTP(w, r)
			return
		}
		if s.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", s.tag.Load().(string))
		out := &limitedWriter{w, s, s.limit.Load()}
		inner.ServeHTTP(out, r)
		if out.left < 0 {
			panic(http.ErrAbortHandler)
		}
	})
}

type limitedWriter struct {
	http.ResponseWriter
	s    *breaking
	left int64 // below 0: spent
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.left < 0 {
		return 0, io.ErrShortWrite
	}
	spent := l.left > 0 && int64(len(p)) >= l.left
	if spent {
		p = p[:l.left]
	}
	n, err := l.ResponseWriter.Write(p)
	l.s.sent.Add(int64(n))
	if l.left > 0 {
		l.left -= int64(n)
	}
	if spent && err == nil {
		l.ResponseWriter.(http.Flusher).Flush()
		l.left, err = -1, io.ErrShortWrite
	}
	return n, err
}

// A run goes on where an earlier one was cut off, if all is as it was.
func TestResume(t *testing.T) {
	const slack = 3 << 20 // what may come twice: what is between two entries of the journal
	for _, c := range []struct {
		name   string
		have   []string
		change func(p *place, s *breaking)
		anew   bool // all is fetched again
	}{
		{"a delta", []string{huge1}, func(*place, *breaking) {}, false},
		{"the full image", nil, func(*place, *breaking) {}, false},
		{"a delta with another ETag", []string{huge1}, func(_ *place, s *breaking) { s.tag.Store(`"two"`) }, false},
		{"the full image with another ETag", nil, func(_ *place, s *breaking) { s.tag.Store(`"two"`) }, false},
		{"the journal is damaged", []string{huge1}, func(p *place, _ *breaking) { p.write(huge2+".tmp.journal", []byte("{")) }, true},
		{"the journal is senseless", nil, func(p *place, _ *breaking) { p.edit(huge2+".tmp.journal", `"target":`, `"target":-`) }, true},
		{"the journal is missing", nil, func(p *place, _ *breaking) { os.Remove(filepath.Join(p.dir, huge2+".tmp.journal")) }, true},
		{"the image is cut short", nil, func(p *place, _ *breaking) { os.Truncate(filepath.Join(p.dir, huge2+".tmp"), 1000) }, true},
		{"a bit of what was made was flipped", []string{huge1}, func(p *place, _ *breaking) { flipIn(p, huge2+".tmp") }, true},
		{"a bit of what came was flipped", nil, func(p *place, _ *breaking) { flipIn(p, huge2+".tmp") }, true},
		{"the base was replaced by the same", []string{huge1}, func(p *place, _ *breaking) {
			os.Remove(filepath.Join(p.dir, huge1))
			p.write(huge1, imageData(huge1))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := newPlace(t, c.have...), newBreaking(t)
			s.limit.Store(11 << 20)
			o := p.options(s.URL, huge2)
			o.Patience.Attempts = 1
			if _, err := client.Update(t.Context(), o); !errors.Is(err, client.ErrIncomplete) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("cut off: %v", err)
			}
			if _, err := os.Stat(filepath.Join(p.dir, huge2)); err == nil {
				t.Fatal("the image has its name")
			}
			c.change(p, s)
			s.limit.Store(0)
			before := s.sent.Swap(0)
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{huge2: imageText(huge2)}
			for _, f := range c.have {
				want[f] = imageText(f)
			}
			p.want(want)
			if twice := before + s.sent.Load() - s.size(t, c.have); (twice > slack) != c.anew {
				t.Errorf("%d bytes were fetched twice", twice)
			}
		})
	}
}

// flipIn flips a bit in what an earlier run has made.
func flipIn(p *place, file string) {
	p.t.Helper()
	f, err := os.OpenFile(filepath.Join(p.dir, file), os.O_RDWR, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, 1<<20); err != nil {
		p.t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, 1<<20); err != nil {
		p.t.Fatal(err)
	}
}

// edit replaces the last old in a file by new.
func (p *place) edit(file, old, new string) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, file))
	i := bytes.LastIndex(data, []byte(old))
	if err != nil || i < 0 {
		p.t.Fatalf("%s has no %s: %v", file, old, err)
	}
	p.write(file, slices.Concat(data[:i], []byte(new), data[i+len(old):]))
}

// size returns the size of what has to be fetched.
func (s *breaking) size(t *testing.T, have []string) int64 {
	t.Helper()
	file := huge2
	if len(have) > 0 {
		file = deltaFile(huge1, huge2)
	}
	info, err := os.Stat(filepath.Join(mirrorDir("huge"), file))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// One that is cancelled is gone on with as well.
func TestResumeCancelled(t *testing.T) {
	p, s := newPlace(t, huge1), newBreaking(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := p.options(s.URL, huge2)
	o.Progress = func(done, _ int64) {
		if done > 12<<20 {
			cancel()
		}
	}
	if _, err := client.Update(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	s.countAgain()
	o.Progress = nil
	start := time.Now()
	if _, err := client.Update(t.Context(), o); err != nil {
		t.Fatalf("%v after %v", err, time.Since(start))
	}
	p.want(map[string]string{huge1: imageText(huge1), huge2: imageText(huge2)})
	if size := s.size(t, []string{huge1}); s.sent.Load() > size-(5<<20) {
		t.Errorf("%d of %d bytes were fetched again", s.sent.Load(), size)
	}
}

// A server that is down meanwhile takes nothing away.
func TestResumeAfterMore(t *testing.T) {
	p, s := newPlace(t, huge1), newBreaking(t)
	s.limit.Store(11 << 20)
	o := p.options(s.URL, huge2)
	o.Patience.Attempts = 1
	if _, err := client.Update(t.Context(), o); !errors.Is(err, client.ErrIncomplete) {
		t.Fatalf("cut off: %v", err)
	}
	s.down.Store(true)
	if _, err := client.Update(t.Context(), o); err == nil || !strings.Contains(err.Error(), "503") {
		t.Fatalf("down: %v", err)
	}
	s.down.Store(false)
	s.limit.Store(0)
	s.countAgain()
	if result, err := client.Update(t.Context(), o); err != nil || isFull(result.Route) {
		t.Fatalf("%+v, %v", result, err)
	}
	if size := s.size(t, []string{huge1}); s.sent.Load() > size-(5<<20) {
		t.Errorf("%d of %d bytes were fetched again", s.sent.Load(), size)
	}
}

// A delta of which nothing more comes, run after run, is given up for the full
// image.
func TestStuck(t *testing.T) {
	p, s := newPlace(t, huge1), newBreaking(t)
	s.limit.Store(11 << 20)
	o := p.options(s.URL, huge2)
	o.Patience.Attempts = 1
	o.Patience.Stall = time.Second
	var errs []error
	for range 5 {
		_, err := client.Update(t.Context(), o)
		errs = append(errs, err)
		s.limit.Store(100) // so that it opens, and ends at once
	}
	for i, err := range errs {
		if !errors.Is(err, client.ErrIncomplete) || strings.Contains(err.Error(), fromFull) != (i >= 3) {
			t.Errorf("run %d: %v", i, err)
		}
	}
	s.limit.Store(0)
	if _, err := client.Update(t.Context(), o); err != nil {
		t.Error(err)
	}
	p.want(map[string]string{huge1: imageText(huge1), huge2: imageText(huge2)})
}
