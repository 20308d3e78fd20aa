package client_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// Mirrors are tried in order, each with its own meta.
func TestMirrors(t *testing.T) {
	closed := func(*testing.T) string { return "http://127.0.0.1:1" }
	with := func(mirror string, bad func(string) fault) func(*testing.T) string {
		return func(t *testing.T) string { return newSite(t, mirror, bad).URL }
	}
	everyDelta := func(f fault) func(string) fault {
		return func(path string) fault {
			if strings.HasPrefix(path, "rdiffs/") {
				return f
			}
			return nil
		}
	}
	payload := func(f fault) func(string) fault {
		return func(path string) fault {
			if strings.HasPrefix(path, "rdiffs/") || strings.HasSuffix(path, ".img") {
				return f
			}
			return nil
		}
	}
	missing := status(http.StatusNotFound)
	for _, c := range []struct {
		name    string
		mirrors []func(*testing.T) string
		want    string // the image
		route   string
		warns   string // what a warning says, "" for none
		fails   string // what the error says, "" for none
	}{
		{"the first one does", []func(*testing.T) string{with("all", nil), closed}, image4, from(image2), "", ""},
		{"the first one is down", []func(*testing.T) string{closed, with("all", nil)}, image4, from(image2), "connection refused", ""},
		{"two are down", []func(*testing.T) string{closed, closed, with("all", nil)}, image4, from(image2), "connection refused", ""},
		{"no directory", []func(*testing.T) string{func(*testing.T) string { return "/none" }, with("all", nil)}, image4, from(image2), "/none", ""},
		{"no meta", []func(*testing.T) string{with("big", nil), with("all", nil)}, image4, from(image2), "no series", ""},
		{"meta that is none", []func(*testing.T) string{with("all", only(series, text("{"))), with("all", nil)}, image4, from(image2), "malformed", ""},
		{"no deltas: that of the other before the full image", []func(*testing.T) string{with("all", everyDelta(missing)), with("all", nil)}, image4, from(image2), "rdiffs/", ""},
		{"no deltas in the meta: that of the other before the full image", []func(*testing.T) string{with("all", only(series, body(withoutDeltas))), with("all", nil)}, image4, from(image2), "", ""},
		{"no deltas in any", []func(*testing.T) string{with("all", everyDelta(missing)), with("all", everyDelta(missing))}, image4, fromFull, "rdiffs/", ""},
		{"no payload", []func(*testing.T) string{with("all", payload(missing)), with("all", nil)}, image4, from(image2), "does not exist", ""},
		{"payload that is wrong", []func(*testing.T) string{with("all", payload(body(flip))), with("all", nil)}, image4, from(image2), "BLAKE3", ""},
		{"another image of the same name", []func(*testing.T) string{with("all", payload(missing)), with("all", only(series, body(anotherDigest)))}, "", "", "trying the next mirror", "file does not exist"},
		{"no BLAKE3", []func(*testing.T) string{with("all", only(series, body(withoutBLAKE3)))}, image4, from(image2), "", ""},
		{"no BLAKE3, and the other has a wrong one", []func(*testing.T) string{
			with("all", only(series, body(func(d []byte) []byte { return withoutDeltas(withoutBLAKE3(d)) }))), with("all", only(series, body(anotherBLAKE3))),
		}, image4, from(image2), "", ""},
		{"a wrong BLAKE3", []func(*testing.T) string{with("all", only(series, body(anotherBLAKE3)))}, "", "", "BLAKE3", "its BLAKE3 is "},
		{"the meta of one does not count for the other", []func(*testing.T) string{with("all", payload(missing)), with("early", nil)}, "", "", "trying the next mirror", ""},
		{"none does", []func(*testing.T) string{with("all", payload(missing)), closed}, "", "", "trying the next mirror", "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image2)
			want := p.files()
			o := p.options("", "")
			o.Mirrors = nil
			for _, m := range c.mirrors {
				o.Mirrors = append(o.Mirrors, m(t))
			}
			result, err := client.Update(t.Context(), o)
			switch {
			case c.fails != "":
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Errorf("%v, want one that says %q", err, c.fails)
				}
			case err != nil:
				t.Error(err)
			case c.want == "":
				if !result.UpToDate {
					t.Errorf("%+v", result)
				}
			case result.Route.String() != c.route:
				t.Errorf("by %s, want %s", result.Route, c.route)
			default:
				want[c.want] = imageText(c.want)
			}
			p.want(want)
			if (p.log.Len() > 0) != (c.warns != "") || !strings.Contains(p.log.String(), c.warns) {
				t.Errorf("warnings %q, want %q", &p.log, c.warns)
			}
		})
	}
}

// edited changes the newest image of a series.
func edited(data []byte, change func(newest *meta.Image)) []byte {
	s := must(meta.ParseSeries(data))
	change(s.Newest())
	return must(s.Encode())
}

func withoutDeltas(data []byte) []byte {
	return edited(data, func(newest *meta.Image) { newest.Diffs = nil })
}

func anotherDigest(data []byte) []byte {
	return edited(data, becomesAnother)
}

// withoutBLAKE3 removes the BLAKE3 of all images and deltas, which the predecessor's meta
// does not have.
func withoutBLAKE3(data []byte) []byte {
	s := must(meta.ParseSeries(data))
	for i := range s.Images {
		s.Images[i].Sums.BLAKE3 = cksum.Digest256{}
		for j := range s.Images[i].Diffs {
			s.Images[i].Diffs[j].Sums.BLAKE3 = cksum.Digest256{}
		}
	}
	return must(s.Encode())
}

func anotherBLAKE3(data []byte) []byte {
	return edited(data, func(newest *meta.Image) { newest.Sums.BLAKE3[0]++ })
}

// An image that was compared by its BLAKE3 is read again for a meta without it: what was
// named together with that proves nothing.
func TestComputedDigests(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func([]byte) []byte // the meta that the image is made by
	}{
		{"right", func(data []byte) []byte { return data }},
		{"a wrong SHA-512 besides", func(data []byte) []byte {
			return edited(data, func(newest *meta.Image) { newest.Sums.SHA512[0]++ })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image2)
			if _, err := client.Update(t.Context(), p.options(newSite(t, "all", only(series, body(c.first))).URL, "")); err != nil {
				t.Fatal(err)
			}
			state := func(look func(context.Context, client.Options) ([]client.Listed, error), change func([]byte) []byte) client.State {
				all := must(look(t.Context(), p.options(newSite(t, "all", only(series, body(change))).URL, "")))
				return all[slices.IndexFunc(all, func(l client.Listed) bool { return l.Name == name(image4) })].State
			}
			for i, s := range []struct {
				got, want client.State
			}{
				{state(client.List, c.first), client.Right},
				{state(client.List, withoutBLAKE3), client.Unknown},
				{state(client.Verify, withoutBLAKE3), client.Right},
				{state(client.List, withoutBLAKE3), client.Right},
				{state(client.List, func(data []byte) []byte { return withoutBLAKE3(anotherDigest(data)) }), client.Wrong},
			} {
				if s.got != s.want {
					t.Errorf("state %d is %q, want %q", i, s.got, s.want)
				}
			}
		})
	}
}

// becomesAnother changes the digests of an image.
func becomesAnother(im *meta.Image) {
	im.Sums.SHA512[0]++
	im.Sums.SHA256[0]++
	im.Sums.BLAKE3[0]++
}

// What came of a file from one mirror is gone on with from the next, if it has the
// same file, whatever that calls it.
func TestResumeFromAnotherMirror(t *testing.T) {
	for _, have := range [][]string{{huge1}, nil} {
		first, second := newBreaking(t), newBreaking(t)
		first.limit.Store(5 << 20)
		second.tag.Store(`"another"`)
		p := newPlace(t, have...)
		o := p.options("", huge2)
		o.Mirrors = []string{first.URL, second.URL}
		o.Patience.Attempts = 1
		if _, err := client.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{huge2: imageText(huge2)}
		for _, f := range have {
			want[f] = imageText(f)
		}
		p.want(want)
		size := first.size(t, have)
		if twice := first.sent.Load() + second.sent.Load() - size; twice < 0 || twice > 3<<20 {
			t.Errorf("with %q: %d bytes of %d were fetched twice", have, twice, size)
		}
		if asked := second.asked(); !slices.Contains(asked, "meta/puavo-os-huge-buster-amd64.json") {
			t.Errorf("the meta of the second mirror was not asked for: %q", asked)
		}
	}
}

// A password in a mirror's URL gets to the server, and is never told, whatever
// goes wrong.
func TestPassword(t *testing.T) {
	const password = "hunter2"
	for _, c := range faults {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int64
			guard := func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if _, got, _ := r.BasicAuth(); got != password {
						http.Error(w, "no password", http.StatusUnauthorized)
						return
					}
					asked.Add(1)
					next.ServeHTTP(w, r)
				})
			}
			s := newSiteWith(t, "all", only(image4, c.fault), guard)
			p := newPlace(t)
			o := p.options(strings.Replace(s.URL, "://", "://user:"+password+"@", 1), image4)
			o.Log = slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			o.StatsFile = filepath.Join(p.dir, "stats")
			_, err := client.Update(t.Context(), o)
			if err == nil || asked.Load() < 2 {
				t.Errorf("%d requests, %v", asked.Load(), err)
			}
			told := fmt.Sprint(err, &p.log, p.files())
			if strings.Contains(told, password) {
				t.Errorf("told: %s", told)
			}
		})
	}
}

// Certificates that come from a pipe are those of all mirrors.
func TestCertificatesFromAPipe(t *testing.T) {
	p := newPlace(t, image2)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	go func() {
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
		os.WriteFile(pipe, data, 0) // once
	}()
	o := p.options(secure.URL, "")
	o.Mirrors, o.CACertificate = append(o.Mirrors, secure.URL+"/other"), pipe
	testdata.Promptly(t, "a pipe", func() {
		_, err := client.Update(t.Context(), o)
		if got := strings.Count(fmt.Sprint(err), "(404 at"); got != 2 {
			t.Errorf("%d mirrors answer, want 2: %v", got, err)
		}
	})
}
