package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const (
	chain1 = "puavo-os-chain-buster-2022-03-01-000000-amd64.img"
	chain2 = "puavo-os-chain-buster-2022-03-02-000000-amd64.img"
	chain3 = "puavo-os-chain-buster-2022-03-03-000000-amd64.img"

	defaultLink = "ltsp.img"
	backupLink  = "ltsp-backup.img"
)

// chainData returns an image of three, each of which has 3 MiB that the one before
// has not.
func chainData(image string) []byte {
	i := slices.Index([]string{chain1, chain2, chain3}, image)
	return random(15 << 20)[i*3<<20 : (i+3)*3<<20]
}

// onlyNeighbours takes the delta that leaves an image out from the meta of a mirror.
func onlyNeighbours(mirror string) {
	path := filepath.Join(mirror, filepath.FromSlash(meta.SeriesPath(name(chain1).Series())))
	s := must(meta.ParseSeries(must(os.ReadFile(path))))
	last := s.Newest()
	last.Diffs = slices.DeleteFunc(last.Diffs, func(d meta.Diff) bool { return d.Base == name(chain1) })
	if err := os.WriteFile(path, must(s.Encode()), 0o666); err != nil {
		panic(err)
	}
}

// childEnv makes the test binary an update, with these words: mirror, directory,
// image.
const childEnv = "CLIENT_TEST_UPDATE"

func childOptions(mirror, dir, image string) client.Options {
	return client.Options{
		Mirrors: []string{mirror}, Dir: dir, Image: image, DefaultLink: defaultLink, Prefer: client.PreferTraffic,
		Log: slog.New(slog.DiscardHandler),
	}
}

func runChild(words string) int {
	w := strings.Split(words, "|")
	if _, err := client.Update(context.Background(), childOptions(w[0], w[1], w[2])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// slowly keeps a site to some MB a second.
func slowly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(slowWriter{w}, r)
	})
}

// atOnce does not.
func atOnce(h http.Handler) http.Handler { return h }

type slowWriter struct{ http.ResponseWriter }

func (w slowWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		piece := p[:min(len(p), 100<<10)]
		var m int
		m, err = w.ResponseWriter.Write(piece)
		n, p = n+m, p[m:]
		w.ResponseWriter.(http.Flusher).Flush()
		time.Sleep(20 * time.Millisecond)
	}
	return n, err
}

// killed is what an update does that is killed: over one delta, over two in a row,
// or with the full image.
type killed struct {
	mirror  string
	have    string
	image   string
	fetches []string
}

var killedUpdates = []killed{
	{"huge", huge1, huge2, []string{deltaFile(huge1, huge2)}},
	{"chain", chain1, chain3, []string{deltaFile(chain1, chain2), deltaFile(chain2, chain3)}},
	{"chain", other, chain3, []string{chain3}},
	{"compact huge", huge1, huge2, []string{compactFile(huge1, huge2)}},
	{"compact chain", chain1, chain3, []string{compactFile(chain1, chain2), compactFile(chain2, chain3)}},
}

// An update that is killed at any instant leaves the default image whole, as it was
// or new, and no image that is not; the next run gets what is missing, and only
// that, and all ends as if nothing had happened.
func TestKill(t *testing.T) {
	t.Parallel()
	kills, parallel := testdata.Scale(85, 10), 10
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var all sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range kills {
		after := time.Duration(random.Int64N(int64(3 * time.Second)))
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			killedUpdates[i%len(killedUpdates)].kill(t, after)
		})
	}
	all.Wait()
}

// kill kills an update after some time and looks at what is left, and at what the
// next one makes of that.
func (k killed) kill(t *testing.T, after time.Duration) {
	p, s := newPlace(t, k.have), newBreakingFor(t, k.mirror, slowly)
	if err := os.Link(filepath.Join(p.dir, k.have), filepath.Join(p.dir, defaultLink)); err != nil {
		t.Error(err)
		return
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{s.URL, p.dir, k.image}, "|"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	time.Sleep(after)
	cmd.Process.Kill()
	cmd.Wait()
	p.whole()
	missing, got := k.missing(p), s.sent.Load()
	s = newBreakingFor(t, k.mirror, atOnce) // the other may still be sending to the dead one
	if _, err := client.Update(t.Context(), childOptions(s.URL, p.dir, k.image)); err != nil {
		t.Errorf("after a kill at %v: %v", after, err)
	}
	if s.sent.Load() != missing {
		t.Errorf("after a kill at %v and %d bytes the next run fetched %d bytes, %d were missing", after, got, s.sent.Load(), missing)
	}
	p.want(map[string]string{
		k.have: imageText(k.have), backupLink: imageText(k.have),
		k.image: imageText(k.image), defaultLink: imageText(k.image),
	})
}

// whole checks that what has an image's name is one, and the default link too.
func (p *place) whole() {
	p.t.Helper()
	files := p.files()
	if _, ok := files[defaultLink]; !ok {
		p.t.Errorf("the default image is missing among %q", slices.Sorted(maps.Keys(files)))
	}
	for f, data := range files {
		if strings.HasSuffix(f, ".img") && !slices.ContainsFunc(everyImage, func(im string) bool {
			return data == imageText(im) && (f == im || f == defaultLink || f == backupLink)
		}) {
			p.t.Errorf("%s of %d bytes is no whole image", f, len(data))
		}
	}
}

var everyImage = []string{image3, other, huge1, huge2, chain1, chain2, chain3}

// missing returns how many bytes of the route have not come, as far as what is in
// the directory tells.
func (k killed) missing(p *place) (n int64) {
	if _, err := os.Stat(filepath.Join(p.dir, k.image)); err == nil {
		return 0
	}
	for i, fetched := range slices.Backward(k.fetches) {
		made := k.image
		if i < len(k.fetches)-1 {
			made = chain2
		}
		var journal struct{ Position struct{ Delta int64 } }
		data, err := os.ReadFile(filepath.Join(p.dir, made+".tmp.journal"))
		if err == nil {
			err = json.Unmarshal(data, &journal)
		}
		if p.knows(made + ".tmp") { // it is complete
			return n
		}
		n += must(os.Stat(filepath.Join(mirrorDir(k.mirror), fetched))).Size() - journal.Position.Delta
		if err == nil {
			return n
		}
	}
	return n
}

// knows reports whether the digest of a file is known.
func (p *place) knows(file string) bool {
	data, _ := os.ReadFile(filepath.Join(p.dir, ".image_updates_known"))
	var known struct{ Files map[string]any }
	_ = json.Unmarshal(data, &known)
	return known.Files[file] != nil
}

// A disk that others fill at any point of an update ends it with an error that says
// so. The default image is as it was, what was made is kept where the disk allows,
// and with room the next run fetches only what is missing.
func TestDiskGetsFull(t *testing.T) {
	t.Parallel()
	points := testdata.Scale(40, 10)
	for i := range points {
		k := killedUpdates[i%len(killedUpdates)]
		disk := testdata.SmallDisk(t, 32<<20)
		p, s := newPlaceIn(t, disk, k.have), newBreakingFor(t, k.mirror, atOnce)
		if err := os.Link(filepath.Join(disk, k.have), filepath.Join(disk, defaultLink)); err != nil {
			t.Fatal(err)
		}
		o := childOptions(s.URL, disk, k.image)
		var once sync.Once
		o.Progress = func(done, total int64) {
			if done*int64(points) >= total*int64(i) {
				once.Do(func() { p.fill() })
			}
		}
		_, err := client.Update(t.Context(), o)
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room in "+disk) {
			t.Errorf("full at %d of %d: %v", i, points, err)
		}
		p.whole()
		os.Remove(filepath.Join(disk, "ballast"))
		missing := k.missing(p)
		s.countAgain()
		o.Progress = nil
		if _, err := client.Update(t.Context(), o); err != nil || s.sent.Load() != missing {
			t.Errorf("full at %d of %d: the next run fetched %d bytes, %d were missing; %v", i, points, s.sent.Load(), missing, err)
		}
		p.want(map[string]string{
			k.have: imageText(k.have), backupLink: imageText(k.have),
			k.image: imageText(k.image), defaultLink: imageText(k.image),
		})
	}
}

// fill takes all the room that the disk has.
func (p *place) fill() {
	f, err := os.Create(filepath.Join(p.dir, "ballast"))
	if err != nil {
		return // there is none any more
	}
	defer f.Close()
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
}
