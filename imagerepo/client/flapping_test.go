package client_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/testdata"
)

// flapping serves as a network of caches does at its worst: each answer has another
// ETag and date, and breaks after some hundred kilobytes.
func flapping(r func(n int64) int64) func(http.Handler) http.Handler {
	var answers atomic.Int64
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !isPayload(req.URL.Path) {
				next.ServeHTTP(w, req)
				return
			}
			n := answers.Add(1)
			next.ServeHTTP(&cutting{ResponseWriter: w, n: n, left: 200_000 + r(400_000)}, req)
		})
	}
}

// cutting sets the ETag and date of an answer, and breaks it.
type cutting struct {
	http.ResponseWriter
	n, left int64
}

func (c *cutting) WriteHeader(code int) {
	c.Header().Set("ETag", fmt.Sprintf(`"node %d"`, c.n))
	c.Header().Set("Last-Modified", time.Unix(c.n*1e6, 0).UTC().Format(http.TimeFormat))
	c.ResponseWriter.WriteHeader(code)
}

func (c *cutting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); c.left <= 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func (c *cutting) Flush() { c.ResponseWriter.(http.Flusher).Flush() }

// A client that is killed again and again, in such a network, makes the right image, and
// fetches little more than the delta has.
func TestKillFlapping(t *testing.T) {
	t.Parallel()
	for _, mirror := range []string{"huge", "compact huge"} {
		t.Run(mirror, func(t *testing.T) { killFlapping(t, mirror) })
	}
}

func killFlapping(t *testing.T, mirror string) {
	t.Parallel()
	random := newRandom(t)
	kills := testdata.Scale(50, 5)
	s := newBreakingFor(t, mirror, func(h http.Handler) http.Handler { return flapping(rand.Int64N)(slowly(h)) })
	p := newPlace(t, huge1)
	if err := os.Link(filepath.Join(p.dir, huge1), filepath.Join(p.dir, defaultLink)); err != nil {
		t.Fatal(err)
	}
	words := strings.Join([]string{s.URL, p.dir, huge2}, "|")
	killed := 0
	for ; killed < kills; killed++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+words)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100+random.Int64N(400)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		p.whole()
	}
	if _, err := client.Update(t.Context(), childOptions(s.URL, p.dir, huge2)); err != nil {
		t.Error(err)
	}
	image, base := imageText(huge2), imageText(huge1)
	p.want(map[string]string{huge1: base, huge2: image, defaultLink: image, backupLink: base})
	size := s.size(t, []string{huge1})
	t.Logf("%d kills: %d bytes were sent of a delta of %d", killed, s.sent.Load(), size)
	if most := size*11/10 + int64(killed)*4<<20; s.sent.Load() > most {
		t.Errorf("%d bytes were sent, more than %d", s.sent.Load(), most)
	}
}
