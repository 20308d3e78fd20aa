// Package pace measures the speed of a download over the last minutes.
package pace

import (
	"math"
	"time"
)

// marks is how many marks a window has.
const marks = 16

// Pace is the rate of one download. It is not for concurrent use.
type Pace struct {
	window time.Duration
	past   []mark // oldest first, and none of them older than needed
}

// mark is how much was left at some time.
type mark struct {
	at   time.Time
	left int64 // bytes
}

// Over returns a Pace that measures over a window of time.
func Over(window time.Duration) *Pace { return &Pace{window: window} }

// Left takes how many bytes are left now. It returns the rate in bytes a second, over
// the window or what there is of it, and whether that is a whole window.
func (p *Pace) Left(bytes int64) (rate float64, whole bool) {
	now := time.Now()
	if len(p.past) == 0 {
		p.past = append(p.past, mark{now, bytes})
		return 0, false
	}
	for len(p.past) > 1 && now.Sub(p.past[1].at) >= p.window {
		p.past = p.past[1:]
	}
	first := p.past[0]
	if now.Sub(p.past[len(p.past)-1].at) >= p.window/marks {
		p.past = append(p.past, mark{now, bytes})
	}
	passed := now.Sub(first.at)
	if passed <= 0 {
		return 0, false
	}
	return float64(first.left-bytes) / passed.Seconds(), passed >= p.window
}

// Time returns how long bytes take at a rate, which is above zero.
func Time(bytes int64, rate float64) time.Duration {
	seconds := float64(bytes) / rate
	if most := time.Duration(math.MaxInt64); seconds >= most.Seconds() {
		return most
	}
	return time.Duration(seconds * float64(time.Second))
}
