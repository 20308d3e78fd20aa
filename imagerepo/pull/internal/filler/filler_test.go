package filler

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
)

// another sends bytes of the same size that are not those of the file.
func another(w http.ResponseWriter, _ *http.Request, name string) {
	w.Write([]byte(strings.Repeat("x", len(files[name]))))
}

// A file comes as the plan says, or else as a whole, from the first mirror that has it; what
// is asked, reported and left behind is no more than that takes.
func TestStage(t *testing.T) {
	const notWhole = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img.tmp"
	from := func(p *place, n int) string { return []string{p.Dir.Name(), p.first.URL, p.second.URL}[n] }
	fetched := func(name string, n int) func(*place) []File {
		return func(p *place) []File {
			return []File{{Name: name, Size: int64(len(files[name])), From: from(p, n)}}
		}
	}
	rebuilt := func(n int, before ...func(*place) []File) func(*place) []File {
		return func(p *place) (all []File) {
			for _, b := range before {
				all = append(all, b(p)...)
			}
			return append(all, File{Name: target, Size: 153, From: from(p, n), Base: base, Delta: delta})
		}
	}
	nothing := func(*place) []File { return nil }
	fail := func(kind atomicfile.Kind, suffix string) func(p *place) {
		return func(p *place) {
			p.change = func(c atomicfile.Change) error {
				if c.Kind == kind && strings.HasSuffix(c.Name, suffix) {
					return syscall.EIO
				}
				return nil
			}
		}
	}
	// staged has an earlier run leave a file that is staged.
	staged := func(name, data string) func(p *place) {
		return func(p *place) { p.put(p.content(name).Staged(), data) }
	}
	cases := []struct {
		name          string
		stage         string
		set           func(p *place)
		got           func(p *place) []File
		first, second []string // that are asked of the mirrors
		err           string   // "": it is staged
		is            error
		logs          string
		left          []string // that are not whole
	}{
		{name: "an image", stage: base, got: fetched(base, 1), first: []string{base}},
		{name: "a delta", stage: delta, got: fetched(delta, 1), first: []string{delta}},
		{name: "the first mirror does not have it", stage: base, set: func(p *place) { p.first.answer = gone }, got: fetched(base, 2),
			first: []string{base}, second: []string{base}, logs: "trying the next mirror"},
		{name: "the first mirror has another", stage: base, set: func(p *place) { p.first.answer = another }, got: fetched(base, 2),
			first: []string{base, base}, second: []string{base}, logs: "trying the next mirror"},
		{name: "no mirror has it", stage: base, set: func(p *place) { p.first.answer, p.second.answer = gone, another }, got: nothing,
			first: []string{base}, second: []string{base, base}, err: "verification failed", is: fs.ErrNotExist, logs: "trying the next mirror"},
		{name: "the disk fails", stage: base, set: fail(atomicfile.Write, ".img.tmp"), got: nothing, first: []string{base}, is: syscall.EIO, err: "input/output error"},
		{name: "the folder cannot be made", stage: base, set: func(p *place) { p.put(Partial, "a file") }, got: nothing, is: syscall.ENOTDIR, err: "partial", left: []string{"partial"}},
		{name: "it cannot be staged", stage: base, set: fail(atomicfile.Rename, ".img.tmp"), got: nothing, first: []string{base}, is: syscall.EIO, err: "naming ",
			left: []string{"puavo-os-amxa-buster-2021-04-13-192449-amd64.img.tmp"}},
		{name: "it does not come the first time", stage: base, set: func(p *place) {
			p.first.answer, p.second.answer = gone, gone
			if p.Stage(p.t.Context(), p.content(base)) == nil {
				p.t.Error("it comes")
			}
			p.first.answer = nil
		}, got: fetched(base, 1), first: []string{base, base}, second: []string{base}, logs: "trying"},
		{name: "a torrent", stage: torrent, set: func(p *place) { p.put("x", files[torrent]) }, got: nothing},
		{name: "the meta has another size", stage: base, set: func(p *place) {
			other := p.Payload[base]
			other.Sums.Size++
			p.Payload[base] = other
		}, got: nothing, err: "the meta of upstream does not have it"},
		{name: "the meta has another digest", stage: base, set: func(p *place) {
			other := p.Payload[base]
			other.Sums.SHA256[0]++
			p.Payload[base] = other
		}, got: nothing, err: "the meta of upstream does not have it"},
		{name: "the meta does not have it", stage: base, set: func(p *place) { delete(p.Payload, base) }, got: nothing, err: "the meta of upstream does not have it"},
		{name: "cancelled", stage: base, set: func(p *place) { p.cancel() }, got: nothing, err: "context canceled", is: context.Canceled},
		{name: "cancelled while it comes", stage: base, set: func(p *place) {
			p.first.answer = func(http.ResponseWriter, *http.Request, string) { p.cancel() }
		}, got: nothing, first: []string{base}, err: "context canceled", is: context.Canceled},

		{name: "an earlier run has staged it", stage: base, set: staged(base, files[base]), got: func(p *place) []File {
			return []File{{Name: base, Size: 200, From: from(p, 0), Reused: true}}
		}},
		{name: "an earlier run has staged another", stage: base, set: staged(base, strings.Repeat("x", 200)), got: fetched(base, 1), first: []string{base}},
		{name: "an earlier run has staged a part", stage: base, set: staged(base, files[base][:100]), got: fetched(base, 1), first: []string{base}},
		{name: "it was made here", stage: delta, set: func(p *place) {
			p.Made[delta] = ".pull/made/x"
			p.put(".pull/made/x", files[delta])
		}, got: nothing},
		{name: "it was made here, and is lost", stage: delta, set: func(p *place) { p.Made[delta] = ".pull/made/x" }, got: nothing, err: "naming ", is: fs.ErrNotExist},

		{name: "made of a base that is there and a delta", stage: target, set: func(p *place) { p.has(base); delete(p.Missing, delta) }, got: rebuilt(1), first: []string{delta}},
		{name: "the second mirror has the delta", stage: target, set: func(p *place) {
			p.has(base)
			delete(p.Missing, delta)
			p.first.answer = gone
		}, got: rebuilt(2), first: []string{delta}, second: []string{delta}, logs: "trying the next mirror"},
		{name: "the mirrors of the delta are not known", stage: target, set: func(p *place) {
			p.has(base)
			delete(p.Missing, delta)
			delete(p.Payload, delta)
		}, got: rebuilt(1), first: []string{delta}},
		{name: "both are there", stage: target, set: func(p *place) { p.has(base, delta) }, got: rebuilt(0)},
		{name: "both are there, and a base was staged", stage: target, set: func(p *place) { p.has(base, delta); staged(base, "x")(p) }, got: rebuilt(0)},
		{name: "the delta that is there is shorter", stage: target, set: func(p *place) { p.has(base, delta); p.put(delta, "x") }, got: rebuilt(1), first: []string{delta}},
		{name: "both come first", stage: target, got: rebuilt(0, fetched(base, 1), fetched(delta, 1)), first: []string{base, delta}},
		{name: "the base was staged, and has its name", stage: target, set: func(p *place) {
			p.must(p.Stage(p.t.Context(), p.content(base)))
			p.must(p.Release(p.t.Context(), p.content(base)))
			p.got = nil
		}, got: rebuilt(0, fetched(delta, 1)), first: []string{base, delta}},
		{name: "the base is damaged", stage: target, set: func(p *place) { p.has(base, delta); p.put(base, strings.Repeat("x", 200)) }, got: fetched(target, 1),
			first: []string{target}, logs: "cannot be made from another"},
		{name: "the base does not come", stage: target, set: func(p *place) { p.first.answer, p.second.answer = only(base, gone), only(base, gone) }, got: fetched(target, 1),
			first: []string{base, target}, second: []string{base}, logs: "cannot be made from another"},
		{name: "the delta does not come", stage: target, set: func(p *place) {
			p.has(base)
			p.first.answer, p.second.answer = only(delta, gone), only(delta, gone)
		}, got: fetched(target, 1), first: []string{target, delta}, second: []string{delta}, logs: "cannot be made from another"},
		{name: "the disk fails while it is made", stage: target, set: func(p *place) { p.has(base, delta); fail(atomicfile.Write, ".img.tmp")(p) }, got: nothing,
			is: syscall.EIO, err: "input/output error"},
		{name: "cancelled while it is made", stage: target, set: func(p *place) {
			p.has(base)
			delete(p.Missing, delta)
			p.first.answer = func(http.ResponseWriter, *http.Request, string) { p.cancel() }
		}, got: nothing, first: []string{delta}, err: "context canceled", is: context.Canceled},
		{name: "a name that none can have", stage: "../" + base, got: nothing, err: "name of a file at a destination"},
		{name: "cut off", stage: target, set: func(p *place) {
			delete(p.Ways, target)
			p.second.answer = gone
			p.first.answer = func(w http.ResponseWriter, r *http.Request, name string) {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				w.Header().Set("Content-Length", "153")
				w.Write([]byte(files[name][:100]))
			}
		}, got: nothing, first: []string{target, target}, second: []string{target}, err: "given up", logs: "trying the next mirror", left: []string{notWhole, notWhole + ".journal"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p.cancel = cancel
			if c.set != nil {
				c.set(p)
			}
			content := p.of(c.stage)
			err := p.Stage(ctx, content)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("%v, want %q, %v", err, c.err, c.is)
			}
			if want := c.got(p); !slices.Equal(p.got, want) {
				t.Errorf("%+v has come, want %+v", p.got, want)
			}
			if first, second := p.asked(); !slices.Equal(first, c.first) || !slices.Equal(second, c.second) {
				t.Errorf("%q and %q were asked", first, second)
			}
			if log := p.log.String(); !strings.Contains(log, c.logs) || c.logs == "" && log != "" {
				t.Errorf("want %q in the log, which is %s", c.logs, log)
			}
			if left := p.partial(); !slices.Equal(left, c.left) {
				t.Errorf("%q are not whole, want %q", left, c.left)
			}
			if err != nil {
				return
			}
			if sent, found := p.sent.Load(), p.found.Load(); sent+found != content.Size || (found > 0) != strings.Contains(c.name, "has staged it") {
				t.Errorf("%d bytes were sent, %d found", sent, found)
			}
			p.releases(ctx, c.stage)
		})
	}
}

// Who stages a file while it comes waits for it, and it comes once. All that is reported of it
// adds up.
func TestOnce(t *testing.T) {
	p := newPlace(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, name := range []string{target, base, delta} {
				if err := p.Stage(t.Context(), p.of(name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if first, second := p.asked(); len(first) != 2 || len(second) != 0 || p.Rebuilt.Load() != 1 {
		t.Errorf("%q and %q were asked, %d were made", first, second, p.Rebuilt.Load())
	}
	if want := int64(8 * (200 + 153 + len(files[delta]))); p.sent.Load() > want || p.sent.Load() < want-200-int64(len(files[delta])) {
		t.Errorf("%d bytes are reported, want %d", p.sent.Load(), want)
	}
	for _, name := range []string{base, target, delta} {
		p.releases(t.Context(), name)
	}
}

// A base keeps its name until what is made from it is whole.
func TestRelease(t *testing.T) {
	p := newPlace(t)
	var mu sync.Mutex
	var renamed []string
	p.change = func(c atomicfile.Change) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Kind == atomicfile.Rename {
			renamed = append(renamed, c.To)
		}
		return nil
	}
	delete(p.Missing, delta)
	released := make(chan error)
	p.first.answer = only(delta, func(w http.ResponseWriter, r *http.Request, name string) {
		go func() { released <- p.Release(t.Context(), p.of(base)) }() // it ends before the test does
		time.Sleep(20 * time.Millisecond)
		serve(w, r, name)
	})
	p.must(p.Stage(t.Context(), p.of(target)))
	p.must(<-released)
	if want := []string{p.of(base).Staged(), p.of(target).Staged(), base}; !slices.Equal(renamed, want) {
		t.Errorf("%q got their names, want %q", renamed, want)
	}
}
