package pull

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/testdata"
)

// An image that cannot be made from another is fetched as a whole.
func TestRebuildFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(p *place, s *upstreamServer)
		fails  bool
	}{
		{"a damaged base", func(p *place, _ *upstreamServer) {
			p.Write("dest/"+image2, string(noise(1, len(p.Read("dest/"+image2)))))
		}, false},
		{"a delta that upstream does not have", func(_ *place, s *upstreamServer) {
			s.faults, s.fault, s.matches = 1<<20, status(404), func(file string) bool { return strings.HasSuffix(file, ".rdiff") }
		}, false},
		{"neither", func(_ *place, s *upstreamServer) { s.faults, s.fault = 1<<20, status(404) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image2)
			p.Build()
			s := serveMirror(t, p.Mirror)
			o := p.options()
			o.Sources, o.Policy.Deltas, o.Patience = []string{s.URL}, 0, quickly
			p.pull(o)
			p.PutFixture(image3)
			p.Build()
			s.mu.Lock()
			c.damage(p, s)
			s.mu.Unlock()
			var log bytes.Buffer
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			_, sum, err := Run(t.Context(), o)
			if (err != nil) != c.fails || sum.Rebuilt != 0 {
				t.Fatalf("%+v, %v", sum, err)
			}
			if !strings.Contains(log.String(), "cannot be made from another") {
				t.Errorf("no warning in %s", &log)
			}
			if !c.fails && !bytes.Equal(p.Read("dest/"+image3), testdata.Read(t, "images/"+image3)) {
				t.Error("it is another image")
			}
		})
	}
}

// A fault of this machine is not blamed on a mirror: no other is tried.
func TestLocalFault(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1)
	p.Build()
	second := serveMirror(t, p.Mirror)
	o := p.options()
	o.Sources = []string{p.Mirror + "," + second.URL}
	defer atomicfile.Observe(p.Dest, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Write && strings.HasSuffix(c.Name, ".img.tmp") {
			return syscall.EIO
		}
		return nil
	})()
	if _, _, err := Run(t.Context(), o); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v, want EIO", err)
	}
	if n := second.total(); n != 0 {
		t.Errorf("the second mirror has sent %d bytes", n)
	}
}

// What an earlier run has staged, and has not released, is not fetched again.
func TestStaged(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1)
	p.Build()
	s := serveMirror(t, p.Mirror)
	o := p.options()
	o.Sources = []string{s.URL}
	stop := atomicfile.Observe(p.Dest, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Rename && c.To == image1 {
			return syscall.EIO
		}
		return nil
	})
	if _, _, err := Run(t.Context(), o); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v, want EIO", err)
	}
	stop()
	s.total()
	var files []File
	o.Got = func(f File) { files = append(files, f) }
	if _, sum := p.pull(o); sum.Resumed == 0 || sum.Sent != 0 {
		t.Errorf("%+v", sum)
	}
	if len(files) != 1 || !files[0].Reused {
		t.Errorf("%+v", files)
	}
	if _, err := os.Stat(filepath.Join(p.Dest, ".publish", "x")); err == nil {
		t.Error("something is left")
	}
}
