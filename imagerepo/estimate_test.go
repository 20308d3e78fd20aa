package imagerepo

import (
	"runtime"
	"strings"
	"testing"

	"puavo-image-repository/delta"
)

func TestEstimate(t *testing.T) {
	const gib = 1 << 30
	image := func(file string, a Action, read bool) PlannedImage {
		return PlannedImage{Image: Image{Name: name(file)}, File: file, Size: gib, Action: a, Read: read}
	}
	deltaOf := func(base, target string, a Action, size int64) PlannedDelta {
		return PlannedDelta{Base: name(base), Target: name(target), Action: a, Size: size, TargetSize: gib, baseSize: gib}
	}
	signature := delta.SignatureSize(gib)
	for _, c := range []struct {
		name              string
		plan              Plan
		copies            bool
		read, write, work int64
	}{
		{"nothing", Plan{}, true, 0, 0, 0},
		{"nothing to do", Plan{
			Images: []PlannedImage{image(image1, Keep, false), image(image2, Keep, false)},
			Deltas: []PlannedDelta{deltaOf(image1, image2, Keep, gib/8)},
		}, true, 0, 0, 0},
		{"first run", Plan{
			Images: []PlannedImage{image(image1, Link, true), image(image2, Link, true)},
			Deltas: []PlannedDelta{deltaOf(image1, image2, Make, 0)},
		}, false, 4 * gib, 2*signature + gib/3, 6 * gib},
		{"first run on two disks", Plan{
			Images: []PlannedImage{image(image1, Link, true), image(image2, Link, true)},
			Deltas: []PlannedDelta{deltaOf(image1, image2, Make, 0)},
		}, true, 6 * gib, 2*gib + 2*signature + gib/3, 6 * gib},
		{"a new image", Plan{
			Images: []PlannedImage{image(image1, Keep, false), image(image2, Keep, false), image(image3, Link, true)},
			Deltas: []PlannedDelta{deltaOf(image1, image2, Keep, gib/8), deltaOf(image2, image3, Make, 0), deltaOf(image2, image3, Drop, 0)},
		}, false, 3 * gib, signature + gib/8, 4 * gib},
		{"an adopted mirror", Plan{
			Images: []PlannedImage{image(image1, Keep, true), image(image2, Keep, true)},
			Deltas: []PlannedDelta{deltaOf(image1, image2, Check, 0)},
		}, false, 3 * gib, 2 * signature, 4 * gib},
	} {
		b, err := newBudget(1<<30, 2)
		if err != nil {
			t.Fatal(err)
		}
		e := c.plan.estimate(b, c.copies)
		if e.Read != c.read || e.Write != c.write || e.Space != c.write || c.plan.toDo() != c.work || e.Memory > 1<<30 {
			t.Errorf("%s: %+v, work %d; want read %d, write %d, work %d", c.name, e, c.plan.toDo(), c.read, c.write, c.work)
		}
	}
}

func TestBudget(t *testing.T) {
	const mib = 1 << 20
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // what a diff takes depends on it
	group := func(size int64, retired bool) []PlannedDelta {
		return []PlannedDelta{{Base: name(image1), baseSize: size, Retired: retired}}
	}
	for _, c := range []struct {
		memory, size int64
		jobs, want   int
		index        int64
		retired      bool
		says         string // error of the budget, or of a base that does not fit
	}{
		{memory: 4096 * mib, jobs: 2, size: 1 << 30, want: 2, index: 64 * mib},
		{memory: 4096 * mib, jobs: 2, size: 10 << 30, want: 2, index: 640 * mib},
		{memory: 1024 * mib, jobs: 2, size: 10 << 30, want: 2, index: 448 * mib},
		{memory: 256 * mib, jobs: 2, size: 10 << 30, want: 2, index: 64 * mib},
		{memory: 128 * mib, jobs: 2, size: 10 << 30, want: 1, index: 40 * mib},
		{memory: 256 * mib, jobs: 99, size: 10 << 30, want: 5, index: 1677721},
		{memory: 89 * mib, jobs: 2, size: 1 << 20, want: 1, index: 1 * mib},
		{memory: 88 * mib, jobs: 2, says: "89 MiB of memory or more"},
		{memory: 128 * mib, jobs: 0, size: 1 << 20, want: 1, index: 2*mib + 64<<10},
		{memory: 256 * mib, jobs: 2, size: 10 << 30, retired: true, want: 2},
		{memory: 128 * mib, jobs: 2, size: 10 << 30, retired: true, want: 1, says: "2021-04-13-192449-amd64.img need 208 MiB"},
	} {
		b, err := newBudget(c.memory, c.jobs)
		if err == nil {
			err = b.check([][]PlannedDelta{group(c.size, c.retired)})
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil {
			continue
		}
		if b.jobs != c.want || !c.retired && b.index(c.size) != c.index {
			t.Errorf("%+v: %d jobs, an index of %d", c, b.jobs, b.index(c.size))
		}
		var groups [][]PlannedDelta
		for range 9 {
			groups = append(groups, group(c.size, c.retired))
		}
		if peak := b.peak(groups); peak > c.memory || peak <= runMemory {
			t.Errorf("%+v: a peak of %d", c, peak)
		}
	}
	if b, err := newBudget(0, 1); err != nil || b.memory < MinMemory() {
		t.Errorf("by the machine: %+v, %v", b, err)
	}
}
