package budget

import (
	"runtime"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// image returns the name of one of ten images.
func image(t *testing.T, i int) meta.Name {
	t.Helper()
	name, err := meta.ParseName("puavo-os-amxa-buster-2021-04-1" + string(rune('0'+i)) + "-192449-amd64.img")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// planOf returns the plan of the deltas from so many bases to so many targets each, where
// the images, of a size, are read or not.
func planOf(t *testing.T, bases, targets int, size int64, read bool) (p plan.Plan) {
	t.Helper()
	for i := range max(bases, targets+1) {
		p.Images = append(p.Images, plan.Image{Name: image(t, i), Size: size, Read: read})
	}
	for b := range bases {
		for i := range targets {
			target := i
			if i >= b {
				target++
			}
			p.Deltas = append(p.Deltas, plan.Delta{Base: image(t, b), Target: image(t, target), Action: plan.Make, BaseSize: size, TargetSize: size})
		}
	}
	return p
}

func TestIndex(t *testing.T) {
	for _, c := range []struct {
		memory, size int64
		index        int64 // 0: the memory is refused
	}{
		{0, gib, 64 * mib},
		{0, 10 * gib, 512 * mib},
		{0, mib, 2 * mib},
		{0, 1, 64 << 10},
		{4096 * mib, 10 * gib, 512 * mib},
		{300 * mib, gib * 11 / 10, 64 * mib},
		{584 * mib, 10 * gib, 512 * mib},
		{583 * mib, 10 * gib, 256 * mib},
		{136 * mib, gib, 64 * mib},
		{135 * mib, gib, 32 * mib},
		{Least(), 10 * gib, leastIndex},
		{Least() - 1, gib, 0},
	} {
		// Neither the cores nor the jobs change it.
		for cores := 1; cores <= 64; cores *= 8 {
			before := runtime.GOMAXPROCS(cores)
			for _, jobs := range []int{0, 1, 7} {
				b, err := New(c.memory, jobs)
				if (err != nil) != (c.index == 0) || err != nil && !strings.Contains(err.Error(), "at least 73 MiB of memory") {
					t.Errorf("%+v: %v", c, err)
				} else if err == nil && b.Index(c.size) != c.index {
					t.Errorf("%+v, %d jobs, %d cores: an index of %d", c, jobs, cores, b.Index(c.size))
				}
			}
			runtime.GOMAXPROCS(before)
		}
	}
}

func TestSchedule(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	const plenty = 1 << 40
	for _, c := range []struct {
		name           string
		memory, free   int64
		jobs, cores    int
		bases, targets int
		size           int64
		read           bool

		wantJobs, readers, held, width, ofCores int
		passes                                  int   // over images, for all deltas
		short                                   int64 // see Short
	}{
		{"all fits", 4096 * mib, plenty, 2, 2, 3, 2, gib, true, 2, 4, 0, 2, 2, 12, 0},
		{"nothing is read", 4096 * mib, plenty, 2, 2, 3, 2, gib, false, 2, 4, 0, 2, 2, 12, 0},
		{"images larger than memory", 300 * mib, 600 * mib, 2, 2, 3, 2, gib * 11 / 10, true, 1, 4, 3, 2, 2, 9, 0},
		{"less memory", 280 * mib, 600 * mib, 2, 2, 3, 2, gib * 11 / 10, true, 1, 3, 3, 2, 1, 9, 0},
		{"one index", 250 * mib, 600 * mib, 2, 2, 3, 2, gib * 11 / 10, true, 1, 4, 1, 2, 2, 11, 0},
		{"none", 160 * mib, 600 * mib, 2, 2, 3, 2, gib * 11 / 10, true, 1, 4, 0, 2, 1, 12, 0},
		{"one at a time", 140 * mib, 600 * mib, 2, 2, 3, 2, gib * 11 / 10, true, 1, 4, 0, 1, 1, 15, 0},
		{"a smaller index", 80 * mib, 600 * mib, 2, 2, 3, 2, gib * 11 / 10, true, 1, 2, 0, 1, 1, 15, 136 * mib},
		{"the machine is small", 0, 600 * mib, 2, 2, 3, 2, gib * 11 / 10, true, 1, 4, 3, 2, 2, 9, 0},
		{"many large images", 4096 * mib, 2 * gib, 2, 2, 9, 8, gib, true, 1, 4, 9, 8, 1, 81, 0},
		{"many large images, few pages", 4096 * mib, gib + 128*mib, 2, 2, 9, 8, gib, true, 1, 4, 9, 3, 2, 99, 0},
		{"many cores", 4096 * mib, plenty, 2, 64, 3, 2, gib, true, 2, 4, 0, 2, 64, 12, 0},
		{"many cores, little memory", 700 * mib, plenty, 2, 64, 3, 2, gib, true, 2, 4, 0, 2, 24, 12, 0},
		{"many jobs", 4096 * mib, plenty, 9, 2, 3, 2, gib, true, 9, 9, 0, 2, 2, 12, 0},
		{"many targets", 4096 * mib, plenty, 1, 4, 3, 8, gib, true, 1, 4, 0, 8, 1, 30, 0},
		{"no deltas", 4096 * mib, 0, 2, 2, 0, 0, gib, true, 2, 4, 0, 1, 2, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.GOMAXPROCS(c.cores)
			b, err := New(c.memory, c.jobs)
			if err != nil {
				t.Fatal(err)
			}
			if c.memory == 0 {
				b.Memory = 300 * mib // of whatever machine this is
			}
			p := planOf(t, c.bases, c.targets, c.size, c.read)
			s := b.Schedule(p, c.free)
			if s.Scarce != (c.free < plenty && c.bases > 0) {
				t.Errorf("scarce: %v", s.Scarce)
			}
			held, reads, width, cores, most := 0, int64(0), 1, c.cores, s.Memory
			for _, g := range Groups(p) {
				if s.Held(g[0].Base) {
					held++
				}
				w := s.Sweep(g)
				width, cores = w.Width, w.Cores
				reads += s.Reads(g)
				if need := s.Need(g); need > most || need < coreMemory {
					t.Errorf("a group needs %d of %d", need, most)
				}
			}
			if s.Jobs != c.wantJobs || s.Readers != c.readers || held != c.held || s.Short() != c.short {
				t.Errorf("%d jobs, %d readers, %d held, short %d", s.Jobs, s.Readers, held, s.Short())
			}
			if width != c.width || cores != c.ofCores || reads != int64(c.passes)*c.size {
				t.Errorf("%d side by side on %d cores each, %.2f passes", width, cores, float64(reads)/float64(c.size))
			}
			if peak := s.Peak(); peak > b.Memory || peak < runMemory {
				t.Errorf("a peak of %d", peak)
			}
			if int64(s.Readers)*jobMemory > s.Memory {
				t.Errorf("the readers take more than %d", s.Memory)
			}
		})
	}
}

// What the machine has is not enough for the index of the largest base: it gets more.
func TestLargeBaseOnSmallMachine(t *testing.T) {
	b := Budget{Memory: 100 * mib, Jobs: 2}
	p := planOf(t, 2, 1, 10*gib, true)
	s := b.Schedule(p, 1<<40)
	if w := s.Sweep(Groups(p)[0]); w.Index != 512*mib || s.Peak() != runMemory+jobMemory+coreMemory+512*mib || s.Short() != 0 {
		t.Errorf("%+v, a peak of %d, short %d", w, s.Peak(), s.Short())
	}
}

func TestRetired(t *testing.T) {
	p := planOf(t, 1, 2, 10*gib, true)
	for i := range p.Deltas {
		p.Deltas[i].Retired = true
	}
	for _, c := range []struct {
		memory int64
		width  int
		says   string
	}{
		{256 * mib, 2, ""},
		{220 * mib, 1, ""},
		{128 * mib, 1, "2021-04-10-192449-amd64.img need 192 MiB of memory, but 128 MiB are allowed"},
	} {
		b, err := New(c.memory, 2)
		if err != nil {
			t.Fatal(err)
		}
		err = b.Check(p.Bases())
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
		s := b.Schedule(p, 1<<40)
		if g := Groups(p)[0]; s.Sweep(g).Width != c.width || s.Held(g[0].Base) || s.Reads(g) != 4*10*gib || s.Short() != 0 {
			t.Errorf("%+v: %+v, reads %d", c, s.Sweep(g), s.Reads(g))
		}
	}
}

// What has work comes first, and a base of which an index is not likely needed gets none.
func TestGroups(t *testing.T) {
	p := planOf(t, 3, 3, gib, true)
	act := func(base int, actions ...plan.Action) {
		for i, a := range actions {
			p.Deltas[3*base+i].Action = a
		}
	}
	act(0, plan.Keep, plan.Make, plan.Drop)
	act(1, plan.Check, plan.Keep, plan.Check)
	act(2, plan.Keep, plan.Keep, plan.Drop)
	groups := Groups(p)
	if groups[0][0].Base != image(t, 1) || groups[1][0].Action != plan.Make || groups[1][1].Action != plan.Keep {
		t.Errorf("%+v", groups)
	}
	b, err := New(4096*mib, 2)
	if err != nil {
		t.Fatal(err)
	}
	s := b.Schedule(p, gib)
	if !s.Held(image(t, 0)) || s.Held(image(t, 1)) || s.Held(image(t, 2)) {
		t.Error("an index is made that is not needed, or not one that is")
	}
	for i, want := range []struct {
		width int
		reads int64
	}{{2, 3 * gib}, {1, 2 * gib}, {1, 0}} {
		if g := groups[i]; s.Sweep(g).Width != want.width || s.Reads(g) != want.reads {
			t.Errorf("group %d: %+v, reads %d; want %+v", i, s.Sweep(g), s.Reads(g), want)
		}
	}
}
