package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/client"
)

// payloadAsked returns the payload that was asked for since before.
func payloadAsked(s *breaking, before int) (asked []string) {
	for _, path := range s.asked()[before:] {
		if strings.HasSuffix(path, ".img") || strings.HasSuffix(path, ".rdiff") {
			asked = append(asked, path)
		}
	}
	return asked
}

// What an earlier run has given up is not tried again before the image is complete:
// the full image, which was begun instead, is gone on with.
func TestGivenUp(t *testing.T) {
	s := newBreakingFor(t, "huge", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".rdiff") {
				body(flip)(w, must(os.ReadFile(filepath.Join(mirrorDir("huge"), deltaFile(huge1, huge2)))))
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	p := newPlace(t, huge1)
	o := p.options(s.URL, huge2)
	o.Patience.Attempts = 1
	s.limit.Store(4 << 20)
	var before int
	for run := range 3 {
		_, err := client.Update(t.Context(), o)
		if !errors.Is(err, client.ErrIncomplete) {
			t.Fatalf("run %d: %v", run, err)
		}
		asked := payloadAsked(s, before)
		if run > 0 && !slices.Equal(asked, []string{huge2}) {
			t.Errorf("run %d asked for %q", run, asked)
		}
		if plan := must(client.NewPlan(t.Context(), o)); len(plan.Candidates) != 1 || !isFull(plan.Candidates[0].Route) {
			t.Errorf("planned %+v", plan.Candidates)
		}
		before = len(s.asked())
	}
	s.limit.Store(0)
	s.countAgain()
	if _, err := client.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if size := s.size(t, nil); s.sent.Load() > size-8<<20 {
		t.Errorf("%d bytes of %d were sent to a run that went on", s.sent.Load(), size)
	}
	p.want(map[string]string{huge1: imageText(huge1), huge2: imageText(huge2)})
}

// A server that is gone midway, or before a run can go on, does not have what came
// of a delta be given up for the full image.
func TestDownMidway(t *testing.T) {
	var s *breaking
	requests := 0
	s = newBreakingFor(t, "huge", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/rdiffs/") {
				requests++
				s.down.Store(requests > 1)
			}
			next.ServeHTTP(w, r)
		})
	})
	s.limit.Store(11 << 20)
	p := newPlace(t, huge1)
	o := p.options(s.URL, huge2)
	for run := range 2 {
		if _, err := client.Update(t.Context(), o); !errors.Is(err, client.ErrIncomplete) {
			t.Fatalf("run %d: %v", run, err)
		}
		if asked := payloadAsked(s, 0); slices.Contains(asked, huge2) {
			t.Errorf("run %d asked for %q", run, asked)
		}
	}
	requests = 0
	s.limit.Store(0)
	s.countAgain()
	if _, err := client.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if size := s.size(t, []string{huge1}); s.sent.Load() > size-8<<20 {
		t.Errorf("%d bytes of %d were sent to a run that went on", s.sent.Load(), size)
	}
}

// A file of which run after run brings nothing is given up.
func TestIdle(t *testing.T) {
	for _, have := range [][]string{{huge1}, nil} {
		var s *breaking
		dead := false
		s = newBreakingFor(t, "huge", func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				from, file := r.Header.Get("Range"), strings.TrimPrefix(r.URL.Path, "/")
				if !dead || from == "" || len(have) > 0 && file == huge2 {
					next.ServeHTTP(w, r)
					return
				}
				size := s.size(t, have)
				from = strings.TrimSuffix(strings.TrimPrefix(from, "bytes="), "-")
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %s-%d/%d", from, size-1, size))
				w.WriteHeader(http.StatusPartialContent)
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
		})
		s.limit.Store(11 << 20)
		p := newPlace(t, have...)
		o := p.options(s.URL, huge2)
		o.Patience.Attempts = 1
		for run := range 3 {
			_, err := client.Update(t.Context(), o)
			if !errors.Is(err, client.ErrIncomplete) {
				t.Fatalf("with %q, run %d: %v", have, run, err)
			}
			dead = true
		}
		s.limit.Store(0)
		asked := len(s.asked())
		_, err := client.Update(t.Context(), o)
		if have == nil && (err == nil || errors.Is(err, client.ErrIncomplete)) {
			t.Errorf("the full image brings nothing: %v", err)
		}
		if have != nil && (err != nil || !slices.Contains(payloadAsked(s, asked), huge2)) {
			t.Errorf("the delta brings nothing: %v, asked for %q", err, payloadAsked(s, asked))
		}
	}
}

// A pipe in a mirror is not waited at.
func TestPipe(t *testing.T) {
	mirror := t.TempDir()
	os.Mkdir(filepath.Join(mirror, "meta"), 0o777)
	if err := syscall.Mkfifo(filepath.Join(mirror, filepath.FromSlash(series)), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := newPlace(t, image2).update(mirror, ""); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
}
