package budget

import (
	"runtime"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

func TestBudget(t *testing.T) {
	const mib = 1 << 20
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // what a diff takes depends on it
	name, err := meta.ParseName("puavo-os-amxa-buster-2021-04-13-192449-amd64.img")
	if err != nil {
		t.Fatal(err)
	}
	group := func(size int64, retired bool) []plan.Delta {
		return []plan.Delta{{Base: name, BaseSize: size, Retired: retired}}
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
		b, err := New(c.memory, c.jobs)
		if err == nil {
			err = b.Check([][]plan.Delta{group(c.size, c.retired)})
		}
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil {
			continue
		}
		if b.Jobs != c.want || !c.retired && b.Index(c.size) != c.index {
			t.Errorf("%+v: %d jobs, an index of %d", c, b.Jobs, b.Index(c.size))
		}
		var groups [][]plan.Delta
		for range 9 {
			groups = append(groups, group(c.size, c.retired))
		}
		if peak := b.Peak(groups); peak > c.memory || peak <= runMemory {
			t.Errorf("%+v: a peak of %d", c, peak)
		}
	}
	if b, err := New(0, 1); err != nil || b.Memory < Least() {
		t.Errorf("by the machine: %+v, %v", b, err)
	}
}
