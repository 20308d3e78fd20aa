package compactdelta

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/delta/compact"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/ledger"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// Those that the policy wants are made or dropped, the largest saving first; the next run, and
// the next build, have nothing to do.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy plan.Compact
		made   []string // in the order in which they are made
		others int      // that are dropped
	}{
		{"none", plan.Compact{}, nil, 0},
		{"newest", plan.Compact{Mode: plan.CompactNewest}, []string{compactOf(image2, image4), compactOf(image1, image4), compactOf(image3, image4)}, 0},
		{"newest and full", plan.Compact{Mode: plan.CompactNewest, Full: true},
			[]string{compactOf(image2, image4), compactOf(image1, image4), meta.CompactName(meta.Name{}, name(image4)), compactOf(image3, image4)}, 0},
		{"full", plan.Compact{Full: true}, []string{meta.CompactName(meta.Name{}, name(image4))}, 0},
		{"all", plan.Compact{Mode: plan.CompactAll}, []string{
			compactOf(image2, image4), compactOf(image1, image4), compactOf(image3, image4),
			compactOf(image2, image3), compactOf(image1, image3), compactOf(image4, image3),
		}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image1, image2, image3, image4)
			p.Policy.Compact = c.policy
			var done []string
			p.Done = func(r Result) {
				if r.Action == plan.Make {
					done = append(done, r.File)
				}
			}
			before := p.tree()
			s := p.run()
			if !slices.Equal(done, c.made) || s.Made != len(c.made) || s.Dropped != c.others || s.Left != 0 || s.Changed != (len(c.made) > 0) {
				t.Errorf("made %q; %+v", done, s)
			}
			var named []string
			for _, m := range p.published() {
				named = append(named, m.Filename)
				if m.URLs[0] != "https://images.example.org/compact/"+m.Filename || m.Memory == 0 || m.Coded < 0 {
					t.Errorf("%+v", m)
				}
			}
			slices.Sort(named)
			if want := slices.Sorted(slices.Values(c.made)); !slices.Equal(named, want) {
				t.Errorf("published %q, want %q", named, want)
			}
			after := p.tree()
			if strings.Contains(string(p.read("CKSUMS")), ".cdelta") || strings.Contains(after, "compact/SHA256SUMS") != (len(c.made) > 0) {
				t.Errorf("lists: %s", after)
			}
			if len(c.made) == 0 && before != after {
				t.Errorf("it changed the mirror:\n%s\n%s", before, after)
			}
			again := p.run()
			if again.Changed || again.Kept != len(c.made) || again.Made+again.Dropped+again.Left > 0 {
				t.Errorf("another run: %+v", again)
			}
			if b := p.build(); b.Changed || p.tree() != after || b.Compact != len(c.made) {
				t.Errorf("another build: %+v", b)
			}
			if left := p.left(); len(left) > 0 || p.log.Len() > 0 {
				t.Errorf("left %q, %s", left, &p.log)
			}
		})
	}
}

// What is recorded and published is so that a new mirror gets the same, and torrents and the
// page have it.
func TestSameBytes(t *testing.T) {
	p, other := newPlace(t, image1, image3, image4), newPlace(t, image1, image3)
	for _, one := range []*place{p, other} {
		one.Torrents = plan.Torrents{Of: plan.TorrentsOfDeltas}
		one.build()
		one.run()
	}
	other.write(image4, contents(image4))
	other.build()
	other.run()
	other.Policy.Grace = 0
	other.build()
	if p.tree() != other.tree() || !strings.Contains(p.tree(), "torrents/"+compactOf(image3, image4)+".torrent") {
		t.Errorf("got\n%s\nwant\n%s", other.tree(), p.tree())
	}
}

// A run that is cancelled ends with that error, at once, and leaves nothing.
func TestCancelled(t *testing.T) {
	for _, c := range []struct {
		name string
		by   func(cancel func()) (encoder, func(stage, file string))
	}{
		{"before", func(cancel func()) (encoder, func(string, string)) { cancel(); return real, nil }},
		{"while it is encoded", func(cancel func()) (encoder, func(string, string)) {
			return func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
				cancel()
				return compact.Encode(ctx, w, base, target, o)
			}, nil
		}},
		{"while it is checked", func(cancel func()) (encoder, func(string, string)) {
			return real, func(stage, _ string) {
				if stage == "compact_check" {
					cancel()
				}
			}
		}},
		{"while it is published", func(cancel func()) (encoder, func(string, string)) {
			return real, func(stage, _ string) {
				if stage == "compact_publish" {
					cancel()
				}
			}
		}},
	} {
		p := newPlace(t, image3, image4)
		before := p.tree()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		by, stage := c.by(cancel)
		encodeBy(t, by)
		p.Stage = stage
		_, s, err := Run(ctx, p.Options)
		if !errors.Is(err, context.Canceled) || s.Made != 0 || s.Left != 1 || s.Changed {
			t.Errorf("%s: %v, %+v", c.name, err, s)
		}
		if p.tree() != before || len(p.left()) > 0 {
			t.Errorf("%s: left %q in %s", c.name, p.left(), p.tree())
		}
		encode = real
		if p.run(); len(p.published()) != 1 {
			t.Errorf("%s: after it, %v are published", c.name, p.published())
		}
	}
}

type encoder = func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error)

// When the time is over, what is worked on is given up, and the next run does not begin it
// again until some time has passed, but makes what is smaller.
func TestTime(t *testing.T) {
	p := newPlace(t, image1, image3, image4)
	slow := func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
		if len(base.Bytes) == len(contents(image1)) {
			<-ctx.Done() // that of the largest saving
			return compact.Info{}, ctx.Err()
		}
		return real(ctx, w, base, target, o)
	}
	encodeBy(t, slow)
	var s Summary
	for p.Time = time.Second; p.rate() == 0 && p.Time < time.Minute; p.Time *= 2 { // a slow machine does not begin in a second
		s = p.run()
	}
	if actions(s) != "omit omit" || !strings.Contains(s.Deltas[0].Reason, "s of work on it") || s.Deltas[1].Reason != "the time for compact deltas is over" {
		t.Errorf("first run: %+v", s)
	}
	first := p.rate()
	p.Time = 10 * time.Minute
	p.setRate(100)
	s = p.run()
	if actions(s) != "omit omit" || !strings.HasPrefix(s.Deltas[0].Reason, "it is expected to take ") || first <= 0 || p.rate() != 125 {
		t.Errorf("second run: %v, %v, %+v", first, p.rate(), s)
	}
	encode = real
	p.Time = 10 * time.Minute
	pl, err := p.plan()
	if err != nil {
		t.Fatal(err)
	}
	p.setRate(float64(pl.Deltas[0].Need.work) / 601) // the next takes 572 seconds, then
	if s = p.run(); actions(s) != "omit make" || p.rate() <= 1000 {
		t.Errorf("with time for the smaller one: %+v, %v", s, p.rate())
	}
	p.Time = 0
	if s = p.run(); actions(s) != "make" {
		t.Errorf("without a limit: %+v", s)
	}
	last := p.rate()
	if p.build(); p.rate() != last {
		t.Error("a build forgets the rate")
	}
}

// plan returns the plan of a run.
func (p *place) plan() (Plan, error) {
	view, err := mirror.View(p.MirrorDir)
	if err != nil {
		return Plan{}, err
	}
	defer view.Close()
	return planOf(p.Options, view)
}

// setRate has the mirror remember a rate.
func (p *place) setRate(rate float64) {
	p.t.Helper()
	_, err := withLock(p.t.Context(), p.Options, func(l *locked) error { return l.remember(rate) })
	if err != nil {
		p.t.Fatal(err)
	}
}

// rate returns the rate that the mirror remembers.
func (p *place) rate() float64 {
	p.t.Helper()
	view, err := mirror.View(p.MirrorDir)
	if err != nil {
		p.t.Fatal(err)
	}
	defer view.Close()
	return view.LastRun().CompactRate
}

// What is not worth having is recorded, and tried again when its images are others.
func TestDropped(t *testing.T) {
	p := newPlace(t, image2, image1)
	p.Policy.Compact.Mode = plan.CompactAll
	tried := 0
	encodeBy(t, func(ctx context.Context, w io.Writer, base, target compact.Image, o compact.Options) (compact.Info, error) {
		tried++
		return real(ctx, w, base, target, o)
	})
	s := p.run()
	i := slices.IndexFunc(s.Deltas, func(r Result) bool { return r.Action == plan.Drop })
	if tried != 2 || s.Dropped != 1 || s.Made != 1 || i < 0 || s.Deltas[i].Share() <= worth || s.Deltas[i].File != compactOf(image1, image2) {
		t.Fatalf("%d tries: %+v", tried, s)
	}
	view, err := mirror.View(p.MirrorDir)
	if err != nil {
		t.Fatal(err)
	}
	known, _, err := ledger.Load(view.State)
	view.Close()
	if r := known.Of(compactOf(image1, image2)); err != nil || !r.Dropped || r.Sums.Size != s.Deltas[i].Size {
		t.Errorf("%+v, %v", r, err)
	}
	p.build()
	if s = p.run(); tried != 2 || s.Changed {
		t.Errorf("another run: %d tries, %+v", tried, s)
	}
	p.write(image2, append([]byte("other"), contents(image4)...))
	p.build()
	if s = p.run(); s.Made != 2 {
		t.Errorf("with another image: %+v", s)
	}
}

// Each is signed when it is published, and nothing else is. What is published and not signed, the
// next build signs.
func TestSigned(t *testing.T) {
	p := newPlace(t, image1, image3, image4)
	var signed []int // how many were published each time
	var failure error
	p.Sign = func(context.Context, atomicfile.Dir) (bool, error) {
		signed = append(signed, len(p.published()))
		return true, failure
	}
	p.build()
	signed = nil
	if p.run(); !slices.Equal(signed, []int{1, 2}) {
		t.Errorf("signed with %v", signed)
	}
	p.write(image4, append(words(5, 9000), contents(image4)...))
	p.build()
	failure = errors.New("no passphrase")
	_, s, err := Run(t.Context(), p.Options)
	if !errors.Is(err, failure) || s.Made != 0 || s.Left != 2 || !s.Changed {
		t.Errorf("signing fails: %v, %+v", err, s)
	}
	failure = nil
	p.build()
	signed = nil
	if p.run(); !slices.Equal(signed, []int{2}) {
		t.Errorf("after it, signed with %v", signed)
	}
	p.BestBefore = true
	p.Policy.Compact.Full = true
	if _, _, err := Run(t.Context(), p.Options); err == nil {
		t.Error("a date of expiry without a timestamp")
	}
	p.valid()
}

// Wrong options are errors, and a mirror that is none.
func TestOptions(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no mirror":         func(o *Options) { o.MirrorDir = "" },
		"little memory":     func(o *Options) { o.Memory = MinMemory() - 1 },
		"no such directory": func(o *Options) { o.MirrorDir = filepath.Join(t.TempDir(), "none") },
	} {
		o := Options{MirrorDir: t.TempDir(), Policy: plan.Policy{Compact: plan.Compact{Full: true}}}
		change(&o)
		if _, _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p := newPlace(t, image3, image4)
	p.Memory = MinMemory()
	if s := p.run(); s.Made != 1 {
		t.Errorf("with the least memory: %+v", s)
	}
	p.Series = plan.Globs{"other-*"}
	p.Policy.Compact.Full = true
	if s := p.run(); s.Made+s.Kept+s.Left > 0 {
		t.Errorf("of other series: %+v", s)
	}
}

// The progress grows up to all of the work, and says what is done.
func TestProgress(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4)
	var done, total int64
	var stages []string
	p.Progress = func(d, of int64) {
		if d < done || d > of {
			t.Errorf("%d of %d after %d", d, of, done)
		}
		done, total = d, of
	}
	p.Stage = func(stage, file string) { stages = append(stages, strings.TrimPrefix(stage, "compact_")+" "+file) }
	if p.run(); done != total || total == 0 {
		t.Errorf("%d of %d", done, total)
	}
	file := meta.CompactPath(compactOf(image2, image4))
	if want := []string{"make " + file, "check " + file, "publish " + file}; len(stages) != 9 || !slices.Equal(stages[:3], want) {
		t.Errorf("%q", stages)
	}
}

// A plan foretells what is made after a build.
func TestMakePlan(t *testing.T) {
	p := newPlace(t, image1, image3)
	p.run()
	p.write(image4, contents(image4))
	foretell := func() Plan {
		build, err := imagerepo.MakePlan(t.Context(), imagerepo.Options{ImageDir: p.images, MirrorDir: p.MirrorDir, URL: p.URL, Policy: p.Policy})
		if err != nil {
			t.Fatal(err)
		}
		pl, err := MakePlan(t.Context(), p.Options, build)
		if err != nil {
			t.Fatal(err)
		}
		return pl
	}
	before := p.tree()
	foretold := foretell()
	if e := foretold.Estimate; len(foretold.Deltas) != 2 || foretold.Deltas[0].Need == nil || e.Scratch == 0 || e.Memory == 0 || e.Seconds == 0 || e.Free == 0 || p.tree() != before {
		t.Errorf("%+v", foretold)
	}
	p.build()
	followed, _, err := Run(t.Context(), p.Options)
	if err != nil || len(followed.Deltas) != 2 || followed.Deltas[0].File != foretold.Deltas[0].File && followed.Deltas[0].File != foretold.Deltas[1].File {
		t.Errorf("%+v, %v", followed, err)
	}
	if after := foretell(); after.Estimate.Seconds != 0 || after.Deltas[0].Action != plan.Keep {
		t.Errorf("after it: %+v", after)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MakePlan(ctx, p.Options, plan.Plan{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	o := p.Options
	o.MirrorDir = filepath.Join(t.TempDir(), "none", "yet")
	if pl, err := MakePlan(t.Context(), o, plan.Plan{}); err != nil || pl.Estimate.Free == 0 {
		t.Errorf("without a mirror: %+v, %v", pl, err)
	}
	if _, err := os.Stat(o.MirrorDir); err == nil {
		t.Error("it makes the mirror")
	}
}
