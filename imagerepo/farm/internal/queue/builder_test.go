package queue

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// consumers returns how many consumers the server has, and compares that with what the builder
// counts.
func (p *place) consumers() int {
	p.t.Helper()
	n := 0
	list := p.jobs.stream.ListConsumers(p.t.Context())
	for range list.Info() {
		n++
	}
	if list.Err() != nil || n != len(p.jobs.consumers) {
		p.t.Errorf("%d consumers, the builder counts %d; %v", n, len(p.jobs.consumers), list.Err())
	}
	return n
}

// A consumer is there as long as it has jobs.
func TestConsumers(t *testing.T) {
	remove := func(p *place, numbers ...uint64) {
		for _, n := range numbers {
			if err := p.jobs.Remove(p.t.Context(), n); err != nil {
				p.t.Error(err)
			}
		}
	}
	for name, c := range map[string]struct {
		do   func(p *place)
		want int
	}{
		"one for equal jobs":   {func(p *place) { p.put(baseA, 1, "a"); p.put(baseA, 1, "b"); p.put(baseB, 1, "c") }, 2},
		"one job is left":      {func(p *place) { p.put(baseA, 1, "a"); remove(p, p.put(baseA, 1, "b")) }, 1},
		"none is left":         {func(p *place) { remove(p, p.put(baseA, 1, "a"), p.put(baseA, 1, "b")) }, 0},
		"put twice":            {func(p *place) { p.put(baseA, 1, "a"); remove(p, p.put(baseA, 1, "a")) }, 0},
		"removed twice":        {func(p *place) { p.put(baseB, 1, "b"); n := p.put(baseA, 1, "a"); remove(p, n, n) }, 1},
		"put again":            {func(p *place) { remove(p, p.put(baseA, 1, "a")); p.put(baseA, 1, "b") }, 1},
		"cleared":              {func(p *place) { p.put(baseA, 1, "a"); p.put(baseB, 1, "b"); _ = p.jobs.Clear(p.t.Context()) }, 0},
		"cleared, and another": {func(p *place) { p.put(baseA, 1, "a"); _ = p.jobs.Clear(p.t.Context()); p.put(baseA, 1, "b") }, 1},
		"one is on its way": {func(p *place) {
			n := p.put(baseA, 1, "a")
			if _, err := p.jobs.consumer(p.t.Context(), Item{Base: baseA, Memory: 1}.kind().consumer(), "unused"); err != nil {
				p.t.Error(err)
			}
			remove(p, n)
		}, 1},
		"done by a worker": {func(p *place) {
			n := p.put(baseA, 1, "a")
			m, _ := p.get(p.dial(p.options), 1<<20, "")
			m.Done()
			remove(p, n)
		}, 0},
		"removed from a worker": {func(p *place) {
			n, w := p.put(baseA, 1, "a"), p.dial(p.options)
			m, _ := p.get(w, 1<<20, "")
			remove(p, n)
			m.Working()
			m.Done()
			m.Back(0)
			p.put(baseA, 1, "b")
			if _, got := p.get(w, 1<<20, ""); got != "b" {
				p.t.Errorf("got %q", got)
			}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, false)
			if c.do(p); p.consumers() != c.want {
				t.Errorf("%d consumers, want %d", p.consumers(), c.want)
			}
			if lost, err := p.jobs.Lost(t.Context()); lost || err != nil {
				t.Error(lost, err)
			}
		})
	}
}

// Where jobs are put and removed at the same time, none loses its consumer.
func TestConsumersConcurrently(t *testing.T) {
	t.Parallel()
	p := newPlace(t, false)
	var want []string
	var all sync.WaitGroup
	for i := range 8 {
		want = append(want, fmt.Sprint("kept ", i))
		all.Go(func() {
			for n := range 30 {
				id := fmt.Sprint(i, " ", n)
				if n == 29 {
					id = want[i]
				}
				number, err := p.jobs.Put(t.Context(), Item{ID: id, Base: baseA, Data: []byte(id)})
				if err == nil && n < 29 {
					err = p.jobs.Remove(t.Context(), number)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if p.consumers() != 1 {
		t.Errorf("%d consumers", p.consumers())
	}
	w := p.dial(p.options)
	var got []string
	for range want {
		_, id := p.get(w, 1<<20, "")
		got = append(got, id)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// A worker that takes a job of a consumer that is removed meanwhile finds none.
func TestConsumerGone(t *testing.T) {
	t.Parallel()
	p := newPlace(t, false)
	n, w := p.put(baseA, 1, "a"), p.dial(p.options)
	k, err := w.js.Consumer(t.Context(), w.stream(), Item{Base: baseA, Memory: 1}.kind().consumer())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.jobs.Remove(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(k); !errors.Is(err, ErrEmpty) {
		t.Error(err)
	}
	if _, err := w.take(t.Context(), k.CachedInfo().Name); !errors.Is(err, ErrEmpty) {
		t.Error(err)
	}
}
