package imagerepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/internal/base"
	"puavo-image-repository/imagerepo/internal/budget"
	"puavo-image-repository/imagerepo/internal/mirror"
)

// meanwhile is an encoder that calls do when it has written some of a delta.
type meanwhile struct {
	base.Encoder
	do func()
}

func (m meanwhile) Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (delta.Stats, error) {
	return m.Encoder.Diff(ctx, &calling{dst, m.do}, target, progress)
}

type calling struct {
	io.Writer
	do func()
}

func (c *calling) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.do()
	return n, err
}

// encoding has all encoders call do while they write.
func encoding(t *testing.T, do func()) {
	imageEncoder = func(_ string, right base.Encoder) base.Encoder { return meanwhile{right, do} }
	t.Cleanup(func() { imageEncoder = nil })
}

// No delta is named whose base or target was overwritten since it was read: neither while
// the delta is made, nor after it was verified.
func TestOverwrittenWhileDiffed(t *testing.T) {
	for _, image := range []string{image3, image4} {
		p := newPlace(t, image3, image4)
		var once sync.Once
		encoding(t, func() { once.Do(func() { p.overwrite(image) }) })
		if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v, want ErrChanged", image, err)
		}
		if tree := p.tree(); strings.Contains(tree, ".rdiff") {
			t.Errorf("%s was overwritten, and a delta is named:\n%s", image, tree)
		}

		p = newPlace(t, image3, image4)
		imageEncoder = nil
		p.Progress = func(done, total int64) {
			if done == total { // the last delta is verified, and has just been digested
				p.overwrite(image)
			}
		}
		if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, ErrChanged) {
			t.Errorf("%s, at the end: %v, want ErrChanged", image, err)
		}
	}
}

// A run that is cancelled while it makes deltas leaves none, nor parts of them.
func TestCancelledWhileDiffed(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	encoding(t, cancel)
	if _, _, err := Build(ctx, p.Options); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
	for _, pattern := range []string{"rdiffs/*", mirror.TmpPath("*")} {
		if left := testGlob(t, filepath.Join(p.MirrorDir, pattern)); len(left) > 0 {
			t.Errorf("it leaves %v", left)
		}
	}
	imageEncoder = nil
	p.build()
}

// The same images and options give the same bytes: with any number of jobs and cores,
// with as little memory as deltas do not depend on, whether the images are read in the
// same run, and so indexed while they are, or known.
func TestSameBytes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want string
	for _, c := range []struct {
		jobs, cores int
		memory      int64
	}{{1, 1, 0}, {2, 2, 0}, {3, 8, 100 << 20}, {4, 3, 1 << 30}} {
		runtime.GOMAXPROCS(c.cores)
		p := newPlace(t, image1, image2, image3, image4)
		p.Jobs, p.Memory = c.jobs, c.memory
		p.build()
		if want == "" {
			want = p.tree()
		}
		if got := p.tree(); got != want {
			t.Errorf("%+v: the mirror is\n%s\nwant\n%s", c, got, want)
		}
		for _, f := range testGlob(t, filepath.Join(p.MirrorDir, "rdiffs", "*")) {
			os.Remove(f)
		}
		if s := p.build(); s.Made == 0 || p.tree() != want {
			t.Errorf("%+v, from images that are known: %d made, the mirror is\n%s", c, s.Made, p.tree())
		}
	}
}

// A run says once that it has too little memory for the best deltas, and how much it
// would take.
func TestShortMemory(t *testing.T) {
	for memory, says := range map[int64]int{0: 0, budget.Least(): 1, 1 << 30: 0} {
		p := newPlace(t, image2, image3)
		large := bytes.Repeat(p.read(image2), 1+(2<<20)/len(p.read(image2)))
		p.write(image2, large)
		p.Memory = memory
		p.build()
		if n := strings.Count(p.log.String(), "deltas get larger"); n != says {
			t.Errorf("with %d bytes it is said %d times, want %d:\n%s", memory, n, says, p.log.String())
		}
		if says > 0 && !strings.Contains(p.log.String(), fmt.Sprintf("enough=%dm", (budget.Least()+3<<20)>>20)) {
			t.Errorf("it does not say how much is enough:\n%s", p.log.String())
		}
	}
}
