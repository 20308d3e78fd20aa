package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/plan"
)

// prune prunes by a policy, with a grace of a day.
func (p *place) prune(policy Policy) PrunePlan {
	p.t.Helper()
	plan, err := p.open().Prune(context.Background(), policy, nil, 24*time.Hour)
	p.must(err)
	return plan
}

// days puts images of these days into the directory and adds them.
func (p *place) days(group string, days ...int) {
	p.t.Helper()
	for _, day := range days {
		p.put(group, day)
	}
	p.add()
}

// A version on which others rest goes after they were made from another, and all that is left
// is right, in the trash too.
func TestPrune(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		chain   int
		days    []int
		protect []int
		policy  Policy
		want    string
		rebase  int
		whole   int
	}{
		{"the oldest", 0, []int{1, 2, 3}, nil, Policy{Last: 2}, "rW r", 0, 0},
		{"all but the newest", 0, []int{1, 2, 3}, nil, Policy{Last: 1}, "W rr", 0, 0},
		{"one between", 0, []int{1, 2, 3}, []int{1}, Policy{Last: 1}, "rW r", 1, 0},
		{"several between", 0, []int{1, 2, 3, 4, 5}, []int{1, 3}, Policy{Last: 1}, "rrW rr", 2, 0},
		{"a whole one between", 2, []int{1, 2, 3, 4}, []int{1, 2}, Policy{Last: 1}, "rrW W", 1, 0},
		{"a chain that gets too long", 2, []int{1, 2, 3, 4, 5, 6}, []int{1, 2, 4, 5}, Policy{Last: 1}, "rWrrW W", 0, 1},
		{"nothing", 0, []int{1, 2}, nil, Policy{Last: 5}, "rW", 0, 0},
		{"monthly", 0, []int{1, 15, 40, 45}, nil, Policy{Monthly: 2}, "rW rr", 1, 0},
	} {
		p := newPlace(t)
		p.o.MaxChain = c.chain
		p.days("os-amd64", c.days...)
		s := p.open()
		for _, day := range c.protect {
			p.must(s.Protect(context.Background(), "os-amd64", versionOf(day), true))
		}
		before := p.tree()
		planned, err := s.PlanPrune(context.Background(), c.policy, nil, 24*time.Hour)
		p.must(err)
		if after := p.tree(); fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("%s: the plan changes something", c.name)
		}
		did := p.prune(c.policy)
		did.Free = planned.Free
		if fmt.Sprint(did) != fmt.Sprint(planned) {
			t.Errorf("%s: planned %+v, did %+v", c.name, planned, did)
		}
		if got := p.forms("os-amd64"); got != c.want || len(did.Groups[0].Rebase) != c.rebase || len(did.Groups[0].Whole) != c.whole {
			t.Errorf("%s: %s, want %s; %+v", c.name, got, c.want, did.Groups[0])
		}
		p.check()
		p.now = p.now.Add(25 * time.Hour)
		collected, err := p.open().GC(context.Background(), false)
		if err != nil || len(collected.Removed) != did.Remove || collected.Bytes != did.Bytes {
			t.Errorf("%s: %+v, %v, want %d removed", c.name, collected, err, did.Remove)
		}
		if got := p.forms("os-amd64"); got != strings.Fields(c.want)[0] {
			t.Errorf("%s: after the collection %s, want %s", c.name, got, c.want)
		}
		p.check()
	}
}

func TestPruneErrors(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2, 3)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	before := p.tree()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		policy Policy
		groups plan.Globs
		err    error
	}{
		{"no policy", t.Context(), Policy{}, nil, ErrPolicy},
		{"no such group", t.Context(), Policy{Last: 1}, plan.Globs{"x*"}, ErrUnknown},
		{"cancelled", cancelled, Policy{Last: 1}, nil, context.Canceled},
	} {
		if _, err := p.open().Prune(c.ctx, c.policy, c.groups, time.Hour); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if after := p.tree(); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("something changed: %q, then %q", before, after)
	}
}

// What waits in the trash keeps what it is made from.
func TestGC(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2, 3, 4)
	s := p.open()
	p.must(s.Protect(t.Context(), "os-amd64", versionOf(1), true))
	p.prune(Policy{Last: 2}) // day 2, made from 3
	p.must(s.Protect(t.Context(), "os-amd64", versionOf(1), false))
	p.now = p.now.Add(-time.Hour)
	p.prune(Policy{Last: 1}) // 1 and 3, due before
	if got := p.forms("os-amd64"); got != "W rrr" {
		t.Fatalf("%s", got)
	}
	p.check()
	p.now = p.now.Add(24*time.Hour + time.Minute)
	for _, dry := range []bool{true, false} {
		r, err := p.open().GC(t.Context(), dry)
		if err != nil || len(r.Removed) != 1 || r.Removed[0].Version != versionOf(1) || len(r.Waiting) != 2 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	p.check()
	p.now = p.now.Add(time.Hour)
	if r, err := p.open().GC(t.Context(), false); err != nil || len(r.Removed) != 2 || p.forms("os-amd64") != "W" {
		t.Errorf("%+v, %v", r, err)
	}
	p.check()
}

// What was pruned is not added again while it waits in the trash.
func TestAddPruned(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2)
	p.prune(Policy{Last: 1})
	if plan := p.add(); len(plan.Add) != 0 || plan.Kept != 2 {
		t.Errorf("%+v", plan)
	}
}

func TestEdit(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.days("os-amd64", 1, 2, 3)
	s := p.open()
	p.prune(Policy{Last: 2})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		do   func() error
		err  error
	}{
		{"protect", func() error { return s.Protect(t.Context(), "os-amd64", versionOf(2), true) }, nil},
		{"note", func() error { return s.Note(t.Context(), "os-amd64", versionOf(2), "the last <good> one") }, nil},
		{"a long note", func() error { return s.Note(t.Context(), "os-amd64", versionOf(2), strings.Repeat("x", 5000)) }, errors.ErrUnsupported},
		{"no such version", func() error { return s.Note(t.Context(), "os-amd64", versionOf(9), "") }, ErrUnknown},
		{"no such group", func() error { return s.Note(t.Context(), "other", versionOf(2), "") }, ErrUnknown},
		{"in the trash", func() error { return s.Protect(t.Context(), "os-amd64", versionOf(1), true) }, ErrUnknown},
		{"a path", func() error { return s.Note(t.Context(), "../store/os-amd64", versionOf(2), "") }, errors.ErrUnsupported},
		{"cancelled", func() error { return s.Note(cancelled, "os-amd64", versionOf(2), "x") }, context.Canceled},
	} {
		if err := c.do(); errors.Is(c.err, errors.ErrUnsupported) != (err != nil && !errors.Is(err, ErrUnknown) && !errors.Is(err, context.Canceled)) || c.err != errors.ErrUnsupported && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	path, err := s.Show("os-amd64", versionOf(2))
	p.must(err)
	if v := path[len(path)-1]; len(path) != 2 || !v.Protected || v.Note != "the last <good> one" || v.Deltas != 1 || path[0].Version != versionOf(3) {
		t.Errorf("%+v", path)
	}
	p.check()
}
