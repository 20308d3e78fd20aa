package farming

import (
	"container/heap"
	"math"
	"slices"
)

// clock runs a simulation: what was put on it happens in the order of time, and in that in which
// it was put there at the same time.
type clock struct {
	now    float64 // seconds
	events events
	n      int
	pools  []*pool
}

type event struct {
	at float64
	n  int
	do func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].n < e[j].n
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// at has something done at a time, or at once if that is over.
func (c *clock) at(when float64, do func()) {
	c.n++
	heap.Push(&c.events, event{max(when, c.now), c.n, do})
}

// pool returns a new pool.
func (c *clock) pool(capacity float64) *pool {
	p := &pool{clock: c, capacity: capacity}
	c.pools = append(c.pools, p)
	return p
}

// run runs until ended says so. It reports whether that happened: else nothing is left to do.
func (c *clock) run(ended func() bool) bool {
	for !ended() {
		next := math.Inf(1)
		if len(c.events) > 0 {
			next = c.events[0].at
		}
		for _, p := range c.pools {
			next = min(next, p.next())
		}
		if math.IsInf(next, 1) {
			return false
		}
		for _, p := range c.pools {
			p.advance(next - c.now)
		}
		c.now = next
		for len(c.events) > 0 && c.events[0].at <= c.now {
			heap.Pop(&c.events).(event).do()
		}
	}
	return true
}

// pool is something that all who use it at the same time share, each as much as the others, but
// no more than it can use: a link, or the cores of a machine.
type pool struct {
	clock    *clock
	capacity float64 // units a second
	flows    []*flow
	used     float64 // units that were used in all
}

// flow is a use of a pool.
type flow struct {
	left, most, rate float64 // units, and units a second
	done             func()
}

// use has done called when so many units of a pool were used, at most so many a second.
func (p *pool) use(units, most float64, done func()) {
	if units <= 0 {
		p.clock.at(p.clock.now, done)
		return
	}
	p.flows = append(p.flows, &flow{left: units, most: most, done: done})
	p.share()
}

// share shares the pool: whoever can use less than an equal share leaves the rest to the others.
func (p *pool) share() {
	slices.SortStableFunc(p.flows, func(a, b *flow) int {
		switch {
		case a.most < b.most:
			return -1
		case a.most > b.most:
			return 1
		}
		return 0
	})
	left := p.capacity
	for i, f := range p.flows {
		f.rate = min(f.most, left/float64(len(p.flows)-i))
		left -= f.rate
	}
}

// next returns when the next use ends.
func (p *pool) next() float64 {
	first := math.Inf(1)
	for _, f := range p.flows {
		first = min(first, f.left/f.rate)
	}
	return p.clock.now + first
}

// advance lets so many seconds pass.
func (p *pool) advance(seconds float64) {
	const rest = 1e-6 // of a second, which sums of such numbers may be off by
	ended := false
	for _, f := range p.flows {
		p.used += min(f.left, f.rate*seconds)
		f.left -= f.rate * seconds
		ended = ended || f.left <= f.rate*rest
	}
	if !ended {
		return
	}
	var done []func()
	p.flows = slices.DeleteFunc(p.flows, func(f *flow) bool {
		if f.left > f.rate*rest {
			return false
		}
		p.used += max(0, f.left)
		done = append(done, f.done)
		return true
	})
	p.share()
	for _, do := range done {
		p.clock.at(p.clock.now, do)
	}
}
