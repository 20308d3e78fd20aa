package farming

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// near reports whether two figures are the same but for what sums are off by.
func near(a, b float64) bool { return math.Abs(a-b) < 1e-3 }

// four are images of 100 bytes.
var four = []float64{100, 100, 100, 100}

func rdiff(base, target int) Job {
	return Job{Base: base, Target: target, Index: 3, Make: 10, Check: 2, Bytes: 50}
}

func packed(base, target int) Job {
	return Job{Compact: true, Base: base, Target: target, Make: 10, Check: 2, Bytes: 50}
}

// Cases that can be worked out by hand.
func TestRun(t *testing.T) {
	long := packed(0, 1)
	long.Make = 100
	for _, c := range []struct {
		name           string
		farm           Farm
		seconds        float64
		sent, received float64
		home, checks   int
	}{
		{"the builder alone indexes a base once", Farm{Jobs: []Job{rdiff(0, 1), rdiff(0, 2)}, Builder: 1}, 3 + 12 + 12, 0, 0, 2, 0},
		{"and makes as many rdiff deltas as it has cores", Farm{Jobs: []Job{rdiff(0, 1), rdiff(0, 2)}, Builder: 2}, 3 + 12, 0, 0, 2, 0},
		{"but compact ones on all cores, in turn", Farm{Jobs: []Job{packed(0, 1), packed(0, 2)}, Builder: 2}, 12, 0, 0, 2, 0},
		{"a worker indexes a base once, too", Farm{Jobs: []Job{rdiff(0, 1), rdiff(0, 2)}, Workers: 1, Cores: 1, Builder: 1, Busy: true}, 3 + 10 + 10 + 2, 300, 100, 0, 2},
		{"all moves over the link", Farm{Jobs: []Job{rdiff(0, 1)}, Workers: 1, Cores: 1, Builder: 1, Busy: true, Link: 10}, 10 + 10 + 13 + 5 + 2, 200, 50, 0, 1},
		{"the slower end bounds what moves", Farm{Jobs: []Job{rdiff(0, 1)}, Workers: 1, Cores: 1, Builder: 1, Busy: true, Link: 1000, Receive: 0.1}, 10 + 10 + 13 + 5 + 2, 200, 50, 0, 1},
		{"one worker's compact delta is applied by the builder, on all cores", Farm{Jobs: []Job{packed(0, 1)}, Workers: 1, Cores: 1, Builder: 2, Busy: true}, 10 + 1, 200, 50, 0, 1},
		{"two apply each other's", Farm{Jobs: []Job{packed(0, 1), packed(2, 3)}, Workers: 2, Cores: 1, Builder: 1, Busy: true}, 10 + 2, 4*100 + 2*100 + 2*50, 100, 0, 0},
		{"and the builder again, in turn", Farm{Jobs: []Job{packed(0, 1), packed(2, 3)}, Workers: 2, Cores: 1, Builder: 1, Busy: true, Recheck: 1}, 10 + 2 + 2 + 2, 700, 100, 0, 2},
		{"a worker with two cores fetches a base once", Farm{Jobs: []Job{packed(0, 1), packed(0, 2)}, Workers: 1, Cores: 2, Builder: 1, Busy: true, Link: 100}, 2 + 1 + 10 + 1 + 2 + 2, 300, 100, 0, 2},
		{"two on one core take twice as long", Farm{Jobs: []Job{rdiff(0, 1), rdiff(2, 3)}, Workers: 2, Cores: 1, Busy: true, Shared: 1}, 26 + 4, 400, 100, 0, 2},
		{"a base that is held goes first, and the cache drops what was used least lately", Farm{
			Jobs: []Job{rdiff(2, 3), rdiff(0, 1), rdiff(0, 3)}, Workers: 1, Cores: 1, Builder: 1, Busy: true, Cache: 200,
		}, 13 + 10 + 13 + 2, 400, 150, 0, 3},
		{"an idle builder applies what no worker begins to apply in 5 s", Farm{Jobs: []Job{long, packed(2, 3)}, Workers: 2, Cores: 1, Builder: 1}, 102, 400 + 100 + 50, 100, 0, 1},
		{"the builder makes deltas while it applies others", Farm{Jobs: []Job{rdiff(0, 1), rdiff(2, 3)}, Workers: 1, Cores: 1, Builder: 1}, 15 + 2, 200, 50, 1, 1},
		{"and makes itself what a worker is slow with", Farm{Jobs: []Job{rdiff(0, 1), rdiff(2, 3)}, Workers: 1, Cores: 1, Builder: 1, Link: 1}, 15 + 15, 30, 0, 2, 0},
		{"workers look once a second", Farm{Jobs: []Job{rdiff(0, 1)}, Workers: 1, Cores: 1, Builder: 1, Busy: true, Tick: 1}, 0.5 + 13 + 2, 200, 50, 0, 1},
		{"nothing to do", Farm{Workers: 1, Cores: 1, Builder: 1}, 0, 0, 0, 0, 0},
	} {
		c.farm.Images = four
		got, err := Run(c.farm)
		if err != nil || !near(got.Seconds, c.seconds) || got.Sent != c.sent || got.Received != c.received || got.Home != c.home || got.Checks != c.checks ||
			got.Home+got.Away != len(c.farm.Jobs) {
			t.Errorf("%s: %+v, %v; want %v s, %v and %v bytes, %d here, %d checked", c.name, got, err, c.seconds, c.sent, c.received, c.home, c.checks)
		}
	}
	for _, f := range []Farm{{Images: four, Jobs: []Job{rdiff(0, 1)}, Busy: true}, {Images: four, Jobs: []Job{rdiff(0, 1)}, Workers: 1, Cores: 1}} {
		if got, err := Run(f); !errors.Is(err, ErrStuck) {
			t.Errorf("nobody works: %+v, %v", got, err)
		}
	}
}

// any returns a farm with 2 to 5 series.
func anyFarm(r *rand.Rand) Farm {
	repository := Repository{Series: 2 + r.IntN(4), Images: 2 + r.IntN(3), Size: 1e9 * (1 + r.Float64()*9), Compact: r.IntN(2) == 0, Changes: Known}
	f := Farm{Cores: 1 + r.IntN(4), Builder: float64(1 + r.IntN(4)), Link: 1e8 * (1 + r.Float64()*30), Send: 0.5e-9, Receive: 1e-9, Tick: 1, Recheck: r.Float64(), Busy: r.IntN(2) == 0}
	f.Images, f.Jobs = repository.Jobs()
	return f
}

// What moves is what was made and what was needed for it, and nobody works more than it can.
func TestConservation(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := anyFarm(r)
		f.Workers = 1 + r.IntN(20)
		out, err := Run(f)
		if err != nil {
			t.Fatal(err)
		}
		var images, deltas, work, applied float64
		for _, size := range f.Images {
			images += size
		}
		for _, j := range f.Jobs {
			deltas += j.Bytes
			work += j.Make
			applied += j.Bytes
		}
		text := fmt.Sprintf("%d: %+v", seed, out)
		if out.Home+out.Away != len(f.Jobs) {
			t.Errorf("%s: %d jobs", text, len(f.Jobs))
		}
		if f.Busy && math.Abs(out.Received-deltas) > 1 || out.Received > deltas+1 {
			t.Errorf("%s: received of %v bytes", text, deltas)
		}
		if most := images*float64(f.Workers) + applied; out.Sent > most+1 || f.Busy && out.Sent < images {
			t.Errorf("%s: sent, want %v to %v", text, images, most)
		}
		for _, share := range []float64{out.Link, out.Checking, out.Working} {
			if !(share >= 0 && share <= 1+1e-6) {
				t.Errorf("%s: a share above 1", text)
			}
		}
		cores := out.Seconds * (float64(f.Workers*f.Cores) + f.Builder)
		if work > cores*(1+1e-6) {
			t.Errorf("%s: %v CPU-seconds of work on cores that had %v", text, work, cores)
		}
		if wire := out.Seconds * f.Link; out.Sent > wire*(1+1e-6) || out.Received > wire*(1+1e-6) {
			t.Errorf("%s: more than the link carries", text)
		}
	}
}

// A faster link and more cores make nothing slower, but for the order in which jobs happen to be
// done; nor do more workers, where the link carries all the images that these fetch.
func TestMonotone(t *testing.T) {
	const slack = 1.15
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		f := anyFarm(r)
		f.Workers = 1 + r.IntN(8)
		fast := f
		fast.Link, fast.Send, fast.Receive = 0, 0, 0
		before := seconds(t, fast)
		fast.Workers *= 2
		if after := seconds(t, fast); after > before*slack {
			t.Errorf("%d: with twice the workers %.0f s, without %.0f", seed, after, before)
		}
		if alone := f; !f.Busy && !f.Jobs[0].Compact {
			if alone.Workers = 0; seconds(t, f) > seconds(t, alone)*slack {
				t.Errorf("%d: rdiff deltas take %.0f s, with workers %.0f", seed, seconds(t, alone), seconds(t, f))
			}
		}
		before = seconds(t, f)
		for name, change := range map[string]func(*Farm){
			"ten times the link":   func(f *Farm) { f.Link *= 10 },
			"two cores more":       func(f *Farm) { f.Cores += 2 },
			"a builder that helps": func(f *Farm) { f.Busy, f.Builder = false, f.Builder+2 },
		} {
			g := f
			change(&g)
			if after := seconds(t, g); after > before*slack {
				t.Errorf("%d: with %s %.0f s, without %.0f", seed, name, after, before)
			}
		}
		g := f
		g.Jobs = append([]Job(nil), f.Jobs...)
		for i := range g.Jobs {
			g.Jobs[i].Index, g.Jobs[i].Make, g.Jobs[i].Check, g.Jobs[i].Bytes = 0, 0, 0, 1
		}
		if after := seconds(t, g); after > before*slack {
			t.Errorf("%d: with nothing to do %.0f s, else %.0f", seed, after, before)
		}
	}
}

func seconds(t *testing.T, f Farm) float64 {
	t.Helper()
	out, err := Run(f)
	if err != nil {
		t.Fatal(err)
	}
	return out.Seconds
}

// A pool is shared equally, and what one cannot use is left to the others.
func TestPool(t *testing.T) {
	for _, c := range []struct {
		most []float64 // of flows of 60 units, in a pool of 12 a second
		want []float64 // when each ends
	}{
		{[]float64{unlimited}, []float64{5}},
		{[]float64{unlimited, unlimited}, []float64{10, 10}},
		{[]float64{3, unlimited}, []float64{20, 60. / 9}},
		{[]float64{2, 6, unlimited}, []float64{30, 60. / 5, 60. / 5}},
		{[]float64{0.5, 1}, []float64{120, 60}},
	} {
		var k clock
		p, left := k.pool(12), len(c.most)
		got := make([]float64, len(c.most))
		for i, most := range c.most {
			p.use(60, most, func() { got[i] = k.now; left-- })
		}
		if !k.run(func() bool { return left == 0 }) {
			t.Fatalf("%v: stuck", c.most)
		}
		for i := range got {
			if !near(got[i], c.want[i]) {
				t.Errorf("%v: ended at %v, want %v", c.most, got, c.want)
				break
			}
		}
		if !near(p.used, 60*float64(len(c.most))) {
			t.Errorf("%v: used %v", c.most, p.used)
		}
	}
}
