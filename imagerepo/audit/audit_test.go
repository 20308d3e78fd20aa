package audit

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

var noContext = context.Background()

// says is a value of a file as findings tell it.
func says(kind int, data []byte) string { return short(valuesOf(sumsOf(data))[kind]) }

// Each injury to the content of a mirror has its findings and no others.
func TestFiles(t *testing.T) {
	image := must(os.ReadFile(testdata.Path("images/" + newer)))
	is := "sha256 is " + says(sha256, flip(image)) + ", " + amxaDoc + " says " + says(sha256, image)
	const all = amxaDoc + ", CKSUMS and SHA256SUMS name it"
	for _, c := range []struct {
		name   string
		injure func(p place)
		want   [][3]string
	}{
		{"none", func(place) {}, nil},
		{"an image rots", func(p place) { p.rot(newer) }, [][3]string{{"damaged", newer, is}}},
		{"an image is changed", func(p place) { p.write(newer, flip(image)) }, [][3]string{{"modified", newer, is}}},
		{"an image is cut", func(p place) { p.write(newer, image[:5]) }, [][3]string{{"modified", newer, "size is 5, " + amxaDoc + " says 360448"}}},
		{"an image is touched", func(p place) { p.write(newer, image) }, nil},
		{"an image is gone", func(p place) { p.remove(newer) }, [][3]string{{"missing", newer, all}}},
		{"an image is a directory", func(p place) { p.remove(newer); check(os.Mkdir(p.path(newer), 0o777)) },
			[][3]string{{"missing", newer, all + "; it is a directory"}}},
		{"an image is a link", func(p place) { p.remove(newer); check(os.Symlink(older, p.path(newer))) },
			[][3]string{{"missing", newer, all + "; it is a symbolic link"}}},
		{"an image is a pipe", func(p place) { p.remove(newer); check(syscall.Mkfifo(p.path(newer), 0o666)) },
			[][3]string{{"missing", newer, all + "; it is a pipe"}}},
		{"a copied image rots", func(p place) {
			p.write(newer, image)
			p.records(func(name string, r *state.Record) {
				if name == newer {
					r.Copy = state.StampOf(must(os.Stat(p.path(newer))))
				}
			})
			p.rot(newer)
		}, [][3]string{{"damaged", newer, is}}},
		{"deltas rot and are changed", func(p place) { p.rot(up); p.write(down, nil) },
			[][3]string{{"damaged", up, "sha256 is "}, {"modified", down, "size is 0, " + amxaDoc + " says "}}},
		{"there is no directory of deltas", func(p place) { p.remove("rdiffs"); p.write("rdiffs", nil) },
			[][3]string{{"orphan", "rdiffs", "no document names it"}, {"missing", "rdiffs/SHA256SUMS", "files in rdiffs"}, {"missing", up, amxaDoc + " and CKSUMS name it; rdiffs is not a directory"}, {"missing", down, "; rdiffs is"}}},
		{"the deltas are elsewhere", func(p place) {
			away := filepath.Join(p.t.TempDir(), "away")
			check(os.Rename(p.path("rdiffs"), away))
			check(os.Symlink(away, p.path("rdiffs")))
		}, [][3]string{{"orphan", "rdiffs", "no document"}, {"unreadable", "rdiffs/SHA256SUMS", "escapes"}, {"unreadable", up, "escapes"}, {"unreadable", down, "escapes"}}},
		{"changed without a record", func(p place) { p.remove(".repo/state/" + newer + ".json"); p.write(newer, flip(image)) },
			[][3]string{{"damaged", newer, is}}},
		{"changed with a record that knows nothing", func(p place) { p.record(newer, state.Record{}); p.write(newer, flip(image)) },
			[][3]string{{"damaged", newer, is}}},
		{"changed with records that cannot be read", func(p place) {
			p.remove(".repo/state")
			p.write(".repo/state", nil)
			p.write(newer, flip(image))
		}, [][3]string{{"note", ".repo/state", "not a directory"}, {"damaged", newer, is}}},
		{"changed in an uploaded copy", func(p place) { p.remove(".repo"); p.write(newer, flip(image)) }, [][3]string{{"damaged", newer, is}}},
		{"no records", func(p place) { p.remove(".repo") }, nil},
		{"what nobody named", func(p place) {
			for _, name := range []string{absent, "README", ".hidden", "rdiffs/more/x", "meta/extra.json", ".repo/own", "x/.repo/y"} {
				p.write(name, []byte("x"))
			}
			check(os.Symlink("..", p.path("link")))
			check(os.Mkdir(p.path("empty"), 0o777))
		}, [][3]string{
			{"orphan", ".hidden", "no document names it"}, {"orphan", "README", ""}, {"orphan", "link", ""}, {"orphan", "meta/extra.json", ""},
			{"orphan", absent, ""}, {"orphan", "rdiffs/more/x", ""}, {"orphan", "x/.repo/y", ""},
		}},
		{"the predecessor's directories", func(p place) { p.write(".checksums/x", nil); p.write(".signatures/y", nil) },
			[][3]string{{"note", ".checksums", "the old rake task"}, {"note", ".signatures", "the old rake task"}}},
		{"what waits", func(p place) {
			p.write(absent, []byte("x"))
			p.record(absent, state.Record{Orphaned: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Unix()})
			p.write("rdiffs/"+absent, nil) // not where the record's file lies
		}, [][3]string{{"waiting", absent, "since 2026-01-02 03:04:05 UTC"}, {"orphan", "rdiffs/" + absent, ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			c.injure(p)
			r := p.verify(false)
			expect(t, r.Findings, c.want)
			damage := 0
			for _, w := range c.want {
				if w[0] != "orphan" && w[0] != "note" && w[0] != "waiting" {
					damage++
				}
			}
			if r.Damaged() != damage || r.Deltas != 0 {
				t.Errorf("%d damaged, want %d; %+v", r.Damaged(), damage, r)
			}
		})
	}
}

// Each fault of the documents has its findings and no others.
func TestDocuments(t *testing.T) {
	for _, c := range []struct {
		name   string
		injure func(p place)
		want   [][3]string
	}{
		{"the meta is cut", func(p place) { p.write(amxaDoc, p.read(amxaDoc)[:100]); p.write(absent, nil) }, [][3]string{
			{"damaged", amxaDoc, "SHA256SUMS says"}, {"malformed", amxaDoc, "line 1"},
		}}, // which may name what is left
		{"the meta is of no bytes", func(p place) { p.write(amxaDoc, nil); p.relist() }, [][3]string{{"malformed", amxaDoc, "unexpected end"}}},
		{"a meta is gone", func(p place) { p.remove(freeDoc) }, [][3]string{{"missing", freeDoc, "SHA256SUMS and index.json name it"}}},
		{"a meta is gone for the list too", func(p place) { p.remove(freeDoc); p.relist() }, [][3]string{{"missing", freeDoc, "index.json names it"}}},
		{"the meta is of another series", func(p place) { p.replace(amxaDoc, `{"`+amxa+`":`, `{"x":`); p.relist() },
			[][3]string{{"inconsistent", amxaDoc, "it describes the series x"}}},
		{"the meta has another sha256", func(p place) {
			p.replace(amxaDoc, valuesOf(sumsOf(p.read(newer)))[sha256], strings.Repeat("ab", 32))
			p.relist()
		}, [][3]string{{"inconsistent", newer, "sha256 is abababababab... in " + amxaDoc + " and "}}},
		{"the meta has another blake3", func(p place) {
			p.replace(amxaDoc, valuesOf(sumsOf(p.read(newer)))[blake3], strings.Repeat("ab", 32))
			p.relist()
		}, [][3]string{{"damaged", newer, amxaDoc + " says abababababab..."}}}, // nothing contradicts it but the file
		{"two series differ", func(p place) {
			s, im := p.series(freeDoc), p.series(amxaDoc).Images[1]
			im.Diffs, im.Sums.BLAKE3[0] = nil, im.Sums.BLAKE3[0]+1
			s.Images = []meta.Image{im, s.Images[0]}
			p.publish(freeDoc, s)
			p.replace("index.json", `"images":1`, `"images":2`)
			p.relist()
		}, [][3]string{{"inconsistent", newer, "in " + freeDoc + "; the file agrees with " + amxaDoc}}},
		{"all differ", func(p place) {
			p.write(newer, nil)
			p.replace("CKSUMS", " 360448 ", " 1 ")
			p.relist()
			p.replace("SHA256SUMS", says(sha256, nil)[:12], "ffffffffffff")
		}, [][3]string{
			{"inconsistent", newer, "sha256 is "}, {"inconsistent", newer, "size is 360448 in " + amxaDoc + " and 1 in CKSUMS"},
			{"modified", newer, "size is 0, " + amxaDoc + " says 360448"},
		}},
		{"CKSUMS is malformed", func(p place) { p.write("CKSUMS", []byte("x\n")); p.relist() },
			[][3]string{{"malformed", "CKSUMS", "line 1: is not a CRC"}}},
		{"CKSUMS is gone", func(p place) { p.remove("CKSUMS") }, [][3]string{{"missing", "CKSUMS", "SHA256SUMS names it"}}},
		{"CKSUMS is gone for the list too", func(p place) { p.remove("CKSUMS"); p.relist() }, [][3]string{{"missing", "CKSUMS", "every mirror"}}},
		{"CKSUMS has another CRC", func(p place) { p.replace("CKSUMS", says(crc, p.read(newer)), "7"); p.relist() },
			[][3]string{{"inconsistent", newer, " in " + amxaDoc + " and 7 in CKSUMS; the file agrees with " + amxaDoc}}},
		{"CKSUMS lacks a delta", func(p place) {
			lines := strings.SplitAfter(string(p.read("CKSUMS")), "\n")
			p.write("CKSUMS", []byte(strings.Join(lines[1:], "")))
			p.relist()
		}, [][3]string{{"inconsistent", up, amxaDoc + " and rdiffs/SHA256SUMS name it, CKSUMS does not"}}},
		{"CKSUMS has another image", func(p place) {
			p.write(absent, nil)
			p.write("CKSUMS", append(p.read("CKSUMS"), "4294967295 0 "+absent+"\n"...))
			p.relist()
		}, [][3]string{{"inconsistent", absent, "CKSUMS names it, no meta does"}}},
		{"SHA256SUMS is malformed", func(p place) { p.write("SHA256SUMS", []byte(strings.Repeat("0", 64)+"  ../x\n")) },
			[][3]string{{"malformed", "SHA256SUMS", "not a clean relative path"}}},
		{"SHA256SUMS is gone", func(p place) { p.remove("SHA256SUMS") }, [][3]string{{"missing", "SHA256SUMS", "every mirror"}}},
		{"SHA256SUMS lacks all", func(p place) { p.write("SHA256SUMS", nil) }, [][3]string{
			{"inconsistent", "CKSUMS", "SHA256SUMS does not name it"}, {"orphan", "index.html", "no document names it"}, {"inconsistent", "index.json", "SHA256SUMS does not name it"},
			{"inconsistent", older, amxaDoc + " and CKSUMS name it, SHA256SUMS does not"}, {"inconsistent", newer, ""}, {"inconsistent", free, ""},
		}},
		{"rdiffs/SHA256SUMS is gone", func(p place) { p.remove("rdiffs/SHA256SUMS") }, [][3]string{{"missing", "rdiffs/SHA256SUMS", "publishes files in rdiffs"}}},
		{"meta/SHA256SUMS is gone", func(p place) { p.remove("meta/SHA256SUMS") }, [][3]string{{"missing", "meta/SHA256SUMS", "publishes files in meta"}}},
		{"rdiffs/SHA256SUMS has a slash", func(p place) { p.replace("rdiffs/SHA256SUMS", "  ", "  rdiffs/") }, [][3]string{{"malformed", "rdiffs/SHA256SUMS", "has a slash"}}},
		{"rdiffs/SHA256SUMS lacks all", func(p place) { p.write("rdiffs/SHA256SUMS", nil) }, [][3]string{
			{"inconsistent", up, amxaDoc + " and CKSUMS name it, rdiffs/SHA256SUMS does not"}, {"inconsistent", down, ""},
		}},
		{"rdiffs/SHA256SUMS has another digest", func(p place) { p.replace("rdiffs/SHA256SUMS", says(sha256, p.read(up))[:12], "ffffffffffff") }, [][3]string{
			{"inconsistent", up, "and ffffffffffff... in rdiffs/SHA256SUMS; the file agrees with " + amxaDoc},
		}},
		{"a list of the version before", func(p place) { p.oneList() }, nil},
		{"a list of the version before, and a delta is damaged", func(p place) { p.oneList(); p.rot(up) }, [][3]string{{"damaged", up, "sha256 is"}}},
		{"SHA256SUMS has more", func(p place) {
			p.write("docs/README", []byte("x"))
			p.write("wrong", []byte("x"))
			p.relist("wrong")
			p.write("wrong", []byte("y"))
			check(os.Symlink("/", p.path("out")))
			p.write("SHA256SUMS", append(p.read("SHA256SUMS"), strings.Repeat("0", 64)+"  out/etc/passwd\n"...))
		}, [][3]string{{"orphan", "docs/README", ""}, {"orphan", "out", ""}, {"unreadable", "out/etc/passwd", "escapes"}, {"damaged", "wrong", "SHA256SUMS says"}}},
		{"the index has other numbers", func(p place) { p.replace("index.json", `"images":2`, `"images":3`, newer, older); p.relist() }, [][3]string{
			{"inconsistent", "index.json", "3 images of the series " + amxa + ", " + amxaDoc + " has 2"},
			{"inconsistent", "index.json", "the newest image"},
		}},
		{"the index lacks a series", func(p place) { p.write("index.json", []byte(`{"series":[]}`)); p.relist() }, [][3]string{
			{"inconsistent", "index.json", "meta/SHA256SUMS names " + amxaDoc + ", index.json does not"},
			{"inconsistent", "index.json", "meta/SHA256SUMS names " + freeDoc},
		}},
		{"the index names more", func(p place) {
			p.replace("index.json", `{"series":[`, `{"series":[{"name":"x","meta":"meta/x.json","images":0,"newest":""},`)
			p.relist()
		}, [][3]string{{"missing", "meta/x.json", "index.json names it"}}},
		{"the index is malformed", func(p place) { p.replace("index.json", "meta/", "../"); p.relist() }, [][3]string{{"malformed", "index.json", `"../`}}},
		{"the index is gone", func(p place) { p.remove("index.json") }, [][3]string{{"missing", "index.json", "SHA256SUMS names it"}}},
		{"the index is a directory", func(p place) { p.remove("index.json"); p.relist(); check(os.Mkdir(p.path("index.json"), 0o777)) },
			[][3]string{{"missing", "index.json", "every mirror"}}},
		{"the index is huge", func(p place) {
			p.remove("index.json")
			p.write("index.json", nil)
			check(os.Truncate(p.path("index.json"), meta.MaxDocument+1))
		},
			[][3]string{{"malformed", "index.json", "more than 67108864 bytes"}}},
		{"the lists alone", func(p place) {
			p.remove("meta")
			p.remove("index.json")
			p.remove("SHA256SUMS")
			p.remove("rdiffs/SHA256SUMS")
		}, [][3]string{
			{"inconsistent", older, "CKSUMS names it, no meta does"}, {"inconsistent", newer, ""}, {"inconsistent", free, ""},
			{"inconsistent", up, ""}, {"inconsistent", down, ""},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			c.injure(p)
			expect(t, p.verify(false).Findings, c.want)
		})
	}
}

// A file that cannot be read is told of, whatever keeps it from being read.
func TestUnreadable(t *testing.T) {
	p := newPlace(t)
	for _, name := range []string{up, "CKSUMS"} {
		if os.Getuid() != 0 {
			check(os.Chmod(p.path(name), 0))
			continue
		}
		// Root reads all, but nobody the first page of memory.
		if err := syscall.Mount("/proc/self/mem", p.path(name), "", syscall.MS_BIND, ""); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("mounting: %v", err)
			}
			t.Skipf("mounting: %v", err)
		}
		t.Cleanup(func() { check(syscall.Unmount(p.path(name), syscall.MNT_DETACH)) })
	}
	p.write(absent, nil) // CKSUMS may name it
	expect(t, p.verify(true).Findings, [][3]string{{"unreadable", "CKSUMS", "CKSUMS: "}, {"unreadable", up, up + ": "}})
}

// A mirror as it was built, where images are links to their sources.
func TestBuilt(t *testing.T) {
	dir := t.TempDir()
	p := place{t, build(dir)}
	r := p.verify(true)
	if want := 2 + 3 + 2 + 6; r.Files != want || r.Deltas != 2 || len(r.Findings) > 0 || r.Bytes < 360448+319488+339968 {
		t.Errorf("%+v, want %d files and 2 deltas", r, want)
	}
	p.rot(older)
	source := filepath.Join(dir, "images", newer)
	check(os.WriteFile(source, flip(p.read(newer)), 0o666))
	check(os.Chtimes(source, time.Unix(1, 0), time.Unix(1, 0)))
	expect(t, p.verify(false).Findings, [][3]string{{"damaged", older, "sha256"}, {"modified", newer, "sha256"}})
}

// What the predecessor publishes: no index, no SHA256SUMS, no blake3. Its deltas
// are not among the fixtures.
func TestPredecessor(t *testing.T) {
	p := place{t, filepath.Join(t.TempDir(), "mirror")}
	for _, path := range append(testdata.Glob(t, "images/*.img"), testdata.Path("predecessor/CKSUMS")) {
		p.write(filepath.Base(path), must(os.ReadFile(path)))
	}
	for _, path := range testdata.Glob(t, "predecessor/*.json") {
		p.write("meta/"+filepath.Base(path), must(os.ReadFile(path)))
	}
	p.write(".checksums/x", nil)
	expectMissing := func(more ...[3]string) {
		t.Helper()
		r := p.verify(true)
		for _, f := range r.Findings {
			if f.Problem == Missing && strings.HasPrefix(f.Path, "rdiffs/") && f.Detail == amxaDoc+" and CKSUMS name it" {
				continue
			}
			if len(more) == 0 || f.Path != more[0][1] || string(f.Problem) != more[0][0] {
				t.Errorf("%+v, want %v", f, more)
				continue
			}
			more = more[1:]
		}
		if len(more) > 0 || r.Files != 5+2+1 || r.Deltas != 0 {
			t.Errorf("%v is not found; %+v", more, r)
		}
	}
	expectMissing([3]string{"note", ".checksums"})
	p.rot(free)
	p.write("SHA256SUMX", nil)
	expectMissing([3]string{"note", ".checksums"}, [3]string{"orphan", "SHA256SUMX"}, [3]string{"damaged", free})
}

// A verification that is cancelled at any point says so, and progress goes from
// nothing to all.
func TestCancelled(t *testing.T) {
	p := newPlace(t)
	p.rot(up)
	cancelled := 0
	for point := range int64(200) {
		ctx, cancel := context.WithCancel(t.Context())
		var calls, last atomic.Int64
		r, err := Verify(ctx, Options{MirrorDir: p.dir, Deep: true, Jobs: 2, Progress: func(done, total int64) {
			if done == total {
				last.Store(done)
			} else if done > total || total < 1_800_000 {
				t.Errorf("%d of %d", done, total)
			}
			if calls.Add(1) > point {
				cancel()
			}
		}})
		cancel()
		if err == nil {
			if last.Load() == 0 || r.Deltas != 1 {
				t.Errorf("progress does not end; %+v", r)
			}
			break
		}
		cancelled++
		if !errors.Is(err, context.Canceled) || r.Findings != nil {
			t.Fatalf("point %d: %v", point, err)
		}
	}
	if cancelled < 10 {
		t.Errorf("only %d runs were cancelled", cancelled)
	}
}

func TestNoMirror(t *testing.T) {
	empty, file := t.TempDir(), filepath.Join(t.TempDir(), "file")
	check(os.WriteFile(file, nil, 0o666))
	check(os.Mkdir(filepath.Join(empty, "meta"), 0o777))
	check(os.WriteFile(filepath.Join(empty, "meta", "x.y.txt"), nil, 0o666))
	for dir, want := range map[string]error{
		empty: ErrNoMirror, file: nil, filepath.Join(empty, "none"): os.ErrNotExist,
	} {
		_, err := Verify(t.Context(), Options{MirrorDir: dir})
		_, err2 := StatusOf(dir)
		if err == nil || err2 == nil || want != nil && (!errors.Is(err, want) || !errors.Is(err2, want)) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, %v, want %v", dir, err, err2, want)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(cancelled, Options{MirrorDir: newPlace(t).dir}); err != context.Canceled {
		t.Errorf("cancelled before it began: %v", err)
	}
}

// Findings are collected concurrently, and reported in one order.
func TestFindings(t *testing.T) {
	if r := newFindings().sorted(); r.Findings == nil {
		t.Error("no findings are null in JSON")
	}
	for _, c := range []struct {
		name    string
		add     []Finding
		damaged bool
		want    [][3]string
	}{
		{"none", nil, false, nil},
		{"no damage", []Finding{{"b", Note, ""}, {"a", Orphan, ""}, {"a", Waiting, ""}}, false, [][3]string{{"orphan", "a", ""}, {"waiting", "a", ""}, {"note", "b", ""}}},
		{"by path, problem and detail", []Finding{{"b", Damaged, ""}, {"a", Missing, "2"}, {"a", Missing, "1"}, {"a", Damaged, "3"}}, true,
			[][3]string{{"damaged", "a", "3"}, {"missing", "a", "1"}, {"missing", "a", "2"}, {"damaged", "b", ""}}},
	} {
		f := newFindings()
		var adders sync.WaitGroup
		for _, one := range c.add {
			adders.Go(func() {
				f.add(one.Path, one.Problem, one.Detail)
				f.countFile(5)
				f.countDelta()
			})
		}
		adders.Wait()
		if f.damaged() != c.damaged {
			t.Errorf("%s: damaged %v", c.name, f.damaged())
		}
		r, n := f.sorted(), len(c.add)
		expect(t, r.Findings, c.want)
		if r.Files != n || r.Bytes != int64(5*n) || r.Deltas != n {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestReportJSON(t *testing.T) {
	r := Report{1, 2, 3, []Finding{{"a", Damaged, "b"}}}
	want := `{"files":1,"bytes":2,"deltas":3,"findings":[{"path":"a","problem":"damaged","detail":"b"}]}`
	if got := must(json.Marshal(r)); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
