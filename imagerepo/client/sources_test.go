package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// isPayload reports whether a path is one of an image or a delta.
func isPayload(path string) bool {
	return strings.HasSuffix(path, ".img") || strings.HasSuffix(path, ".rdiff") || strings.HasSuffix(path, ".cdelta")
}

// newPayloadSite serves the payload of a mirror and nothing else, some of it wrongly.
func newPayloadSite(t *testing.T, mirror string, bad func(path string) fault) *site {
	return newSite(t, mirror, func(path string) fault {
		if !isPayload(path) {
			return status(http.StatusNotFound)
		}
		if bad != nil {
			return bad(path)
		}
		return nil
	})
}

// every is a fault of all files.
func every(f fault) func(string) fault { return func(string) fault { return f } }

// What a payload mirror has and is right comes from it, all else from the mirror. It is
// asked for nothing else, and its word is not taken.
func TestPayloadMirror(t *testing.T) {
	elsewhere := newSite(t, "all", nil)
	delta := deltaFile(image2, image4)
	for _, c := range []struct {
		name  string
		bad   func(path string) fault
		route string
		from  []string // payload that the mirror itself sends
		warns string
	}{
		{"it has all", nil, from(image2), nil, ""},
		{"a wrong delta", only(delta, body(flip)), from(image2), []string{delta}, "BLAKE3"},
		{"a delta of another size", only(delta, text("short")), from(image2), []string{delta}, "has 5 bytes, want"},
		{"no delta", only(delta, status(http.StatusNotFound)), from(image2), []string{delta}, "does not exist"},
		{"nothing", every(status(http.StatusNotFound)), from(image2), []string{delta}, "does not exist"},
		{"busy", every(status(http.StatusServiceUnavailable)), from(image2), []string{delta}, "503"},
		{"a redirect to another host", every(func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Location", elsewhere.URL+"/"+delta)
			w.WriteHeader(http.StatusFound)
		}), from(image2), []string{delta}, "redirect to another host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			main, payload := newSite(t, "all", nil), newPayloadSite(t, "all", c.bad)
			p := newPlace(t, image2)
			o := p.options(main.URL, image4)
			o.PayloadMirrors = []string{payload.URL}
			result, err := client.Update(t.Context(), o)
			if err != nil || result.Route.String() != c.route {
				t.Fatalf("%+v, %v", result, err)
			}
			p.want(made([]string{image2}, image4))
			if other := slices.DeleteFunc(payload.asked(), isPayload); len(other) > 0 {
				t.Errorf("the payload mirror was asked for %q", other)
			}
			if got := slices.DeleteFunc(main.asked(), func(path string) bool { return !isPayload(path) }); !slices.Equal(got, c.from) {
				t.Errorf("the mirror sent %q, want %q", got, c.from)
			}
			if !strings.Contains(p.log.String(), c.warns) || c.warns == "" && p.log.Len() > 0 {
				t.Errorf("warnings %q, want %q", &p.log, c.warns)
			}
		})
	}
	if len(elsewhere.asked()) > 0 {
		t.Errorf("another host was asked for %q", elsewhere.asked())
	}
}

// Where a payload mirror stops, the mirror continues, from the same byte.
func TestPayloadMirrorStops(t *testing.T) {
	for _, have := range [][]string{{huge1}, nil} {
		main, payload := newBreaking(t), newBreaking(t)
		payload.limit.Store(5 << 20)
		payload.tag.Store(`"another"`)
		p := newPlace(t, have...)
		o := p.options(main.URL, huge2)
		o.PayloadMirrors = []string{payload.URL}
		o.Patience.Attempts = 1
		if _, err := client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		p.want(made(have, huge2))
		if twice := main.sent.Load() + payload.sent.Load() - main.size(t, have); twice < 0 || twice > 3<<20 {
			t.Errorf("with %q: %d bytes were fetched twice", have, twice)
		}
	}
}

// A payload mirror is not verified, and what it sends is, as all is.
func TestPayloadMirrorTrusted(t *testing.T) {
	s := newSigned(t)
	payload := newPayloadSite(t, "all", nil)
	p := newPlace(t, image2)
	o := p.options(s.dir, image4)
	o.Trust = s.root()
	o.PayloadMirrors = []string{payload.URL}
	if result, err := client.Update(t.Context(), o); err != nil || result.Route.String() != from(image2) {
		t.Fatalf("%+v, %v", result, err)
	}
	if asked := payload.asked(); len(asked) == 0 || slices.ContainsFunc(asked, func(path string) bool { return !isPayload(path) }) {
		t.Errorf("the payload mirror was asked for %q", asked)
	}
}

// A delta that lies in the images directory is used if it is right.
func TestStoredDelta(t *testing.T) {
	delta := deltaFile(image2, image4)
	buildMirrors()
	right := must(os.ReadFile(filepath.Join(mirrorDir("all"), delta)))
	for name, c := range map[string]struct {
		data  []byte
		comes bool // from the mirror
	}{
		"right": {right, false}, "wrong": {flip(slices.Clone(right)), true}, "short": {right[:100], true},
	} {
		t.Run(name, func(t *testing.T) {
			main := newSite(t, "all", nil)
			p := newPlace(t, image2)
			os.Mkdir(filepath.Join(p.dir, "rdiffs"), 0o777)
			p.write(delta, c.data)
			plan := must(client.NewPlan(t.Context(), p.options(main.URL, image4)))
			if fetch := plan.Candidates[0].Fetch; name == "right" && fetch != 0 || name == "short" && fetch != int64(len(right)) {
				t.Errorf("%d bytes are to fetch", fetch)
			}
			if _, err := p.update(main.URL, image4); err != nil {
				t.Fatal(err)
			}
			if comes := slices.Contains(main.asked(), delta); comes != c.comes || slices.Contains(main.asked(), image4) {
				t.Errorf("asked for %q", main.asked())
			}
			if got := must(os.ReadFile(filepath.Join(p.dir, delta))); string(got) != string(c.data) {
				t.Error("the delta was changed")
			}
		})
	}
}

// The cheapest way over all mirrors comes first, not that of the first mirror.
func TestCheapestOfAllMirrors(t *testing.T) {
	first := newSite(t, "big", only("meta/puavo-os-big-buster-amd64.json", body(withoutDeltas)))
	second := newSite(t, "big", nil)
	p := newPlace(t, big1)
	o := p.options("", "")
	o.Mirrors = []string{first.URL, second.URL}
	result, err := client.Update(t.Context(), o)
	if err != nil || result.Route.String() != from(big1) {
		t.Fatalf("%+v, %v", result, err)
	}
	if slices.Contains(first.asked(), big2) || !slices.Contains(second.asked(), deltaFile(big1, big2)) {
		t.Errorf("asked for %q and %q", first.asked(), second.asked())
	}
}

// A delta that is refused for a moment is taken when it is back, though a part of the
// full image has come.
func TestComesBack(t *testing.T) {
	for name, f := range map[string]fault{
		"not there": status(http.StatusNotFound), "forbidden": status(http.StatusForbidden), "busy": status(http.StatusServiceUnavailable),
		"another file": text("short"),
		"no answer":    func(http.ResponseWriter, []byte) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			delta := deltaFile(big1, big2)
			var back atomic.Bool
			s := newBreakingFor(t, "big", func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/"+delta && !back.Load() {
						f(w, nil)
						return
					}
					next.ServeHTTP(w, r)
				})
			})
			s.limit.Store(5 << 18)
			p := newPlace(t, big1)
			o := p.options(s.URL, big2)
			o.Patience.Attempts = 1
			if _, err := client.Update(t.Context(), o); !errors.Is(err, client.ErrIncomplete) {
				t.Fatal(err)
			}
			back.Store(true)
			s.limit.Store(0)
			if plan := must(client.NewPlan(t.Context(), o)); isFull(plan.Candidates[0].Route) {
				t.Errorf("planned %s", plan.Candidates[0])
			}
			if result, err := client.Update(t.Context(), o); err != nil || result.Route.String() != from(big1) {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// A wrong file is remembered against the mirror that has it: another's copy is tried.
func TestWrongOfOneMirror(t *testing.T) {
	delta := deltaFile(big1, big2)
	wrong := newBreakingFor(t, "big", func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/"+delta {
				body(flip)(w, must(os.ReadFile(filepath.Join(mirrorDir("big"), delta))))
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	wrong.limit.Store(5 << 18)
	p := newPlace(t, big1)
	o := p.options(wrong.URL, big2)
	o.Patience.Attempts = 1
	if _, err := client.Update(t.Context(), o); !errors.Is(err, client.ErrIncomplete) {
		t.Fatal(err)
	}
	if plan := must(client.NewPlan(t.Context(), o)); !isFull(plan.Candidates[0].Route) {
		t.Errorf("planned %s", plan.Candidates[0])
	}
	right := newSite(t, "big", nil)
	o.Mirrors = append(o.Mirrors, right.URL)
	if result, err := client.Update(t.Context(), o); err != nil || result.Route.String() != from(big1) || !slices.Contains(right.asked(), delta) {
		t.Errorf("%+v, %v; asked for %q", result, err, right.asked())
	}
}

// A mirror that names thousands of deltas which it does not have is not asked for all
// of them.
func TestManyMissing(t *testing.T) {
	var asked int
	s := newSiteWith(t, "big", only("meta/puavo-os-big-buster-amd64.json", body(manyDeltas)), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".rdiff") {
				asked++
				http.NotFound(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	p := newPlace(t, big1)
	if result, err := client.Update(t.Context(), p.options(s.URL, big2)); err != nil || !isFull(result.Route) {
		t.Errorf("%+v, %v", result, err)
	}
	if asked > 40 {
		t.Errorf("%d deltas were asked for", asked)
	}
}

// manyDeltas adds images to a series, with deltas between all of them.
func manyDeltas(data []byte) []byte {
	s := must(meta.ParseSeries(data))
	target := s.Images[len(s.Images)-1]
	base, d := s.Images[0], target.Diffs[0]
	target.Diffs = nil
	var between []meta.Image
	for i := range 60 {
		im := base
		im.Name.Version = "2022-03-01-" + string([]byte{'0', '1', '0' + byte(i/10), '0' + byte(i%10), '0', '0'})
		im.Diffs = nil
		between = append(between, im)
	}
	all := slices.Concat([]meta.Image{base}, between, []meta.Image{target})
	for i := range all {
		for j := range i {
			d.Base, d.Filename = all[j].Name, meta.DeltaName(all[j].Name, all[i].Name)
			d.Sums.SHA512[0], d.Sums.SHA512[1] = byte(i), byte(j)
			d.URLs = []string{"https://images.example.org/rdiffs/" + d.Filename}
			all[i].Diffs = append(all[i].Diffs, d)
		}
	}
	s.Images = all
	return must(s.Encode())
}

// Another mirror that is slow to say what it has, or is no mirror, holds nothing up.
func TestOtherMirrorSilent(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	p := newPlace(t, image2)
	o := p.options("", image4)
	o.Mirrors = []string{newSite(t, "all", nil).URL, closed.URL, "/none", newSite(t, "big", nil).URL}
	if result, err := client.Update(t.Context(), o); err != nil || result.Route.String() != from(image2) {
		t.Errorf("%+v, %v", result, err)
	}
	if p.log.Len() > 0 {
		t.Errorf("warnings: %s", &p.log)
	}
}

// A mirror that accepts a connection and then says nothing does not hold up what another
// has.
func TestOtherMirrorHangs(t *testing.T) {
	t.Parallel()
	hangs := startSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	p := newPlace(t, image2)
	o := p.options("", image4)
	o.Mirrors = []string{newSite(t, "all", nil).URL, hangs}
	o.Patience.Stall = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if result, err := client.Update(ctx, o); err != nil || result.Route.String() != from(image2) {
		t.Errorf("%+v, %v", result, err)
	}
}
