package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/internal/tuf"
)

// All that is read of a mirror belongs together, or the error says what does not.
func TestLook(t *testing.T) {
	const delta = "puavo-os-amxa-buster-2021-04-13-192449--2021-04-13-193910-amd64.rdiff"
	set := func(name, data string) func(*site) { return func(s *site) { s.files[name] = data } }
	gone := func(names ...string) func(*site) {
		return func(s *site) {
			for _, name := range names {
				if _, ok := s.files[name]; !ok {
					panic(name)
				}
				delete(s.files, name)
			}
		}
	}
	replaced := func(name, old, new string) func(*site) {
		return func(s *site) {
			if !strings.Contains(s.files[name], old) {
				panic(old)
			}
			s.files[name] = strings.Replace(s.files[name], old, new, 1)
		}
	}
	busy := func(s *site) {
		s.answer = func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	}
	// targetOf returns the path of the signed copy of a document.
	targetOf := func(s *site, name string) string {
		for file := range s.files {
			if strings.HasPrefix(file, "tuf/") && strings.HasSuffix(file, "."+path.Base(name)) && s.files[file] == s.files[name] {
				return file
			}
		}
		panic(name)
	}
	cases := []struct {
		name    string
		edition string // unsigned where it is empty
		spoil   func(s *site)
		part    bool // only the meta is read, not all documents
		trusted bool
		says    string // "": it succeeds
		is      error
	}{
		{name: "as it was built"},
		{name: "signed", edition: "signed"},
		{name: "signed and trusted", edition: "signed", trusted: true},
		{name: "only the meta", part: true, spoil: gone("SHA256SUMS", "meta/SHA256SUMS", "CKSUMS", "index.html")},
		{name: "only the meta, trusted", edition: "signed", part: true, trusted: true, spoil: gone("SHA256SUMS", "index.json", metaFile)},
		{name: "without torrents", spoil: func(s *site) {
			maps.DeleteFunc(s.files, func(name, _ string) bool { return strings.HasPrefix(name, "torrents/") })
		}},
		{name: "an index in another order", spoil: func(s *site) {
			var index struct {
				Series []json.RawMessage `json:"series"`
			}
			if err := json.Unmarshal([]byte(s.files["index.json"]), &index); err != nil || len(index.Series) != 2 {
				panic(err)
			}
			slices.Reverse(index.Series)
			data, _ := json.Marshal(index)
			listed(s.files, "index.json", string(data))
		}},
		{name: "an unlisted file", spoil: set("notes.txt", "x")},

		{name: "no index", spoil: gone("index.json"), says: "so this tool did not make it", is: ErrInput},
		{name: "a malformed index", spoil: set("index.json", "{"), says: "/index.json: ", is: ErrInput},
		{name: "a timestamp of too many bytes", edition: "signed", trusted: true, spoil: set("tuf/timestamp.json", strings.Repeat(" ", 1<<20)), says: "endless data", is: tuf.ErrEndlessData},
		{name: "a meta is missing", spoil: gone(otherMeta), says: "do not agree", is: ErrInput},
		{name: "a malformed meta", spoil: set(metaFile, "{"), says: "/" + metaFile + ": ", is: ErrInput},
		{name: "the meta of another series", spoil: func(s *site) { s.files[metaFile] = s.files[otherMeta] }, says: "it is of the series puavo-os-free-buster-amd64", is: ErrInput},
		{name: "no host", spoil: func(s *site) { s.Close() }, says: "given up", is: fetch.ErrNoAnswer},
		{name: "a host that is busy", spoil: busy, says: "given up after 2 attempts", is: fetch.ErrGivenUp},
		{name: "a list that is refused", spoil: func(s *site) {
			s.answer = func(w http.ResponseWriter, r *http.Request, name string) bool {
				if name == "meta/SHA256SUMS" {
					http.Redirect(w, r, r.URL.Path, http.StatusFound)
				}
				return name == "meta/SHA256SUMS"
			}
		}, says: "10 redirects"},

		{name: "a malformed list", spoil: set("SHA256SUMS", "x\n"), says: "/SHA256SUMS: ", is: ErrInput},
		{name: "a list that leads out of its folder", spoil: set("meta/SHA256SUMS", strings.Repeat("0", 64)+"  ../x\n"), says: "SHA256SUMS", is: ErrInput},
		{name: "a document that no list names", spoil: func(s *site) { s.files["SHA256SUMS"] = without(s.files["SHA256SUMS"], "index.json") }, says: "no SHA256SUMS names index.json", is: ErrInput},
		{name: "a meta that no list names", spoil: func(s *site) { s.files["meta/SHA256SUMS"] = without(s.files["meta/SHA256SUMS"], "amxa") }, says: "no list names " + metaFile, is: ErrInput},
		{name: "an image that no list names", spoil: func(s *site) { s.files["SHA256SUMS"] = without(s.files["SHA256SUMS"], mirrortest.Image2) }, says: "no SHA256SUMS names " + mirrortest.Image2, is: ErrInput},
		{name: "a delta that no list names", spoil: gone("rdiffs/SHA256SUMS"), says: "names rdiffs/" + delta[:20], is: ErrInput},
		{name: "another digest of a delta", spoil: func(s *site) {
			s.files["rdiffs/SHA256SUMS"] = strings.Repeat("0", 64) + s.files["rdiffs/SHA256SUMS"][64:]
		}, says: "rdiffs/SHA256SUMS and the meta differ about rdiffs/", is: ErrInput},
		{name: "an image that no meta names", spoil: func(s *site) { s.files["SHA256SUMS"] += strings.Repeat("0", 63) + "1  " + mirrortest.Image3 + "\n" }, says: "differ about " + mirrortest.Image3, is: ErrInput},
		{name: "another page than is listed", spoil: set("index.html", "x"), says: "index.html is not what SHA256SUMS says", is: ErrInput},
		{name: "the page is missing", spoil: gone("index.html"), says: "index.html is not what SHA256SUMS says", is: ErrInput},
		{name: "a torrent is missing", spoil: gone("torrents/" + mirrortest.Image2 + ".torrent"), says: "is not what torrents/SHA256SUMS says", is: ErrInput},
		{name: "malformed CKSUMS", spoil: func(s *site) { listed(s.files, "CKSUMS", "x\n") }, says: "CKSUMS: ", is: ErrInput},
		{name: "CKSUMS with another size", spoil: func(s *site) {
			listed(s.files, "CKSUMS", strings.Replace(s.files["CKSUMS"], " 315392 "+mirrortest.Image2, " 1 "+mirrortest.Image2, 1))
		}, says: "CKSUMS and the meta differ about " + mirrortest.Image2, is: ErrInput},
		{name: "CKSUMS with another checksum", spoil: func(s *site) {
			_, rest, _ := strings.Cut(s.files["CKSUMS"], " ")
			listed(s.files, "CKSUMS", "1 "+rest)
		}, says: "CKSUMS and the meta differ about ", is: ErrInput},

		{name: "a signed copy is missing", edition: "signed", spoil: func(s *site) { gone(targetOf(s, metaFile))(s) }, says: "the signed copy of " + metaFile + " is missing, or differs", is: ErrInput},
		{name: "a signed copy is another", edition: "signed", spoil: func(s *site) { set(targetOf(s, metaFile), "x")(s) }, says: "the signed copy of " + metaFile, is: ErrInput},
		{name: "a signed copy is another, trusted", edition: "signed", trusted: true, spoil: func(s *site) { set(targetOf(s, metaFile), "x")(s) }, says: "not trusted", is: tuf.ErrRefused},
		{name: "a signature that is wrong", edition: "signed", spoil: replaced("tuf/timestamp.json", `"sig": "`, `"sig": "00`), says: "its signatures do not verify", is: ErrInput},
		{name: "a signature that is wrong, trusted", edition: "signed", trusted: true, spoil: replaced("tuf/timestamp.json", `"sig": "`, `"sig": "00`), says: "not trusted", is: tuf.ErrRefused},
		{name: "no timestamp", edition: "signed", spoil: gone("tuf/timestamp.json"), says: "its signatures do not verify", is: ErrInput},
		{name: "not signed, trusted", trusted: true, says: "it is not signed"},
		{name: "signed documents of a later edition", edition: "signed", spoil: later, says: "the signed copy of ", is: ErrInput},
		{name: "signed documents of a later edition, trusted", edition: "signed", trusted: true, spoil: later, says: "the signed documents differ from the plain ones", is: ErrInput},
		{name: "roots without end", edition: "signed", spoil: func(s *site) {
			s.answer = func(w http.ResponseWriter, _ *http.Request, name string) bool {
				if strings.HasSuffix(name, ".root.json") {
					fmt.Fprint(w, s.files["tuf/1.root.json"])
				}
				return strings.HasSuffix(name, ".root.json")
			}
		}, says: "more than 256 roots", is: ErrInput},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files := documents(t, map[string]string{"": "unsigned"}[c.edition]+c.edition)
			t.Parallel()
			s := serve(t, files)
			if c.spoil != nil {
				c.spoil(s)
			}
			o := options(new(bytes.Buffer))
			if c.trusted {
				o.Root = editions.root
			}
			source, err := Open(s.URL, o)
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			e, err := source.Look(t.Context(), atomicfile.Dir{}, true, !c.part)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) {
				t.Fatalf("%v, want %q, %v", err, c.says, c.is)
			}
			for name, n := range s.asked {
				if _, is := s.files[name]; is && n > 1 && c.says == "" {
					t.Errorf("%s was asked for %d times", name, n)
				}
			}
			if err == nil {
				checkEdition(t, e, s, c.edition == "signed", c.part, c.trusted)
			}
		})
	}
}

// Documents that do not agree are looked at again, after pauses, until they do.
func TestSettled(t *testing.T) {
	for _, c := range []struct {
		name    string
		edition string
		hidden  string // a document that is another in the first two looks
		pauses  int
		trusted bool
		says    string
	}{
		{"in the third look", "unsigned", "index.html", 2, false, ""},
		{"too late", "unsigned", "index.html", 1, false, "do not agree"},
		{"a signed one", "signed", "tuf/timestamp.json", 2, true, ""},
		{"a signed one, too late", "signed", "tuf/timestamp.json", 1, true, "not trusted"},
		{"malformed", "unsigned", "index.json", 2, false, "index.json"}, // which is not looked at again
	} {
		t.Run(c.name, func(t *testing.T) {
			files := documents(t, c.edition)
			t.Parallel()
			s := serve(t, files)
			s.answer = func(w http.ResponseWriter, _ *http.Request, name string) bool {
				if name != c.hidden || s.asked[name] > 2 {
					return false
				}
				fmt.Fprint(w, "x")
				return true
			}
			var log bytes.Buffer
			o := options(&log)
			o.Pauses = slices.Repeat([]time.Duration{time.Millisecond}, c.pauses)
			if c.trusted {
				o.Root = editions.root
			}
			source, err := Open(s.URL, o)
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			e, err := source.Look(t.Context(), atomicfile.Dir{}, true, true)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v, %v, want %q", e, err, c.says)
			}
			if again := strings.Count(log.String(), "looking again"); again != c.pauses && c.name != "malformed" || c.name == "malformed" && again != 0 {
				t.Errorf("%d times again", again)
			}
		})
	}
}

// Whoever waits for a mirror ends with its context.
func TestCancelled(t *testing.T) {
	for _, c := range []struct {
		name string
		at   string // the document that is asked for when the context ends
	}{
		{"before", ""}, {"with the index", "index.json"}, {"with a list", "rdiffs/SHA256SUMS"}, {"with the last document", "tuf/1.root.json"}, {"in a pause", "tuf/2.root.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, documents(t, "signed"))
			delete(s.files, "tuf/timestamp.json") // it is looked at again
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.at == "" {
				cancel()
			}
			var log bytes.Buffer
			s.answer = func(_ http.ResponseWriter, r *http.Request, name string) bool {
				switch {
				case name != c.at:
					return false
				case c.name == "in a pause":
					time.AfterFunc(50*time.Millisecond, cancel)
					return false
				}
				cancel()
				<-r.Context().Done()
				return true
			}
			o := options(&log)
			o.Pauses = []time.Duration{time.Hour}
			source, err := Open(s.URL+","+s.URL, o)
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			e, err := source.Look(ctx, atomicfile.Dir{}, true, true)
			if !errors.Is(err, context.Canceled) || e != nil || strings.Contains(log.String(), "next mirror") {
				t.Errorf("%+v, %v\n%s", e, err, &log)
			}
		})
	}
}

// The documents come from the first mirror that has all of them; the error is that of all.
func TestMirrors(t *testing.T) {
	files := documents(t, "unsigned")
	right, empty, broken := serve(t, files), serve(t, nil), serve(t, map[string]string{"index.json": "x"})
	dir := filepath.Join(t.TempDir(), "a,b")
	for name, data := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777), os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		mirrors, from string
		next          int // how often the next is tried
		is            error
	}{
		{right.URL, right.URL, 0, nil},
		{right.URL + "," + empty.URL, right.URL, 0, nil},
		{empty.URL + "," + broken.URL + "," + right.URL, right.URL, 2, nil},
		{dir, dir, 0, nil},
		{empty.URL + "," + broken.URL, "", 1, ErrInput},
		{empty.URL + "/," + empty.URL, "", 1, fs.ErrNotExist},
	} {
		var log bytes.Buffer
		s, err := Open(c.mirrors, options(&log))
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.Look(t.Context(), atomicfile.Dir{}, true, false)
		if !errors.Is(err, c.is) || err == nil && e.Mirror != c.from {
			t.Errorf("%s: %+v, %v", c.mirrors, e, err)
		}
		if n := strings.Count(log.String(), "trying the next mirror"); n != c.next {
			t.Errorf("%s: the next is tried %d times", c.mirrors, n)
		}
		if err != nil && strings.Count(err.Error(), "index.json") < 2 {
			t.Errorf("%s: %v", c.mirrors, err)
		}
		s.Close()
	}
	if s, err := Open(right.URL+",", Options{}); err == nil || s != nil {
		t.Errorf("an empty mirror: %v, %v", s, err)
	}
	s, err := Open(right.URL, Options{})
	if err != nil || len(s.options.Pauses) == 0 || s.options.Log == nil {
		t.Errorf("the usual options: %+v, %v", s, err)
	}
}
