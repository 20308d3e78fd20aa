package compactdelta

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// Each write that fails ends the run with its error, leaves a mirror that clients can use, and
// the next run ends as one that nothing happened to.
func TestEachWriteFails(t *testing.T) {
	torrents := plan.Torrents{Of: plan.TorrentsOfDeltas}
	want := newPlace(t, image1, image3, image4)
	want.Torrents = torrents
	want.build()
	want.run()
	failed := make(map[atomicfile.Kind]int)
	for at := int64(1); ; at += int64(pick(1, 5, 15)) {
		p := newPlace(t, image1, image3, image4)
		p.Torrents, p.NoSync = torrents, false
		var n atomic.Int64
		stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
			if n.Add(1) == at {
				failed[c.Kind]++
				return &os.PathError{Op: string(c.Kind), Path: c.Name, Err: syscall.EIO}
			}
			return nil
		})
		_, s, err := Run(t.Context(), p.Options)
		stop()
		if at > n.Load() {
			break
		}
		if !errors.Is(err, syscall.EIO) && s.Made < 2 {
			t.Errorf("change %d fails: %v, %+v", at, err, s)
		}
		p.valid()
		p.build() // as the command does before each run
		if p.run(); p.tree() != want.tree() {
			t.Errorf("after change %d failed:\n%s\nwant\n%s", at, p.tree(), want.tree())
		}
		if left := p.left(); len(left) > 0 {
			t.Errorf("after change %d failed, %q are left", at, left)
		}
		os.RemoveAll(filepath.Dir(p.MirrorDir))
	}
	if t.Logf("failed: %v", failed); len(failed) < 4 {
		t.Errorf("these failed: %v", failed)
	}
}

// A disk that is full leaves compact deltas out, or ends the run, and nothing wrong is
// published.
func TestFullDisk(t *testing.T) {
	for room := int64(0); room < 400<<10; room += int64(testdata.Scale(20, 100)) << 10 {
		const size = 8 << 20
		p := newPlaceIn(t, testdata.SmallDisk(t, size), image1, image3, image4)
		n := free(p.MirrorDir) - room
		if err := os.WriteFile(filepath.Join(p.images, "ballast"), make([]byte, n), 0o666); err != nil {
			t.Fatal(err)
		}
		_, s, err := Run(t.Context(), p.Options)
		if err != nil || s.Made+s.Left != 2 || room < 100<<10 && (s.Left != 2 || !strings.Contains(s.Deltas[0].Reason, "make room")) {
			t.Errorf("%d bytes: %v, %+v", room, err, s)
		}
		encode = compact.Encode // which needs scratch files
		p.IgnoreSpace = true
		if _, s, err = Run(t.Context(), p.Options); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d bytes, nevertheless: %v, %+v", room, err, s)
		}
		encode = real
		p.valid()
		if err := os.Remove(filepath.Join(p.images, "ballast")); err != nil {
			t.Fatal(err)
		}
		if p.run(); len(p.published()) != 2 || len(p.left()) > 0 {
			t.Errorf("%d bytes, with room again: %v, %q", room, p.published(), p.left())
		}
	}
}

// What happens while a compact delta is made.
func TestMeanwhile(t *testing.T) {
	in := func(p *place, file string) string { return filepath.Join(p.MirrorDir, file) }
	overwrite := func(p *place, image string) {
		data := p.read(image)
		data[len(data)/2] ^= 1
		if err := os.WriteFile(in(p, image), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		do     func(p *place)
		want   string // of the first run
		reason string
		next   int // compact deltas that are published in the end
	}{
		{"nothing", func(*place) {}, "make", "", 1},
		{"another build", func(p *place) { p.build() }, "make", "", 1},
		{"the target is replaced", func(p *place) { p.write(image4, contents(image2)); p.build() }, "omit", "its images have changed", 1},
		{"the base is replaced", func(p *place) { p.write(image3, contents(image1)); p.build() }, "omit", "its images have changed", 1},
		{"the base leaves", func(p *place) { os.Remove(filepath.Join(p.images, image3)); p.build() }, "omit", "its images have changed", 0},
		{"a newer image comes", func(p *place) {
			os.Rename(filepath.Join(p.images, image4), filepath.Join(p.images, strings.Replace(image4, "2022", "2023", 1)))
			p.write(image4, contents(image4))
			p.build()
		}, "omit", "no longer wanted", 1}, // and one is dropped: the two have the same content
		{"the base is overwritten", func(p *place) { overwrite(p, image3) }, "omit", "not what is published", 1},
		{"the target is overwritten", func(p *place) { overwrite(p, image4) }, "omit", "not what is published", 1},
		{"the target becomes short", func(p *place) { os.Truncate(in(p, image4), 10) }, "omit", "", 1},
		{"the temporary files are removed", func(p *place) { os.RemoveAll(in(p, mirror.TmpPath(""))) }, "make", "", 1},
		{"somebody puts a file there", func(p *place) {
			os.Mkdir(in(p, mirror.CompactDir), 0o777)
			os.WriteFile(in(p, meta.CompactPath(compactOf(image3, image4))), []byte("mine"), 0o666)
		}, "omit", "--adopt", 0},
		{"a damaged record is there", func(p *place) {
			os.WriteFile(in(p, mirror.StateDir+"/"+compactOf(image3, image4)+".json"), []byte("{"), 0o666)
			os.WriteFile(in(p, mirror.StateDir+"/"+image4+".json"), []byte("{"), 0o666)
			os.WriteFile(in(p, ".repo/run.json"), []byte("{"), 0o666)
		}, "make", "", 1},
		{"another run makes it", func(p *place) {
			encode = real
			os.Remove(in(p, mirror.Making)) // as if that were on another machine
			p.run()
		}, "omit", "another run has made it", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image3, image4)
			encodeBy(t, func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
				encode = real
				c.do(p)
				if strings.Contains(c.name, "short") {
					return compact.Encode(ctx, w, base, target, o) // which is guarded
				}
				return real(ctx, w, base, target, o)
			})
			_, s, err := Run(t.Context(), p.Options)
			if err != nil || actions(s) != c.want || !strings.Contains(s.Deltas[0].Reason, c.reason) {
				t.Errorf("%v, %+v", err, s)
			}
			if s.Left > 0 && !strings.Contains(p.log.String(), "level=WARN") {
				t.Error("without a warning")
			}
			if !strings.Contains(c.name, "over") && !strings.Contains(c.name, "short") {
				p.valid()
			}
			os.Remove(filepath.Join(p.images, image3)) // what was overwritten is a link
			if c.next > 0 {
				p.write(image3, contents(image3))
			}
			p.write(image4, contents(image4))
			p.build()
			if p.run(); len(p.published()) != c.next {
				t.Errorf("in the end, %+v", p.published())
			}
		})
	}
}

// A compact delta that does not make its target is not published.
func TestWrong(t *testing.T) {
	for name, by := range map[string]encoder{
		"of another target": func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
			info, _ := real(ctx, io.Discard, base, target, o)
			_, err := real(ctx, w, base, base, o)
			return info, err
		},
		"with a wrong byte": func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
			return real(ctx, &flipping{w: w, at: 250}, base, target, o)
		},
		"with one more": func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
			info, err := real(ctx, w, base, target, o)
			w.Write([]byte{1})
			return info, err
		},
		"of other images, as it says": func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
			return real(ctx, w, target, base, o)
		},
	} {
		p := newPlace(t, image3, image4)
		before := p.tree()
		encodeBy(t, by)
		_, s, err := Run(t.Context(), p.Options)
		if err != nil || actions(s) != "omit" || p.tree() != before || !strings.Contains(p.log.String(), "the compact delta is left out") {
			t.Errorf("%s: %v, %+v", name, err, s)
		}
	}
	p := newPlace(t, image3, image4)
	failed := errors.New("failed")
	encodeBy(t, func(context.Context, io.Writer, compact.Image, compact.Image, compact.Options) (compact.Info, error) {
		return compact.Info{}, failed
	})
	if _, s, err := Run(t.Context(), p.Options); !errors.Is(err, failed) || s.Left != 1 {
		t.Errorf("%v, %+v", err, s)
	}
}

// flipping changes a byte of what is written.
type flipping struct {
	w  io.Writer
	at int
}

func (f *flipping) Write(p []byte) (int, error) {
	p = append([]byte(nil), p...)
	if f.at >= 0 && f.at < len(p) {
		p[f.at] ^= 1
	}
	f.at -= len(p)
	return f.w.Write(p)
}

// Whoever holds the lock is waited for, but not without an end. Of two runs the second leaves
// all to the first.
func TestLocks(t *testing.T) {
	defer func(p time.Duration) { patience = p }(patience)
	p := newPlace(t, image3, image4)
	quiet := slog.New(slog.DiscardHandler)
	holder, err := mirror.Open(p.MirrorDir, true, quiet)
	if err != nil {
		t.Fatal(err)
	}
	patience = 100 * time.Millisecond
	if _, s, err := Run(t.Context(), p.Options); !errors.Is(err, ErrLocked) || s.Left != 1 || len(p.published()) > 0 {
		t.Errorf("held: %v, %+v", err, s)
	}
	patience = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := Run(ctx, p.Options); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cancelled while it waits: %v", err)
	}
	time.AfterFunc(300*time.Millisecond, func() { holder.Close() })
	making, err := lockfile.Acquire(p.MirrorDir, mirror.Making)
	if err != nil {
		t.Fatal(err)
	}
	if s := p.run(); actions(s) != "omit" || !strings.Contains(p.log.String(), "another run makes compact deltas") {
		t.Errorf("another run: %+v, %s", s, &p.log)
	}
	making.Release()
	if s := p.run(); s.Made != 1 {
		t.Errorf("when it is free: %+v", s)
	}
}

// Builds that run all the time, and other runs, do no harm.
func TestTwoBuilders(t *testing.T) {
	encodeBy(t, compact.Encode)
	p := newPlace(t, image1, image3, image4)
	p.Policy.Compact = plan.Compact{Mode: plan.CompactAll, Full: true}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { // whose builds are tested against those runs
		for ctx.Err() == nil {
			m, err := mirror.OpenWhenFree(ctx, p.MirrorDir, true, time.Minute, p.Log)
			if err != nil && ctx.Err() == nil {
				done <- err
				return
			}
			if err == nil {
				time.Sleep(time.Millisecond)
				m.Close()
				time.Sleep(20 * time.Millisecond)
			}
		}
		done <- nil
	}()
	for range testdata.Scale(10, 2) {
		os.RemoveAll(filepath.Join(p.MirrorDir, mirror.CompactDir))
		p.Policy.Compact = plan.Compact{}
		waitFor(t, func() bool { return p.tryBuild() == nil })
		p.Policy.Compact = plan.Compact{Mode: plan.CompactAll, Full: true}
		if s := p.run(); s.Made < 4 || s.Left > 0 {
			t.Errorf("%+v, %s", s, &p.log)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// waitFor waits until something is so.
func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it does not become so")
}
