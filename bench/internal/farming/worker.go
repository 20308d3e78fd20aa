package farming

import "math"

// worker is one with its cache.
type worker struct {
	s      *simulation
	images map[int]*cached
	bytes  float64 // of them
	used   int     // counts uses
}

// cached is an image that a worker has, or fetches.
type cached struct {
	here  bool
	inUse int
	last  int // use
	wait  []func()
}

// get has then called when an image is there, which stays until release.
func (w *worker) get(image int, then func()) {
	c := w.images[image]
	if c != nil {
		c.inUse++
		if c.here {
			then()
		} else {
			c.wait = append(c.wait, then)
		}
		return
	}
	c = &cached{inUse: 1, wait: []func(){then}}
	size := w.s.Images[image]
	w.makeRoom(size)
	w.images[image] = c
	w.bytes += size
	w.s.send(size, func() {
		c.here = true
		for _, then := range c.wait {
			then()
		}
		c.wait = nil
	})
}

// release says that an image is not used any more.
func (w *worker) release(image int) {
	c := w.images[image]
	c.inUse--
	w.used++
	c.last = w.used
}

// makeRoom removes the images that were not used for longest.
func (w *worker) makeRoom(size float64) {
	for w.s.Cache > 0 && w.bytes+size > w.s.Cache {
		oldest, last := -1, math.MaxInt
		for i, c := range w.images {
			if c.here && c.inUse == 0 && c.last < last {
				oldest, last = i, c.last
			}
		}
		if oldest < 0 {
			return // the real one fails, and leaves the job to others
		}
		delete(w.images, oldest)
		w.bytes -= w.s.Images[oldest]
	}
}

// send sends bytes to a worker.
func (s *simulation) send(bytes float64, then func()) {
	s.out.use(bytes, s.moving(), then)
}

// moving is how many bytes a second a core moves, at the end that takes longer.
func (s *simulation) moving() float64 {
	if each := max(s.Send, s.Receive); each > 0 {
		return 1 / each
	}
	return unlimited
}

// slot is where a worker does one job at a time.
type slot struct {
	worker *worker
	base   int     // whose index it has, or -1
	since  float64 // when it became idle
}

// looks returns when an idle slot looks for a job next.
func (k *slot) looks(s *simulation) float64 {
	if s.Tick == 0 {
		return s.now
	}
	return k.since + s.Tick*math.Ceil((s.now-k.since)/s.Tick)
}

// next begins a job, if there is one.
func (k *slot) next() {
	s := k.worker.s
	l := k.choose()
	if l == nil {
		k.since = s.now
		s.idle = append(s.idle, k)
		return
	}
	s.take(l)
	began := s.now
	ended := func() {
		s.workedFor += s.now - began
		k.next()
	}
	if l.maker != nil {
		k.apply(l, ended)
		return
	}
	k.make(l, ended)
}

// line are the letters of a base and a kind.
type line struct {
	base   int
	verify bool
}

// choose returns what a slot does next: if its worker holds the base a delta to apply, else to make;
// of other bases likewise; of equals one of the base that has most.
func (k *slot) choose() (best *letter) {
	w := k.worker
	jobs, first := make(map[line]int), make(map[line]*letter)
	for _, l := range w.s.queue {
		if l.maker == w {
			continue
		}
		in := line{l.Base, l.maker != nil}
		jobs[in]++
		if first[in] == nil {
			first[in] = l
		}
	}
	rank := func(l *letter) int {
		switch held := w.images[l.Base] != nil; {
		case held && l.maker != nil:
			return 0
		case held:
			return 1
		case l.maker != nil:
			return 2
		}
		return 3
	}
	for in, l := range first {
		if best == nil {
			best = l
			continue
		}
		other := line{best.Base, best.maker != nil}
		switch a, b := rank(l), rank(best); {
		case a != b:
			if a < b {
				best = l
			}
		case jobs[in] != jobs[other]:
			if jobs[in] > jobs[other] {
				best = l
			}
		case in.base < other.base:
			best = l
		}
	}
	return best
}

// make makes a delta, and sends it.
func (k *slot) make(l *letter, then func()) {
	w := k.worker
	w.s.begun = append(w.s.begun, l)
	w.get(l.Target, func() {
		w.get(l.Base, func() {
			work := l.Make
			if !l.Compact && k.base != l.Base {
				work += l.Index
			}
			k.base = l.Base
			if l.Compact {
				k.base = -1
			}
			w.s.away.use(work, 1, func() {
				w.release(l.Target)
				w.release(l.Base)
				w.s.in.use(l.Bytes, w.s.moving(), func() {
					w.s.arrived(l, w)
					then()
				})
			})
		})
	})
}

// apply applies the delta of another worker as it comes, and compares what it makes by digest.
func (k *slot) apply(l *letter, then func()) {
	w := k.worker
	k.base = -1
	w.get(l.Base, func() {
		w.s.send(l.Bytes, func() {
			w.s.away.use(l.Check, 1, func() {
				w.release(l.Base)
				w.s.applied(l)
				then()
			})
		})
	})
}
