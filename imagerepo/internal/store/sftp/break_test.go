package sftp

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/pkg/sftp"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/storetest"
	"puavo-image-repository/testdata"
)

// length is that of payload of several chunks.
const length = 3*chunk + 12345

// want fails the test if a file below root is not the payload.
func want(t *testing.T, root string, c *storetest.Content) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(root, c.Name))
	if err != nil || string(got) != c.Data() {
		t.Errorf("%s has %d bytes of %d, or other ones, %v", c.Name, len(got), c.Size, err)
	}
}

// publish stages and releases.
func publish(t *testing.T, s *Store, c *storetest.Content) {
	t.Helper()
	ok(t, s.Stage(t.Context(), c.Content))
	ok(t, s.Release(t.Context(), c.Content))
	if c.Sent()+c.Found() != c.Size {
		t.Errorf("of %d bytes %d were sent, %d found", c.Size, c.Sent(), c.Found())
	}
}

// A server that is killed in the middle of a Stage and comes back does not end it, and what
// has arrived is not sent again.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	root := t.TempDir()
	o := options(server, root)
	var paced atomic.Int64
	killed := make(chan struct{})
	o.Pace = func(_ context.Context, n int) error {
		if now := paced.Add(int64(n)); now > 2*chunk+chunk/2 && now-int64(n) <= 2*chunk+chunk/2 {
			server.Stop()
			go func() { // ends at once, or when the server runs
				defer close(killed)
				server.Start()
			}()
		}
		return nil
	}
	s := opened(t, o)
	c := storetest.NewContent(t, "a.img", length)
	publish(t, s, c)
	<-killed
	want(t, root, c)
	if more := paced.Load() - length; more <= 0 || more > chunk {
		t.Errorf("%d bytes were sent again, want at most a chunk", more)
	}
}

// A server that does not come back is an error after some attempts. Another process
// continues when it has come back.
func TestServerGone(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	root := t.TempDir()
	o := options(server, root)
	var paced atomic.Int64
	o.Pace = func(_ context.Context, n int) error {
		if paced.Add(int64(n)) == 2*chunk+slice { // the first of the third chunk
			server.Stop()
		}
		return nil
	}
	s := opened(t, o)
	err := s.Stage(t.Context(), storetest.NewContent(t, "a.img", length).Content)
	if !errors.Is(err, errUnreachable) || !strings.Contains(err.Error(), "5 attempts") {
		t.Errorf("%v", err)
	}
	if err := s.Write(t.Context(), "file", nil); !errors.Is(err, errUnreachable) {
		t.Errorf("write: %v", err)
	}
	server.Start()
	c := storetest.NewContent(t, "a.img", length)
	o.Pace = nil
	publish(t, opened(t, o), c)
	want(t, root, c)
	if c.Found() != 2*chunk {
		t.Errorf("%d bytes were found, want %d", c.Found(), 2*chunk)
	}
	publish(t, s, storetest.NewContent(t, "b.img", 10)) // and the old store works again
}

// A server that is silent is an error, unless a new connection works.
func TestStalled(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	p := newProxy(t, server)
	o := options(server, t.TempDir())
	o.Port = p.port
	s := openedBy(t, o, clock{connect: 20 * time.Second, ask: 50 * time.Millisecond, silence: time.Second, retry: time.Millisecond})
	s.clock.connect = 300 * time.Millisecond // what stalls does not answer, however long we wait
	c := storetest.NewContent(t, "a.img", length)
	count := c.Done
	c.Done = func(n int64, sent bool) {
		count(n, sent)
		p.stall.Store(c.Sent() > chunk)
	}
	begin := time.Now()
	if err := s.Stage(t.Context(), c.Content); !errors.Is(err, errUnreachable) && !isLost(err) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Stat(ctx, "file"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled while nothing goes through: %v", err)
	}
	p.stall.Store(false)
	s.clock.connect = 20 * time.Second
	if _, err := s.Stat(t.Context(), "file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after it: %v", err)
	}
}

// A slow link is not taken for a dead one, although requests for an answer wait behind payload.
func TestSlow(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	p := newProxy(t, server)
	p.speed.Store(1 << 20)
	o := options(server, t.TempDir())
	o.Port = p.port
	s := openedBy(t, o, clock{connect: 20 * time.Second, ask: 20 * time.Millisecond, silence: 2 * time.Second, retry: time.Millisecond})
	c := storetest.NewContent(t, "a.img", 4<<20)
	publish(t, s, c)
	want(t, o.Path, c)
	if sent := p.sent.Load(); sent > 5<<20 {
		t.Errorf("%d bytes were sent for 4 MiB: it was connected again", sent)
	}
}

// Wherever a connection ends, each call does what it says, once.
func TestCutEverywhere(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	p := newProxy(t, server)
	step := int64(1)
	if testing.Short() {
		step = 13
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, s *Store, root string)
	}{
		{"create", func(t *testing.T, s *Store, root string) {
			ok(t, s.Create(t.Context(), "folder/file", []byte("mine")))
			if err := s.Create(t.Context(), "folder/file", []byte("other")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("the second: %v", err)
			}
			if got, _ := os.ReadFile(root + "/folder/file"); string(got) != "mine" {
				t.Errorf("it holds %q", got)
			}
		}},
		{"replace", func(t *testing.T, s *Store, root string) {
			ok(t, s.Create(t.Context(), "file", []byte("old")))
			ok(t, s.Replace(t.Context(), "file", []byte("old"), []byte("new")))
			if err := s.Replace(t.Context(), "file", []byte("old"), []byte("other")); !errors.Is(err, store.ErrOther) {
				t.Errorf("the second: %v", err)
			}
			if got, _ := os.ReadFile(root + "/file"); string(got) != "new" {
				t.Errorf("it holds %q", got)
			}
			if left, _ := os.ReadDir(filepath.Join(root, store.Aside)); len(left) > 2 { // of two that were cut
				t.Errorf("left are %v", left)
			}
		}},
		{"payload", func(t *testing.T, s *Store, root string) {
			p := storetest.NewContent(t, "folder/a.img", 1<<20)
			publish(t, s, p)
			want(t, root, p)
		}},
		{"the rest", func(t *testing.T, s *Store, root string) {
			ok(t, s.Write(t.Context(), "a/file", []byte("text")))
			ok(t, s.Write(t.Context(), "b/file", []byte("text")))
			ok(t, s.Remove(t.Context(), "a/file"))
			ok(t, s.Sweep(t.Context(), nil))
			if files, err := s.List(t.Context()); err != nil || len(files) != 1 || files[0].Name != "b/file" {
				t.Errorf("%v, %v", files, err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			after := int64(0)
			for ended := true; ended && !t.Failed(); after += step {
				root := t.TempDir()
				o := options(server, root)
				o.Port = p.port
				s := opened(t, o)
				p.after.Store(after)
				c.do(t, s, root)
				ended = p.after.Swap(-1) < 0
				if t.Failed() {
					t.Logf("it was cut after %d answers", after)
				}
				s.Close()
			}
			if after < 10 {
				t.Errorf("there were only %d answers", after)
			}
		})
	}
}

// What Stage finds at the server counts only if it is certain, and is what Stage would send.
func TestResume(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	c := storetest.NewContent(t, "a.img", length)
	hole := strings.Repeat("\x00", chunk)
	rows := []struct {
		name   string
		change func(file, sums []byte) (newFile, newSums []byte)
		found  int64
	}{
		{"whole", func(file, sums []byte) ([]byte, []byte) { return file, sums }, length},
		{"a hole in the last chunk that is known", func(file, sums []byte) ([]byte, []byte) {
			return append(append(file[:chunk:chunk], hole[:100]...), file[chunk+100:2*chunk]...), sums[:32]
		}, chunk},
		{"a hole in front of a known chunk", func(file, sums []byte) ([]byte, []byte) {
			return append([]byte(hole), file[chunk:]...), append(make([]byte, 32), sums[32:]...)
		}, length - chunk},
		{"shorter than is known", func(file, sums []byte) ([]byte, []byte) { return file[:2*chunk-1], sums }, chunk},
		{"a digest in part", func(file, sums []byte) ([]byte, []byte) { return file, sums[:40] }, chunk},
		{"no digests", func(file, sums []byte) ([]byte, []byte) { return file, nil }, 0},
		{"other bytes, and their digest", func(file, sums []byte) ([]byte, []byte) { return file, append(make([]byte, 32), sums[32:]...) }, length - chunk},
		{"no file", func(file, sums []byte) ([]byte, []byte) { return nil, sums }, 0},
		{"too long", func(file, sums []byte) ([]byte, []byte) { return append(file, 0), sums }, 0},
	}
	if testing.Short() {
		rows = rows[:2]
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			root := t.TempDir()
			s := opened(t, options(server, root))
			ok(t, s.Stage(t.Context(), c.Content))
			staged := filepath.Join(root, c.Staged())
			file, sums := row.change(read(t, staged), read(t, staged+sums))
			write(t, staged, file)
			write(t, staged+".sums", sums)
			if file == nil {
				ok(t, os.Remove(staged))
			}
			again := storetest.NewContent(t, "a.img", length)
			publish(t, s, again)
			want(t, root, again)
			if again.Found() != row.found {
				t.Errorf("%d bytes were found, want %d", again.Found(), row.found)
			}
			if left, _ := os.ReadDir(filepath.Join(root, store.Aside)); len(left) > 0 {
				t.Errorf("left are %v", left)
			}
		})
	}
}

// The pace is asked for each byte, and its error ends Stage.
func TestPace(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	o := options(server, t.TempDir())
	var paced, most atomic.Int64
	enough := errors.New("enough")
	o.Pace = func(_ context.Context, n int) error {
		if now := paced.Add(int64(n)); most.Load() > 0 && now > most.Load() {
			return enough
		}
		return nil
	}
	s := opened(t, o)
	publish(t, s, storetest.NewContent(t, "a.img", 1<<20+1))
	if paced.Load() != 1<<20+1 {
		t.Errorf("it was asked for %d bytes", paced.Load())
	}
	most.Store(paced.Load() + 1<<20)
	if err := s.Stage(t.Context(), storetest.NewContent(t, "a.img", 5<<20).Content); !errors.Is(err, enough) {
		t.Errorf("%v", err)
	}
}

// The number of attempts counts from the last one that got further.
func TestAttempts(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	other := errors.New("other")
	cancelled, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, c := range []struct {
		name  string
		ctx   context.Context
		lost  int   // attempts after which the connection is lost
		each  int64 // progress of each
		then  error
		want  error
		calls int
	}{
		{"at once", t.Context(), 0, 0, nil, nil, 1},
		{"another error", t.Context(), 0, 0, other, other, 1},
		{"lost, and another error", t.Context(), 2, 0, other, other, 3},
		{"lost almost too often", t.Context(), attempts - 1, 0, nil, nil, attempts},
		{"lost too often", t.Context(), attempts, 0, nil, client.ErrSSHFxConnectionLost, attempts},
		{"lost often, with progress", t.Context(), 3 * attempts, 1, nil, nil, 3*attempts + 1},
		{"cancelled", cancelled, attempts, 0, context.Canceled, context.Canceled, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := opened(t, options(server, t.TempDir()))
			calls, far := 0, int64(0)
			err := s.do(c.ctx, func() int64 { return far }, func(l *link) error {
				calls++
				far += c.each
				if c.ctx == cancelled && calls == 2 {
					cancel()
				}
				if calls <= c.lost {
					return client.ErrSSHFxConnectionLost
				}
				return c.then
			})
			if !errors.Is(err, c.want) || c.want == nil && err != nil || calls != c.calls {
				t.Errorf("%v after %d calls, want %v after %d", err, calls, c.want, c.calls)
			}
		})
	}
}
