package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// Where neither an index nor the series is, the error says that the address is not one
// of a repository.
func TestWrongAddress(t *testing.T) {
	const old = ", nor an old one with "
	answers := func(code int) string {
		return startSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })) + "/images"
	}
	dir := t.TempDir()
	for name, c := range map[string]struct{ mirror, answer string }{
		"404":         {answers(http.StatusNotFound), "404"},
		"410":         {answers(http.StatusGone), "410"},
		"403":         {answers(http.StatusForbidden), "403"},
		"a directory": {dir, "no such file"},
		"a file URL":  {(&url.URL{Scheme: "file", Path: dir}).String(), "no such file"},
	} {
		for entry, call := range entries {
			p := newPlace(t, image3)
			where := c.mirror
			if strings.HasPrefix(where, "file:") {
				where = dir
			}
			want := fmt.Sprintf("%s is not a repository (%s at %s/index.json)%s", where, c.answer, where, old)
			wanted := series
			if entry == "List" || entry == "Verify" {
				wanted = "a series of the local images"
			}
			err := call(t.Context(), p.options(c.mirror, ""))
			if err == nil || err.Error() != want+wanted || !errors.Is(err, client.ErrNoImage) || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, %s: %v, want %s", name, entry, err, want+wanted)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := call(ctx, p.options(c.mirror, "")); !errors.Is(err, context.Canceled) {
				t.Errorf("%s, %s, cancelled: %v", name, entry, err)
			}
		}
	}
}

// A mirror with an index is a repository, whatever series it lacks.
func TestEmptyIndex(t *testing.T) {
	mirror := startSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/index.json" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"series":[]}`)
	}))
	for entry, call := range entries {
		err := call(t.Context(), newPlace(t, image3).options(mirror, ""))
		if !errors.Is(err, client.ErrNoImage) || strings.Contains(err.Error(), "repository (") {
			t.Errorf("%s: %v", entry, err)
		}
	}
}

// An index can name thousands of series: no more than 256 are asked for, those of the
// local images among them, and what is said names the bound.
func TestManySeries(t *testing.T) {
	buildMirrors()
	own := name(image3).Series()
	for _, c := range []struct {
		name  string
		entry string
		image string
		count int // of series, ours and others
		says  string
		fails bool
	}{
		{"unlisted", "Update", other, 10_000, "none of the first 256 series of the mirror, which lists 10000", true},
		{"unlisted, plan", "NewPlan", other, 10_000, "none of the first 256 series", true},
		{"unlisted, as many as are looked at", "Update", other, 256, "in no series of the mirror", true},
		{"listed by its own series", "NewPlan", "", 10_000, "", false},
		{"list", "List", "", 10_000, "series=10000 at_most=256", false},
		{"list as many as are looked at", "List", "", 256, "", false},
		{"verify", "Verify", "", 10_000, "series=10000 at_most=256", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var index meta.Index
			for i := range c.count - 1 {
				index.Series = append(index.Series, entryOf(fmt.Sprintf("a-%d", i)))
			}
			index.Series = append(index.Series, entryOf(own))
			s := newSite(t, "all", func(path string) fault {
				switch {
				case path == "index.json":
					return text(string(must(json.Marshal(index))))
				case strings.HasPrefix(path, "meta/a-"):
					return text(`{"a":{"images":[]}}`)
				case path != series && strings.HasPrefix(path, "meta/"):
					return status(http.StatusNotFound)
				}
				return nil
			})
			p := newPlace(t, image3)
			err := entries[c.entry](t.Context(), p.options(s.URL, c.image))
			if (err != nil) != c.fails || c.fails && !errors.Is(err, client.ErrNoImage) {
				t.Errorf("got %v", err)
			}
			if said := fmt.Sprint(err, &p.log); !strings.Contains(said, c.says) || (p.log.Len() > 0) != (c.says != "" && !c.fails) {
				t.Errorf("it says %s, want %q", said, c.says)
			}
			if asked := len(s.asked()); asked > 256+2 {
				t.Errorf("%d requests", asked)
			}
			if c.fails {
				return
			}
			if all := must(client.List(t.Context(), p.options(s.URL, ""))); len(all) != 4 {
				t.Errorf("listed are %+v", all)
			}
		})
	}
}

func entryOf(series string) meta.IndexEntry {
	return meta.IndexEntry{Name: series, Meta: meta.SeriesPath(series)}
}
