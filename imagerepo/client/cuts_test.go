package client_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

var seed = flag.Uint64("seed", 0, "of the random cuts; 0: another each time")

// betweenMarks is how many bytes may come twice, over several runs, for each
// connection that broke: 1 MiB is between two places to go on from, 1 MiB is the
// piece that is made at once, and two buffers are read ahead.
const betweenMarks = 2<<20 + 2*oneBuffer

// newRandom returns random numbers, and logs how to get the same again.
func newRandom(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("again with -seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// randomCuts ends one connection after the other after so many bytes, but less
// than most.
func randomCuts(r *rand.Rand, connections int, least, most int64) spoil {
	var spoils []spoil
	for range connections {
		at := least + r.Int64N(most-least)
		spoils = append(spoils, []spoil{cutAfter(at), resetAfter(at)}[r.IntN(2)])
	}
	return first(spoils...)
}

// Where the connection breaks, one time or several in a run, the same run goes on
// from there.
func TestRandomCuts(t *testing.T) {
	each, r := nginxes(t), newRandom(t)
	all, several := testdata.Scale(34, 6), testdata.Scale(4, 2)
	for i := range all {
		way, cuts := ways[i%len(ways)], 1
		n := each[way.mirror]
		size := fileSize(t, n.dir, way.file)
		if i >= all-several {
			cuts = 2 + r.IntN(8)
		}
		spoil := randomCuts(r, cuts, 0, size/int64(cuts))
		t.Run(fmt.Sprintf("%d cuts of %s", cuts, way.name), func(t *testing.T) {
			x := newProxy(t, n, spoil)
			p := way.place(t)
			o := p.options(x.URL, huge2)
			o.Patience.Attempts = 10 // some may bring hardly anything
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			p.want(made(way.have, huge2))
			x.wantOnce(way.file, oneBuffer)
			if got := x.requests(way.file); got != cuts+1 {
				t.Errorf("%d requests after %d cuts", got, cuts)
			}
		})
	}
}

// Where each run is cut, the next goes on from what the journal tells, and between
// them there is nothing that is wrong.
func TestRandomRuns(t *testing.T) {
	each, r := nginxes(t), newRandom(t)
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			least, most, twice := int64(3<<20), int64(8<<20), int64(betweenMarks)
			if way.mirror != "huge" { // of a section that is cut, all comes again
				least, most, twice = 9<<20, 15<<20, 8<<20
			}
			x := newProxy(t, each[way.mirror], randomCuts(r, 10, least, most))
			p := way.place(t)
			o := p.options(x.URL, huge2)
			o.Patience.Attempts = 1
			runs, err := 0, errors.New("not yet")
			for ; err != nil && runs < 20; runs++ {
				if _, err = client.Update(t.Context(), o); err != nil {
					p.wantResumable(huge2)
				}
			}
			if err != nil || runs < 2 {
				t.Fatalf("after %d runs: %v", runs, err)
			}
			p.want(made(way.have, huge2))
			x.wantOnce(way.file, twice)
		})
	}
}

// changes are what can be done to a file while it is fetched. The size of a file
// and the second of its last change make nginx's ETag.
var changes = []struct {
	name string
	do   func(m *changing)
	// What the error of the full image says in the same run, and in the next one; "":
	// it is made. Where a delta was changed the full image is made.
	run, next string
}{
	{"junk of the same size", func(m *changing) { m.replace(inverted(m.content()), time.Hour) }, "its BLAKE3", "its BLAKE3"},
	{"junk of the same size and time", func(m *changing) { m.replace(inverted(m.content()), 0) }, "its BLAKE3", "its BLAKE3"},
	{"shorter", func(m *changing) { m.replace(half(m.content()), time.Hour) }, "bytes, want", "bytes, want"},
	{"shorter than what has come", func(m *changing) { m.replace(m.content()[:1000], time.Hour) }, "bytes, want", "bytes, want"},
	{"longer", func(m *changing) { m.replace(longer(m.content()), time.Hour) }, "bytes, want", "bytes, want"},
	{"emptied", func(m *changing) { m.replace(nil, time.Hour) }, "bytes, want", "bytes, want"},
	{"removed", func(m *changing) { m.remove() }, "file does not exist", "file does not exist"},
	{"uploaded again", func(m *changing) { m.replace(m.content(), time.Hour) }, "", ""},
	{"uploaded again in the same second", func(m *changing) { m.replace(m.content(), 0) }, "", ""},
}

func inverted(data []byte) []byte {
	for i := range data {
		data[i] ^= 0xff
	}
	return data
}

// changing is a mirror of which a file is changed while it is fetched.
type changing struct {
	t    *testing.T
	dir  string
	file string
}

func (m *changing) path() string { return filepath.Join(m.dir, filepath.FromSlash(m.file)) }

func (m *changing) content() []byte {
	data, err := os.ReadFile(m.path())
	if err != nil {
		m.t.Error(err)
	}
	return data
}

// replace puts another file in the place of the one that is there, which is so
// much younger.
func (m *changing) replace(data []byte, younger time.Duration) {
	info, err := os.Stat(m.path())
	if err == nil {
		err = os.WriteFile(m.path()+".new", data, 0o666)
	}
	if err == nil {
		err = os.Chtimes(m.path()+".new", time.Time{}, info.ModTime().Add(younger))
	}
	if err == nil {
		err = os.Rename(m.path()+".new", m.path())
	}
	if err != nil {
		m.t.Error(err)
	}
}

func (m *changing) remove() {
	if err := os.Remove(m.path()); err != nil {
		m.t.Error(err)
	}
}

// link makes another mirror of the same files.
func link(t *testing.T, mirror string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mirror")
	for _, f := range []string{huge1, huge2, deltaFile(huge1, huge2), compactFile(huge1, huge2), meta.SeriesPath(name(huge1).Series())} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o777)
		if err := os.Link(filepath.Join(mirror, f), filepath.Join(dir, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return dir
}

// A file that is changed between two requests of one run is noticed, and no two
// halves are put together.
func TestChangedInRun(t *testing.T) {
	buildMirrors()
	for i, c := range changes {
		for _, way := range someWays(i) {
			t.Run(c.name+", "+way.name, func(t *testing.T) {
				m := &changing{t, link(t, mirrorDir(way.mirror)), way.file}
				x := newProxy(t, newNginx(t, m.dir), only1(way.file, first(func(x *exchange) {
					c.do(m)
					cutAfter(9 << 20)(x)
				})))
				p := way.place(t)
				p.updateOrSay(x.URL, way.have, c.run)
			})
		}
	}
}

// One that is changed between two runs is noticed by the next.
func TestChangedBetweenRuns(t *testing.T) {
	buildMirrors()
	for i, c := range changes {
		for _, way := range someWays(i) {
			t.Run(c.name+", "+way.name, func(t *testing.T) {
				m := &changing{t, link(t, mirrorDir(way.mirror)), way.file}
				n := newNginx(t, m.dir)
				p := way.place(t)
				p.cutOff(n, way.file)
				c.do(m)
				p.updateOrSay(n.url, way.have, c.next)
			})
		}
	}
}

// updateOrSay makes an update of which a file was changed: from a base it is made
// without it; if not, it is made or the error says something, and is made when all
// is right again.
func (p *place) updateOrSay(mirror string, have []string, says string) {
	p.t.Helper()
	_, err := p.update(mirror, huge2)
	if have == nil && says != "" {
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), huge2) {
			p.t.Errorf("%v, want %q", err, says)
		}
		p.wantResumable(huge2)
		_, err = p.update(mirrorDir("huge"), huge2)
	}
	if err != nil {
		p.t.Error(err)
	}
	p.want(made(have, huge2))
}

// cutOff makes a run that is cut off amid a file.
func (p *place) cutOff(n *nginx, file string) {
	p.t.Helper()
	o := p.options(newProxy(p.t, n, only1(file, cutAfter(9<<20))).URL, huge2)
	o.Patience.Attempts = 1
	if _, err := client.Update(p.t.Context(), o); !errors.Is(err, client.ErrIncomplete) {
		p.t.Fatalf("cut off: %v", err)
	}
	p.wantResumable(huge2)
}

// A new build of the mirror may have another delta to the same image. One who has read
// the meta before refuses it. With its meta it could be used from its beginning, but the
// full image continues what was made, which is less.
func TestAnotherDelta(t *testing.T) {
	buildMirrors()
	file := deltaFile(huge1, huge2)
	for _, c := range []struct {
		name    string
		publish bool // the meta, too
		run     string
	}{
		{"in the same run", false, "one"},
		{"in the same run, with its meta", true, "one"},
		{"between two runs", false, "two"},
		{"between two runs, with its meta", true, "two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &changing{t, link(t, mirrorDir("huge")), file}
			n := newNginx(t, m.dir)
			p := newPlace(t, huge1)
			var x *proxy
			if c.run == "one" {
				x = newProxy(t, n, only1(file, first(func(x *exchange) {
					m.rebuild(c.publish)
					cutAfter(9 << 20)(x)
				})))
			} else {
				p.cutOff(n, file)
				m.rebuild(c.publish)
				x = newProxy(t, n, nil)
			}
			if _, err := p.update(x.URL, huge2); err != nil {
				t.Error(err)
			}
			p.want(made([]string{huge1}, huge2))
			if bytes, _ := x.handed(huge2); bytes == 0 || bytes > fileSize(t, m.dir, huge2)-5<<20 {
				t.Errorf("%d bytes of the full image came", bytes)
			}
		})
	}
}

// rebuild replaces the delta by another one that makes the same image, and its
// entry in the meta if it is to be published.
func (m *changing) rebuild(publish bool) {
	data := imageData(huge2)
	literal := func(b []byte) []byte {
		return slices.Concat(binary.BigEndian.AppendUint32([]byte{0x43}, uint32(len(b))), b)
	}
	copied := []byte{0x4f, 0, 0, 0, 0, 0, 1 << 4, 0, 0} // 1 MiB of the beginning of the base
	another := slices.Concat([]byte("rs\x026"), literal(data[:1000]), literal(data[1000:5<<20]), copied, literal(data[6<<20:]), []byte{0})
	m.replace(another, time.Hour)
	if !publish {
		return
	}
	doc := &changing{m.t, m.dir, meta.SeriesPath(name(huge1).Series())}
	series := must(meta.ParseSeries(doc.content()))
	target, _ := series.Image(name(huge2))
	for i := range target.Diffs {
		if target.Diffs[i].Base == name(huge1) {
			target.Diffs[i].Sums = must(cksum.Read(m.t.Context(), strings.NewReader(string(another))))
		}
	}
	doc.replace(must(series.Encode()), time.Hour)
}
