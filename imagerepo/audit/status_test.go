package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/testdata"
)

// outline is a status in short.
func outline(s Status) string {
	var b strings.Builder
	for _, series := range s.Series {
		fmt.Fprintf(&b, "%s:", series.Name)
		for _, im := range series.Images {
			fmt.Fprintf(&b, " %s", im.Version)
			for _, d := range im.Deltas {
				fmt.Fprintf(&b, " <%s", d.Base[len("puavo-os-amxa-buster-"):len("puavo-os-amxa-buster-2022-01-17")])
				if d.Retired {
					b.WriteString("!")
				}
			}
		}
		b.WriteString("; ")
	}
	fmt.Fprintf(&b, "%d images, %d deltas, run %v", s.Images, s.Deltas, s.LastRun != nil)
	return b.String()
}

func TestStatus(t *testing.T) {
	const freeLine = "puavo-os-free-buster-amd64: 20220204140532; "
	const both = amxa + ": 20220117120001 <2022-01-20 20220120173248 <2022-01-17; " + freeLine
	for _, c := range []struct {
		name   string
		change func(p place)
		want   string // or what the error says
	}{
		{"as built", func(place) {}, both + "3 images, 2 deltas, run true"},
		{"uploaded", func(p place) { p.remove(".repo"); p.write("meta/odd name.json", nil) }, both + "3 images, 2 deltas, run false"},
		{"a run that cannot be read", func(p place) { p.write(".repo/run.json", nil) }, both + "3 images, 2 deltas, run false"},
		{"no index", func(p place) { p.remove("index.json") }, both + "3 images, 2 deltas, run true"},
		{"no files", func(p place) { p.remove(newer); p.remove("rdiffs") }, both + "3 images, 2 deltas, run true"},
		{"one series more", func(p place) {
			s := p.series(amxaDoc)
			s.Name, s.Images = "x", s.Images[1:]
			p.publish("meta/x.json", s)
			p.replace("index.json", `]}`, `,{"name":"x","meta":"meta/x.json","images":1,"newest":""}]}`)
		}, both + "x: 20220120173248 <2022-01-17!; 3 images, 2 deltas, run true"},
		{"a retired base", retire, amxa + ": 20220120173248 <2022-01-17!; " + freeLine + "2 images, 1 deltas, run true"},
		{"not in the index", func(p place) { p.write("meta/x.json", nil) }, both + "3 images, 2 deltas, run true"},
		{"no series", func(p place) { p.remove("meta"); p.remove("index.json") }, "0 images, 0 deltas, run true"},
		{"the index is malformed", func(p place) { p.write("index.json", []byte("{")) }, "index.json: malformed document: line 1"},
		{"a meta is malformed", func(p place) { p.write(freeDoc, []byte("{")) }, freeDoc + ": malformed document: line 1"},
		{"a meta is malformed, no index", func(p place) { p.write(freeDoc, []byte("{}")); p.remove("index.json") }, freeDoc + ": malformed document: 0 series"},
		{"a meta is gone", func(p place) { p.remove(freeDoc) }, freeDoc},
		{"a meta is a directory", func(p place) { p.remove(freeDoc); check(os.Mkdir(p.path(freeDoc), 0o777)) }, freeDoc + ": it is a directory"},
		{"the meta is a file", func(p place) { p.remove("meta"); p.write("meta", nil); p.remove("index.json") }, "meta: not a directory"},
		{"the index is huge", func(p place) { check(os.Truncate(p.path("index.json"), 64<<20+1)) }, "index.json: it has more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			c.change(p)
			s, err := StatusOf(p.dir)
			if got := outline(s); err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %s, %v\nwant %s", got, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "verify") {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

func TestStatusNumbers(t *testing.T) {
	p := newPlace(t)
	s := must(StatusOf(p.dir))
	u, d := int64(len(p.read(up))), int64(len(p.read(down)))
	if s.ImageBytes != 360448+319488+339968 || s.DeltaBytes != u+d {
		t.Errorf("%+v", s)
	}
	im := s.Series[0].Images[1]
	if delta := im.Deltas[0]; im.Size != 360448 || delta.Size != u || delta.Share != float64(u)/360448 || "rdiffs/"+delta.File != up {
		t.Errorf("%+v", im)
	}
	series := p.series(amxaDoc)
	series.Images[1].Sums.Size = 0
	p.publish(amxaDoc, series)
	if _, err := json.Marshal(must(StatusOf(p.dir))); err != nil {
		t.Errorf("a share of nothing: %v", err)
	}
}

// A series that leaves and comes back all the time is there or not, and no error.
func TestStatusBesideRuns(t *testing.T) {
	p := newPlace(t)
	doc, with := p.read(freeDoc), p.read("index.json")
	p.replace("index.json", `{"name":"puavo-os-free-buster-amd64","meta":"`+freeDoc+`","images":1,"newest":"`+free+`"}`, "", "},]", "}]")
	without := p.read("index.json")
	p.put("index.json", with)
	var ended atomic.Bool
	var runs sync.WaitGroup
	runs.Go(func() {
		for !ended.Load() { // in the builder's order
			p.put("index.json", without)
			p.remove(freeDoc)
			time.Sleep(100 * time.Microsecond)
			p.put(freeDoc, doc)
			p.put("index.json", with)
		}
	})
	defer runs.Wait()
	defer ended.Store(true)
	for range 2000 {
		if s, err := StatusOf(p.dir); err != nil || len(s.Series) < 1 {
			t.Fatalf("%s, %v", outline(s), err)
		}
	}
}

func TestLastRun(t *testing.T) {
	p := newPlace(t)
	p.write("index.json", []byte(`{"series":[]}`))
	for want, run := range map[string]mirror.Run{
		"": {},
		`,"last_run":{"began":"2026-01-02T03:04:05Z","seconds":1.5,"success":"2026-01-02T03:05:05Z"}`: {Began: began, Seconds: 1.5, Success: began.Add(time.Minute)},
		`,"last_run":{"began":"2026-01-02T03:04:05Z","seconds":1.5,"error":"no space left"}`:          {Began: began, Seconds: 1.5, Error: "no space left"},
	} {
		p.run(run)
		want = `{"series":[],"images":0,"image_bytes":0,"deltas":0,"delta_bytes":0,"page":"index.html"` + want + "}"
		if got := must(json.Marshal(must(StatusOf(p.dir)))); string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// The predecessor's documents, without a blake3 and without an index.
func TestStatusOfPredecessor(t *testing.T) {
	p := place{t, t.TempDir()}
	for _, path := range testdata.Glob(t, "predecessor/*.json") {
		p.write("meta/"+filepath.Base(path), must(os.ReadFile(path)))
	}
	s, err := StatusOf(p.dir)
	if err != nil || len(s.Series) != 2 || s.Images != 5 || s.Deltas != 9 || s.LastRun != nil {
		t.Errorf("%s, %v", outline(s), err)
	}
	p.remove("meta")
	if _, err := StatusOf(p.dir); !errors.Is(err, ErrNoMirror) {
		t.Errorf("without a document: %v", err)
	}
}

// Options without a mirror are an error that names the field.
func TestNoMirrorDir(t *testing.T) {
	for name, err := range map[string]error{
		"verify": func() error { _, err := Verify(t.Context(), Options{}); return err }(),
		"status": func() error { _, err := StatusOf(""); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), "MirrorDir") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
