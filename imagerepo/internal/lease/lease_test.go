package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/directory"
	"puavo-image-repository/imagerepo/internal/store/s3"
	"puavo-image-repository/meta/untrusted"
	"puavo-image-repository/testdata"
)

var quick = Times{Renew: 20 * time.Millisecond, Stale: 10 * time.Second, Pause: 50 * time.Millisecond}

func open(t *testing.T) (dir string, s store.Store) {
	dir = filepath.Join(t.TempDir(), "destination")
	s, err := directory.Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return dir, s
}

func take(t *testing.T, s store.Store) (context.Context, *Lease) {
	t.Helper()
	ctx, l, err := Take(t.Context(), s, quick, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return ctx, l
}

// A second publisher is refused, and reads who holds the lease; after Release it is free.
func TestTake(t *testing.T) {
	_, s := open(t)
	ctx, l := take(t, s)
	_, _, err := Take(t.Context(), s, quick, nil)
	for _, part := range []string{fmt.Sprintf("process %d", os.Getpid()), "since 20", "last heard of"} {
		if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), part) {
			t.Errorf("a second one: %v, want %q", err, part)
		}
	}
	if err := l.Check(ctx); err != nil {
		t.Error(err)
	}
	if err := l.Release(t.Context()); err != nil || ctx.Err() == nil {
		t.Errorf("releasing: %v, %v", err, ctx.Err())
	}
	_, l = take(t, s)
	l.Release(t.Context())
}

func TestTakeCancelled(t *testing.T) {
	_, s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Take(ctx, s, quick, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// dead returns the number of a process that has ended.
func dead(t *testing.T) int {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// Who finds a lease takes it over if its holder is gone, and only then.
func TestTakeOver(t *testing.T) {
	for _, c := range []struct {
		name string
		file holder
		age  time.Duration
		free bool
	}{
		{"young, of another host", holder{Holder: "host x", Host: "x", Process: dead(t)}, 0, false},
		{"young, of this host, running", holder{Holder: "host x", Host: thisHost(), Process: os.Getppid()}, 0, false},
		{"young, of this host, ended", holder{Holder: "host x", Host: thisHost(), Process: dead(t)}, 0, true},
		{"young, of an unknown host", holder{Holder: "host x", Process: dead(t)}, 0, false},
		{"nearly stale", holder{Holder: "host x"}, quick.Stale - 5*time.Second, false},
		{"stale", holder{Holder: "host x"}, quick.Stale + time.Second, true},
		{"from the future", holder{Holder: "host x"}, -time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, s := open(t)
			leave(t, dir, c.file.encode(), c.age)
			_, l, err := Take(t.Context(), s, quick, slog.New(slog.DiscardHandler))
			if c.free != (err == nil) || err != nil && !errors.Is(err, ErrHeld) {
				t.Fatalf("taking it: %v", err)
			}
			if err == nil {
				l.Release(t.Context())
			}
		})
	}
	t.Run("stale and damaged", func(t *testing.T) {
		dir, s := open(t)
		leave(t, dir, []byte("{"), quick.Stale+time.Second)
		_, l := take(t, s)
		l.Release(t.Context())
	})
}

// A file that is too large for a lease is not taken over.
func TestMost(t *testing.T) {
	for size, want := range map[int]error{4096: nil, 4097: untrusted.ErrTooLarge} {
		dir, s := open(t)
		data := holder{Holder: "host x"}.encode()
		leave(t, dir, append(data, make([]byte, size-len(data))...), time.Hour)
		_, l, err := Take(t.Context(), s, quick, slog.New(slog.DiscardHandler))
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
		if err == nil {
			l.Release(t.Context())
		}
	}
}

// A holder that cannot renew its lease gives it up one renewal before another takes it over.
func TestLasts(t *testing.T) {
	for _, c := range []struct {
		times Times
		want  time.Duration
	}{{Times{}, 9 * time.Minute}, {Times{Renew: time.Second, Stale: 10 * time.Second}, 9 * time.Second}} {
		l := &Lease{times: c.times.orDefault()}
		if got := time.Until(l.lasts()); got > c.want || got < c.want-time.Second {
			t.Errorf("%+v: %v, want %v", c.times, got, c.want)
		}
	}
}

// late is a store with another clock.
type late struct {
	store.Store
	by time.Duration
}

func (l late) Now(ctx context.Context) (time.Time, error) {
	now, err := l.Store.Now(ctx)
	return now.Add(l.by), err
}

// The age of a lease is by the clock of the destination.
func TestClock(t *testing.T) {
	dir, s := open(t)
	leave(t, dir, holder{Holder: "host x"}.encode(), 0)
	_, l, err := Take(t.Context(), late{s, time.Hour}, quick, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.Release(t.Context())
}

// Check looks at the destination.
func TestCheck(t *testing.T) {
	dir, s := open(t)
	ctx, l, err := Take(t.Context(), s, Times{time.Hour, 2 * time.Hour, time.Millisecond}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release(t.Context())
	leave(t, dir, holder{Holder: "host x", ID: "x"}.encode(), 0)
	if err := l.Check(ctx); !errors.Is(err, ErrLost) || ctx.Err() != nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
}

// leave writes a lease as if some time ago.
func leave(t *testing.T, dir string, data []byte, age time.Duration) {
	t.Helper()
	file, then := filepath.Join(dir, Name), time.Now().Add(-age)
	if err := errors.Join(os.WriteFile(file, data, 0o666), os.Chtimes(file, then, then)); err != nil {
		t.Fatal(err)
	}
}

// delayed is a store that calls meanwhile before it replaces a file. With compares it does so
// after it has compared the file, like a store that cannot compare and replace in one step.
type delayed struct {
	store.Store
	compares  bool
	meanwhile func()
}

func (d delayed) Replace(ctx context.Context, name string, old, data []byte) error {
	if !d.compares {
		d.meanwhile()
		return d.Store.Replace(ctx, name, old, data)
	}
	if f, err := d.Open(ctx, name); err != nil {
		return err
	} else if now, err := io.ReadAll(f); f.Close() != nil || err != nil || string(now) != string(old) {
		return store.ErrOther
	}
	d.meanwhile()
	return d.Write(ctx, name, data)
}

// Of two publishers that find the same stale lease, one takes it over, and the error of the
// other names it, whenever each of them writes.
func TestTwoTakers(t *testing.T) {
	server := testdata.NewS3(t)
	server.Bucket("bucket")
	t.Setenv("AWS_ACCESS_KEY_ID", testdata.S3Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testdata.S3Secret)
	bucket, err := s3.Open(t.Context(), s3.Options{Bucket: "bucket", Endpoint: server.URL, Region: "us-east-1", Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	times := Times{Renew: time.Minute, Stale: 10 * time.Minute, Pause: 200 * time.Millisecond}
	quiet := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		name     string
		compares bool // the slower one has compared before the faster one writes
		whole    bool // the faster one is sure that it has the lease before the slower one writes
		slower   bool // has it in the end
	}{
		{"the slower writes after the faster has it", false, true, false},
		{"the slower writes while the faster waits", false, false, false},
		{"likewise, without one step", true, false, true},
	} {
		for kind, s := range map[string]store.Store{"directory": nil, "S3": bucket} {
			t.Run(kind+", "+c.name, func(t *testing.T) {
				if s == nil {
					_, s = open(t)
				}
				if err := s.Write(t.Context(), Name, holder{Holder: "host x"}.encode()); err != nil {
					t.Fatal(err)
				}
				s := late{s, time.Hour} // to which it is stale
				faster := make(chan error, 1)
				replaced := false
				slow := delayed{s, c.compares, func() {
					replaced = true
					wrote := make(chan bool)
					go func() { // the test waits for its error
						f := delayed{s, false, func() {}}
						_, _, err := Take(t.Context(), noticing{f, wrote}, times, quiet)
						faster <- err
					}()
					<-wrote
					if c.whole {
						err := <-faster
						faster <- err
					}
				}}
				_, _, slower := Take(t.Context(), slow, times, quiet)
				if !replaced {
					t.Fatalf("the slower replaces nothing: %v", slower)
				}
				won, lost := <-faster, slower
				if c.slower {
					won, lost = lost, won
				}
				if won != nil || !errors.Is(lost, ErrHeld) || !strings.Contains(fmt.Sprint(lost), fmt.Sprintf("process %d", os.Getpid())) {
					t.Errorf("who should have it: %v; the other: %v", won, lost)
				}
			})
		}
	}
}

// noticing is a store that says when it has replaced a file.
type noticing struct {
	store.Store
	replaced chan bool
}

func (n noticing) Replace(ctx context.Context, name string, old, data []byte) error {
	err := n.Store.Replace(ctx, name, old, data)
	close(n.replaced)
	return err
}

// A lease that another has taken over ends the context, and Release leaves the other's alone.
func TestLost(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(dir string) error
		says  string
	}{
		{"taken over", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, Name), holder{Holder: "host other", ID: "x"}.encode(), 0o666)
		}, "host other"},
		{"removed", func(dir string) error { return os.Remove(filepath.Join(dir, Name)) }, "was removed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, s := open(t)
			ctx, l := take(t, s)
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("the context does not end")
			}
			if err := context.Cause(ctx); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("why: %v", err)
			}
			if err := l.Check(ctx); !errors.Is(err, ErrLost) {
				t.Errorf("checking: %v", err)
			}
			before, _ := os.ReadFile(filepath.Join(dir, Name))
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
			if after, _ := os.ReadFile(filepath.Join(dir, Name)); string(before) != string(after) {
				t.Errorf("it left %s, want %s", after, before)
			}
		})
	}
}

// cutOff is a store that can be cut off: calls then fail at once, or hang until their
// context ends.
type cutOff struct {
	store.Store
	off  atomic.Bool
	hang bool
}

func (c *cutOff) Stat(ctx context.Context, name string) (store.File, error) {
	if err := c.fail(ctx); err != nil {
		return store.File{}, err
	}
	return c.Store.Stat(ctx, name)
}

func (c *cutOff) Replace(ctx context.Context, name string, old, data []byte) error {
	if err := c.fail(ctx); err != nil {
		return err
	}
	return c.Store.Replace(ctx, name, old, data)
}

// fail returns an error if the store is cut off.
func (c *cutOff) fail(ctx context.Context) error {
	switch {
	case !c.off.Load():
		return nil
	case !c.hang:
		return errors.New("no network")
	}
	<-ctx.Done()
	return ctx.Err()
}

// A holder that is cut off has given the lease up before another takes it over.
func TestCutOff(t *testing.T) {
	for _, hang := range []bool{false, true} {
		t.Run(fmt.Sprint("hanging ", hang), func(t *testing.T) {
			t.Parallel()
			_, s := open(t)
			times := Times{Renew: 200 * time.Millisecond, Stale: time.Second, Pause: time.Millisecond}
			first := &cutOff{Store: s, hang: hang}
			ctx, _, err := Take(t.Context(), first, times, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			first.off.Store(true)
			for {
				_, second, err := Take(t.Context(), s, times, slog.New(slog.DiscardHandler))
				if err == nil {
					defer second.Release(t.Context())
					break
				}
				if !errors.Is(err, ErrHeld) {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			if !errors.Is(context.Cause(ctx), ErrLost) {
				t.Errorf("another has the lease, and the first still works: %v", context.Cause(ctx))
			}
		})
	}
}

// A lease is renewed: its file is written again, and says the same.
func TestRenew(t *testing.T) {
	dir, s := open(t)
	ctx, l := take(t, s)
	defer l.Release(t.Context())
	file := filepath.Join(dir, Name)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) < time.Minute {
			break
		} else if time.Now().After(end) {
			t.Fatal("it is not renewed")
		}
	}
	data, err := os.ReadFile(file)
	var h holder
	if err = errors.Join(err, json.Unmarshal(data, &h)); err != nil || h.ID != l.self.ID || ctx.Err() != nil {
		t.Errorf("%s: %v, %v", data, err, ctx.Err())
	}
}
