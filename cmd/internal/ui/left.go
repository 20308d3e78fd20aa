package ui

import "time"

// A left estimates how much time work takes still, from how much is done. It goes by the rate
// since the work began, by a third, and by that of the latter half of this time: so it follows
// a machine that others use too, and does not jump.
//
// The zero left is for work that begins with the first call of at.
type left struct {
	marks []mark // in their order; those that are older than needed are left out
}

// mark is how much was done when.
type mark struct {
	at   time.Time
	done int64
}

// settled is how long no time left is shown: the first rates are those of caches.
const settled = 2 * time.Second

// at returns the time left when done of total units are done, and whether it is known.
func (l *left) at(now time.Time, done, total int64) (time.Duration, bool) {
	n := len(l.marks)
	switch {
	case n > 0 && done < l.marks[n-1].done/2:
		*l, n = left{}, 0 // other work has begun
	case n > 0: // what several goroutines report can come out of order
		done = max(done, l.marks[n-1].done)
	}
	if n == 0 || now.Sub(l.marks[n-1].at) >= every {
		l.marks = append(l.marks, mark{now, done})
	}
	first := l.marks[0]
	elapsed := now.Sub(first.at)
	if done >= total {
		return 0, true
	}
	if elapsed < settled || done == first.done {
		return 0, false
	}
	recent := l.since(now.Add(-elapsed / 2))
	whole := float64(done-first.done) / float64(elapsed)
	latest := float64(done-recent.done) / float64(now.Sub(recent.at))
	return time.Duration(float64(total-done) / ((whole + 2*latest) / 3)), true
}

// since returns the last mark before a time, or the first. Marks before it, but the first,
// are no longer needed.
func (l *left) since(t time.Time) mark {
	n := 0
	for n+1 < len(l.marks) && l.marks[n+1].at.Before(t) {
		n++
	}
	if n > 1 {
		l.marks = append(l.marks[:1], l.marks[n:]...)
		n = 1
	}
	return l.marks[n]
}
