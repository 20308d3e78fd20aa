package farming

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// unlimited is more than can be used of anything in a second.
const unlimited = 1e18

// Job is a delta that is to be made.
type Job struct {
	Compact      bool    // or an rdiff delta
	Base, Target int     // which images
	Index        float64 // CPU-seconds: of the index of the base, for rdiff deltas alone
	Make, Check  float64 // CPU-seconds: of the rest of making it, and of applying it
	Bytes        float64 // of the delta
}

// Farm is a farm before a run. Sizes and rates are not 0 unless it is said.
type Farm struct {
	Images  []float64 // their sizes in bytes
	Jobs    []Job     // in the order in which the builder does them
	Workers int       // 0 is the builder alone
	Cores   int       // of each worker, which does as many jobs at a time
	Builder float64   // cores of the builder
	Busy    bool      // whether the builder has something else to do than to make deltas
	// Shared is how many cores builder and workers share, as processes of one machine; 0 if
	// each has its own.
	Shared float64
	Link   float64 // bytes a second that the builder can send, and receive; 0 is no limit
	Cache  float64 // bytes of images that a worker keeps, two at least; 0 is no limit
	// Moving is what a byte takes of a core at each end: reading, encrypting, writing,
	// digesting. The builder's are those of the link: they bound it.
	Send, Receive float64 // CPU-seconds a byte
	Tick          float64 // seconds after which a worker without a job looks for one
	Recheck       float64 // the share of compact deltas that the builder applies too
}

// Outcome is what a run takes.
type Outcome struct {
	Seconds        float64
	Sent, Received float64 // bytes, by the builder
	Home, Away     int     // deltas made by the builder, and by workers
	Checks         int     // deltas of workers that the builder applied
	// The shares of the time in which these were used: the link, what checks deltas at the
	// builder, and the cores of the workers.
	Link, Checking, Working float64
}

// ErrStuck is the error for a farm that cannot end.
var ErrStuck = errors.New("jobs are left, and nobody can do them")

// Run runs a farm.
func Run(f Farm) (Outcome, error) {
	if f.Workers == 0 && f.Busy || f.Builder <= 0 && !f.Busy {
		return Outcome{}, fmt.Errorf("%w: nobody makes deltas", ErrStuck)
	}
	s := newSimulation(f)
	if !s.run(func() bool { return s.left == 0 }) {
		return Outcome{}, fmt.Errorf("%w: %d", ErrStuck, s.left)
	}
	o := s.outcome
	o.Seconds, o.Sent, o.Received = s.now, math.Round(s.out.used), math.Round(s.in.used)
	if s.now > 0 {
		o.Link = max(s.out.used/s.out.capacity, s.in.used/s.in.capacity) / s.now
		o.Checking = s.checkedFor / s.now
		if f.Workers > 0 {
			o.Working = s.workedFor / float64(f.Workers*f.Cores) / s.now
		}
	}
	return o, nil
}

// simulation is a farm in a run.
type simulation struct {
	Farm
	clock
	outcome Outcome

	out, in    *pool // the builder's link
	home, away *pool // cores of the builder, and of the workers

	queue   []*letter // what nobody has begun, in its order
	begun   []*letter // jobs that workers have begun, in that order
	workers []*worker
	idle    []*slot
	left    int // deltas that are not done

	toCheck  []*letter // deltas that the builder must apply
	checking int       // those that it applies
	making   int       // those that it makes
	isIdle   bool      // it makes none any more

	workedFor, checkedFor float64
}

// letter is what the queue has: a job, or that its delta must be applied.
type letter struct {
	*Job
	maker *worker // of the delta that must be applied; nil of a job
}

func newSimulation(f Farm) *simulation {
	s := &simulation{Farm: f, left: len(f.Jobs)}
	link := unlimited
	if f.Link > 0 {
		link = f.Link
	}
	sending, receiving := link, link
	if f.Send > 0 && f.Shared == 0 && f.Builder > 0 {
		sending = min(link, f.Builder/f.Send)
	}
	s.out, s.in = s.pool(sending), s.pool(receiving)
	if f.Shared > 0 {
		s.home = s.pool(f.Shared)
		s.away = s.home
	} else {
		s.home, s.away = s.pool(max(f.Builder, 1)), s.pool(unlimited)
	}
	for i := range f.Jobs {
		s.queue = append(s.queue, &letter{Job: &f.Jobs[i]})
	}
	n := f.Workers * f.Cores
	for w := range f.Workers {
		s.workers = append(s.workers, &worker{s: s, images: make(map[int]*cached)})
		for c := range f.Cores {
			k := &slot{worker: s.workers[w], base: -1}
			// None looks at the same moment.
			s.at(f.Tick*(float64(c*f.Workers+w)+0.5)/float64(n), k.next)
		}
	}
	s.at(0, s.makeHere)
	return s
}

// grace is how long a delta waits for a worker that applies it before the builder does, in
// seconds, if that has nothing else to do.
const grace = 5

// put has a worker apply a delta: the one that looks next gets it.
func (s *simulation) put(l *letter) {
	s.queue = append(s.queue, l)
	s.at(s.now+grace, func() { s.takeBack(l) })
	var first *slot
	for _, k := range s.idle {
		if k.worker != l.maker && (first == nil || k.looks(s) < first.looks(s)) {
			first = k
		}
	}
	if first != nil {
		s.wake(first, first.looks(s))
	}
}

// wake has an idle slot look for a job.
func (s *simulation) wake(k *slot, when float64) {
	s.idle = without(s.idle, k)
	s.at(when, k.next)
}

// take takes a letter out of the queue, or from the worker that has begun it.
func (s *simulation) take(l *letter) { s.queue, s.begun = without(s.queue, l), without(s.begun, l) }

// without removes one of several, of which the others keep their order.
func without[T comparable](all []T, one T) []T {
	if i := slices.Index(all, one); i >= 0 {
		return slices.Delete(all, i, i+1)
	}
	return all
}

// takeBack has the builder apply a delta that no worker has begun to apply.
func (s *simulation) takeBack(l *letter) {
	if s.isIdle && slices.Contains(s.queue, l) {
		s.take(l)
		s.check(l)
	}
}

// becomeIdle has it do so with all that wait.
func (s *simulation) becomeIdle() {
	s.isIdle = true
	for _, l := range s.queue {
		s.at(s.now+grace, func() { s.takeBack(l) })
	}
}

// --- the builder

// makeHere has the builder begin what nobody has begun: as many rdiff deltas as it has cores, one
// compact delta at a time on all cores.
func (s *simulation) makeHere() {
	for !s.Busy {
		next := s.nextHere()
		if next == nil {
			if s.making == 0 {
				s.becomeIdle()
			}
			return
		}
		s.take(next)
		s.making++
		most := 1.
		if next.Compact {
			most = s.Builder
		}
		// The index of a base is made once, for all its deltas: by the first of them.
		work := next.Make + next.Check
		if s.isFirst(next.Job) {
			work += next.Index
		}
		s.home.use(work, most, func() {
			s.making--
			s.outcome.Home++
			s.end()
			s.makeHere()
		})
	}
}

// nextHere returns what the builder begins next: the first that nobody has begun; else the rdiff
// delta that a worker has begun last, which that tries in vain.
func (s *simulation) nextHere() *letter {
	fits := func(l *letter) bool {
		return l.maker == nil && (s.making == 0 || !l.Compact && float64(s.making) < s.Builder)
	}
	if i := slices.IndexFunc(s.queue, fits); i >= 0 {
		return s.queue[i]
	}
	for _, l := range slices.Backward(s.begun) {
		if !l.Compact && fits(l) {
			return l
		}
	}
	return nil
}

// isFirst reports whether the builder has made no delta from the base before.
func (s *simulation) isFirst(j *Job) bool {
	for i := range s.Jobs {
		if other := &s.Jobs[i]; other == j {
			return true
		} else if other.Base == j.Base {
			return false
		}
	}
	return true
}

// end ends a delta.
func (s *simulation) end() { s.left-- }

// arrived takes a delta from its maker. That of a compact delta is applied by another worker, if
// there is one.
func (s *simulation) arrived(l *letter, maker *worker) {
	if !slices.Contains(s.begun, l) { // the builder has taken it over
		return
	}
	s.begun = without(s.begun, l)
	s.outcome.Away++
	if l.Compact && len(s.workers) > 1 {
		s.put(&letter{l.Job, maker})
		return
	}
	s.check(l)
}

// applied takes what a worker says of a compact delta.
func (s *simulation) applied(l *letter) {
	before := s.Recheck * float64(s.outcome.Away-1)
	if now := s.Recheck * float64(s.outcome.Away); int(now) > int(before) {
		s.check(l)
		return
	}
	s.end()
}

// check has the builder apply a delta, when those before it are: as many rdiff deltas at a time as
// it has cores, one compact delta on all cores.
func (s *simulation) check(l *letter) {
	s.toCheck = append(s.toCheck, l)
	s.checkNext()
}

func (s *simulation) checkNext() {
	for len(s.toCheck) > 0 {
		l, lanes, most := s.toCheck[0], max(1, s.Builder), 1.
		if l.Compact {
			lanes, most = 1, lanes
		}
		if float64(s.checking) >= lanes {
			return
		}
		s.toCheck = s.toCheck[1:]
		s.checking++
		began := s.now
		s.home.use(l.Check, most, func() {
			s.checking--
			s.checkedFor += (s.now - began) / lanes
			s.outcome.Checks++
			s.end()
			s.checkNext()
		})
	}
}
