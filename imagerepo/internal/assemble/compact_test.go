package assemble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/fetch"
	"puavo-image-repository/testdata"
)

// packed returns an image of small packed blocks, of which 64 make a group: content of noise,
// and after each 200 bytes their first 33 again. In all blocks that byte is changed.
func packed(seed byte, blocks int, change byte) (m compact.Image) {
	const run, length = 200, 33
	noise := random(seed, blocks*run)
	for i := range blocks {
		noise[i*run+100] ^= change
		b := append([]byte{17 + run}, noise[i*run:(i+1)*run]...)
		b = append(b, 0x20|(length-2))
		b = binary.LittleEndian.AppendUint16(b, (run-1)<<2)
		b = append(b, 0x11, 0, 0)
		m.Blocks = append(m.Blocks, compact.Block{Offset: int64(len(m.Bytes)), Size: int64(len(b)), Codec: compact.LZO})
		m.Bytes = append(m.Bytes, b...)
	}
	return m
}

// join returns an image of others.
func join(parts ...compact.Image) (m compact.Image) {
	for _, p := range parts {
		for _, b := range p.Blocks {
			b.Offset += int64(len(m.Bytes))
			m.Blocks = append(m.Blocks, b)
		}
		m.Bytes = append(m.Bytes, p.Bytes...)
	}
	return m
}

// compactOf returns the compact delta that makes target from base.
func compactOf(t *testing.T, base, target compact.Image) []byte {
	t.Helper()
	var d bytes.Buffer
	_, err := compact.Encode(t.Context(), &d, base, target, compact.Options{
		Effort: delta.Fast, Scratch: func() (*os.File, error) { return os.CreateTemp(t.TempDir(), "") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return d.Bytes()
}

// A compactCase is a compact delta in many groups and sections, with what it is of.
type compactCase struct {
	base, target, delta []byte
	head                *compact.Delta
}

var compactCases sync.Map

// newCompactCase returns one with a base, or without.
func newCompactCase(t *testing.T, hasBase bool) compactCase {
	t.Helper()
	if c, ok := compactCases.Load(hasBase); ok {
		return c.(compactCase)
	}
	c := makeCompactCase(t, hasBase, 5<<20)
	if info := c.head.Info(); hasBase && (info.Groups < 50 || info.Coded == 0) || c.sections() < 2 {
		t.Fatalf("%+v in %d sections", info, c.sections())
	}
	compactCases.Store(hasBase, c)
	return c
}

// makeCompactCase makes one with so many bytes of noise in a row, three times.
func makeCompactCase(t *testing.T, hasBase bool, n int) compactCase {
	t.Helper()
	noise := func(seed byte) compact.Image { return compact.Image{Bytes: random(seed, n)} }
	base := join(packed(1, 2000, 0), packed(2, 2000, 0))
	target := join(noise(3), packed(1, 2000, 1), noise(4), packed(2, 2000, 1), noise(5))
	if !hasBase {
		base = compact.Image{}
	}
	c := compactCase{base: base.Bytes, target: target.Bytes, delta: compactOf(t, base, target)}
	var err error
	if c.head, err = compact.Open(bytes.NewReader(c.delta)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c compactCase) sections() int {
	starts := make(map[int64]bool)
	for g := range c.head.Info().Groups {
		at, _ := c.head.Start(g)
		starts[at] = true
	}
	return len(starts)
}

// job is the change of a Job that makes of it one of the case.
func (c compactCase) job(known bool) func(*Job) {
	return func(j *Job) {
		j.Compact = true
		if known {
			j.BaseSums = sumsOf(c.base)
		}
	}
}

// An image is made by a compact delta if all is what was told of it. Else there is an
// error, and nothing is left.
func TestCompact(t *testing.T) {
	with, without := newCompactCase(t, true), newCompactCase(t, false)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	at := func(section, behind int) int { // a place in the file
		group := 0
		for ; section > 0; group++ {
			this, _ := with.head.Start(group)
			if next, _ := with.head.Start(group + 1); next > this {
				section--
			}
		}
		file, _ := with.head.Start(group)
		return int(file) + behind
	}
	other := sumsOf(flipped(with.base, 0))
	d := with.delta
	for _, c := range []struct {
		name         string
		ctx          context.Context
		base         []byte
		served, told []byte
		wanted       []byte
		change       func(*Job)
		want         error
		says         string
	}{
		{"right", t.Context(), with.base, d, d, with.target, with.job(true), nil, ""},
		{"of a base that is not known", t.Context(), with.base, d, d, with.target, with.job(false), nil, ""},
		{"without a base", t.Context(), nil, without.delta, without.delta, without.target, with.job(false), nil, ""},
		{"to an image of which no BLAKE3 is known", t.Context(), with.base, d, d, with.target, func(j *Job) { with.job(true)(j); j.Sums.BLAKE3 = cksum.Digest256{} }, nil, ""},
		{"to another image", t.Context(), with.base, d, d, flipped(with.target, 5), with.job(true), ErrVerify, "makes another image: its BLAKE3"},
		{"to a longer image", t.Context(), with.base, d, d, append(slices.Clone(with.target), 0), with.job(true), ErrVerify, "makes another image: of"},
		{"to another image, of which no BLAKE3 is known", t.Context(), with.base, d, d, flipped(with.target, 5), func(j *Job) { with.job(true)(j); j.Sums.BLAKE3 = cksum.Digest256{} }, ErrUnfit, "its SHA"},
		{"from another base", t.Context(), flipped(with.base, 1000), d, d, with.target, with.job(false), ErrVerify, "the base is not"},
		{"from another base that is known", t.Context(), with.base, d, d, with.target, func(j *Job) { with.job(true)(j); j.BaseSums = other }, ErrVerify, "needs another base: its BLAKE3"},
		{"from a shorter base", t.Context(), with.base[1:], d, d, with.target, with.job(true), ErrVerify, "needs another base: of"},
		{"from a base that turns out to be wrong", t.Context(), flipped(with.base, 1000), d, d, with.target, with.job(true), ErrVerify, "group"},
		{"an rdiff delta", t.Context(), with.base, []byte("rs\x026\x00"), []byte("rs\x026\x00"), with.target, with.job(true), ErrVerify, "not a compact delta"},
		{"nothing", t.Context(), with.base, []byte{}, []byte{}, with.target, with.job(true), ErrVerify, ""},
		{"the head flipped", t.Context(), with.base, flipped(d, 30), d, with.target, with.job(true), ErrVerify, "head"},
		{"the tables flipped", t.Context(), with.base, flipped(d, 200), d, with.target, with.job(true), ErrVerify, "head"},
		{"the first section flipped", t.Context(), with.base, flipped(d, at(0, 100)), d, with.target, with.job(true), ErrVerify, ""},
		{"the second section flipped", t.Context(), with.base, flipped(d, at(1, 1000)), d, with.target, with.job(true), ErrVerify, ""},
		{"the last byte flipped", t.Context(), with.base, flipped(d, len(d)-1), d, with.target, with.job(true), ErrVerify, ""},
		{"longer", t.Context(), with.base, append(slices.Clone(d), 0), d, with.target, with.job(true), fetch.ErrChanged, "bytes, want"},
		{"longer, as told", t.Context(), with.base, append(slices.Clone(d), 0), append(slices.Clone(d), 0), with.target, with.job(true), ErrVerify, "says that it has"},
		{"shorter", t.Context(), with.base, d[:len(d)-1], d, with.target, with.job(true), fetch.ErrChanged, "bytes, want"},
		{"shorter, as told", t.Context(), with.base, d[:len(d)-1], d[:len(d)-1], with.target, with.job(true), ErrVerify, "says that it has"},
		{"missing", t.Context(), with.base, nil, d, with.target, with.job(true), os.ErrNotExist, ""},
		{"cancelled", cancelled, with.base, d, d, with.target, with.job(true), context.Canceled, ""},
	} {
		for kind, mirror := range mirrors {
			t.Run(c.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				p := newPlace(t, c.base)
				err := p.make(c.ctx, mirror(t, c.served), c.told, c.wanted, c.base != nil, c.change)
				if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
					t.Errorf("%v, want %v that says %q", err, c.want, c.says)
				}
				if err != nil {
					p.wantNothing("after an error")
				} else if !bytes.Equal(p.made(), c.wanted) {
					t.Errorf("%d other bytes are made, want %d", len(p.made()), len(c.wanted))
				}
			})
		}
	}
}

// A call goes on from the last group that was made, whoever made it. What is fetched is the
// section of the next group and what follows; the head only if the journal has not got it.
func TestCompactResumes(t *testing.T) {
	const cutAt = 13 << 20
	whole := newCompactCase(t, true)
	headLen, _ := whole.head.Start(0)
	for _, c := range []struct {
		name      string
		meanwhile func(p *place)
		head      bool // comes again
		all       bool // all comes again, before or after the rest
	}{
		{"as it is", func(*place) {}, false, false},
		{"without a head", func(p *place) { p.journal(func(j *journal) { j.Head = nil }) }, true, false},
		{"with half a head", func(p *place) { p.journal(func(j *journal) { j.Head = j.Head[:100] }) }, true, false},
		{"with a head that is flipped", func(p *place) { p.journal(func(j *journal) { j.Head = flipped(j.Head, 180) }) }, true, false},
		{"begun by another file", func(p *place) {
			p.journal(func(j *journal) { j.Source[0] ^= 1; j.Head = nil; j.Position.Delta = 5 })
		}, true, false},
		{"a bit of what was made flipped", func(p *place) { p.write(PartialName(image), flipped(p.made(), 10)) }, false, true},
		{"cut short", func(p *place) { p.write(PartialName(image), p.made()[:100]) }, true, true},
		{"the journal is of another image", func(p *place) { p.journal(func(j *journal) { j.Target[0] ^= 1 }) }, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, whole.base)
			s, url := newSite(t, whole.delta)
			s.cut.Store(cutAt)
			if err := p.make(t.Context(), url, whole.delta, whole.target, true, whole.job(true)); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("cut off: %v", err)
			}
			at := p.journal(nil).Position
			if at.Delta < cutAt/3 || !bytes.Equal(p.made()[:at.Target], whole.target[:at.Target]) {
				t.Fatalf("after %d bytes the journal says %+v", cutAt, at)
			}
			c.meanwhile(p)
			s.cut.Store(0)
			s.sent.Store(0)
			if err := p.make(t.Context(), url, whole.delta, whole.target, true, whole.job(true)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.made(), whole.target) {
				t.Errorf("%d other bytes are made", len(p.made()))
			}
			want := int64(len(whole.delta)) - at.Delta
			switch sent := s.sent.Load(); {
			case c.all && sent < int64(len(whole.delta)), !c.all && !c.head && sent != want, !c.all && c.head && sent < want+headLen:
				t.Errorf("%d bytes were sent, %d were missing of %d", sent, want, len(whole.delta))
			}
		})
	}
}

// A compact delta goes on with what the full image has made, and the full image with what
// the delta has.
func TestCompactAfterOthers(t *testing.T) {
	whole := newCompactCase(t, true)
	asFull := func(j *Job) { j.Base = "" }
	for name, c := range map[string]struct {
		first, second []byte
		changes       [2]func(*Job)
	}{
		"after the full image": {whole.target, whole.delta, [2]func(*Job){asFull, whole.job(true)}},
		"before it":            {whole.delta, whole.target, [2]func(*Job){whole.job(true), asFull}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, whole.base)
			s, url := newSite(t, c.first)
			s.cut.Store(13 << 20)
			if err := p.make(t.Context(), url, c.first, whole.target, true, c.changes[0]); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("cut off: %v", err)
			}
			begun := Look(p.dir, image)
			left := begun.Left(sumsOf(whole.target).SHA512, sumsOf(c.second))
			if name == "after the full image" {
				left = begun.LeftOfCompact(sumsOf(whole.target), sumsOf(c.second))
			}
			if left <= 0 || left >= int64(len(c.second)) {
				t.Errorf("left are %d of %d bytes", left, len(c.second))
			}
			_, url = newSite(t, c.second)
			if err := p.make(t.Context(), url, c.second, whole.target, true, c.changes[1]); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.made(), whole.target) || p.journal(nil).Position.Target == 0 {
				t.Errorf("%d other bytes are made", len(p.made()))
			}
		})
	}
}

// Whatever change of the directory fails, the error is the directory's, and the next call
// makes the image. Of the changes, the first and the last fail, and some of those between, which
// write one group like the other.
func TestCompactWriteFails(t *testing.T) {
	whole := makeCompactCase(t, true, 100_000)
	all, _ := failAt(t, whole, -1)
	ends, between := testdata.Scale(12, 2), testdata.Scale(16, 3)
	if all < 2*ends+between {
		t.Fatalf("only %d changes", all)
	}
	for fails := 0; fails < all; fails++ {
		if fails >= ends && fails < all-ends {
			fails = min(fails+(all-2*ends)/between, all-ends)
		}
		if n, failed := failAt(t, whole, fails); n <= fails || !failed && n < all {
			t.Errorf("change %d of %d fails: %d were made, and nothing says so", fails, all, n)
		}
	}
}

// failAt makes an image from a compact delta with one change that fails, and again without. It
// returns how many changes the first call made, and whether that failed.
func failAt(t *testing.T, whole compactCase, fails int) (n int, failed bool) {
	t.Helper()
	p := newPlace(t, whole.base)
	var mu sync.Mutex
	stop := atomicfile.Observe(p.path, func(atomicfile.Change) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == fails+1 {
			return syscall.EIO
		}
		return nil
	})
	p.dir.Close()
	p.dir, _ = atomicfile.Open(p.path) // one that is observed
	mirror := mirrors["directory"](t, whole.delta)
	err := p.make(t.Context(), mirror, whole.delta, whole.target, true, whole.job(true))
	stop()
	if failed = err != nil; failed {
		if _, local := errors.AsType[*LocalError](err); !local || !errors.Is(err, syscall.EIO) {
			t.Errorf("change %d fails: %v", fails, err)
		}
		err = p.make(t.Context(), mirror, whole.delta, whole.target, true, whole.job(true))
	}
	if err != nil || !bytes.Equal(p.made(), whole.target) {
		t.Errorf("after change %d failed: %v", fails, err)
	}
	return n, failed
}

// On a machine with little memory, few workers apply a compact delta.
func TestWorkers(t *testing.T) {
	usual := compact.Info{Memory: 116 << 20} // 21 MiB each
	for free, want := range map[int64]int{0: 1, 64 << 20: 1, 106 << 20: 1, 148 << 20: 2, 1 << 40: 1 << 30} {
		if got := workers(usual, free); got != min(want, runtime.GOMAXPROCS(0)) {
			t.Errorf("with %d bytes free: %d workers, want %d", free, got, want)
		}
	}
	if got := workers(compact.Info{}, 1<<40); got < 1 {
		t.Errorf("%d workers", got)
	}
}
