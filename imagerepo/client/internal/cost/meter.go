package cost

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// enough is how many bytes must come before a rate is believed.
	enough = 1 << 20
	// A rate is looked at the first time when early bytes have come; on a slow line when
	// earlySlow have, which were waited for earlyTime. After that it is looked at whenever again
	// times as many bytes have come, since a line may be faster in its first second than later.
	early     = 4 << 20
	earlySlow = 256 << 10
	earlyTime = time.Second
	again     = 4
	// enoughWork is how much work, in bytes, a speed is believed of.
	enoughWork = 16 << 20
)

// Meter measures a step while it is made. Its methods are called one at a time.
type Meter struct {
	now   func() time.Time
	known float64 // the rate of the downloads before, 0 if it is not known
	began time.Time
	cpu   time.Duration // that the process had used then
	all   download
	seen  download  // when a rate was looked at last
	at    time.Time // when that was
	rate  float64   // that was found then, 0 as long as none is known
}

// download is what came, and how long was waited for it.
type download struct {
	bytes  int64
	waited time.Duration
}

func (d download) rate() float64 { return rateOf(d.bytes, d.waited) }

// Start begins to measure a step, given what is known before it.
func Start(before Known) *Meter {
	return &Meter{now: time.Now, known: before.Rate, began: time.Now(), cpu: processTime()}
}

// Came takes how many bytes came, and how long that took. A rate that is greater than 0 is that
// of the latest megabytes. It is returned seldom.
func (m *Meter) Came(n int, waited time.Duration) (rate float64) {
	m.all.bytes += int64(n)
	m.all.waited += waited
	latest := download{m.all.bytes - m.seen.bytes, m.all.waited - m.seen.waited}
	first := m.seen.bytes == 0
	if first && latest.bytes < early && (latest.bytes < earlySlow || latest.waited < earlyTime) || m.all.bytes < again*m.seen.bytes {
		return 0
	}
	now := m.now()
	passed := now.Sub(m.at)
	m.seen, m.at = m.all, now
	if !first && 2*latest.waited < passed {
		return 0 // the work held up the download, and the system has buffered some of it
	}
	m.rate = latest.rate()
	if first && m.known > 0 && m.rate > m.known {
		return 0 // perhaps that of its first second
	}
	return m.rate
}

// RateOf returns the rate at which some bytes came in some time, 0 if that are too few to
// say.
func RateOf(bytes int64, in time.Duration) float64 {
	if bytes < enough {
		return 0
	}
	return rateOf(bytes, in)
}

func rateOf(bytes int64, in time.Duration) float64 {
	return min(float64(bytes)/max(in.Seconds(), 1e-9), fastest)
}

// End returns what is known after a step, given what was known before. s is the step as it
// was before, and done says that it was made to its end.
func (m *Meter) End(before Known, s Step, done bool) Known {
	passed := m.now().Sub(m.began)
	switch {
	case m.all.bytes < enough:
	case m.all.waited*2 >= passed || m.rate == 0:
		before.Rate = m.all.rate()
	default: // while the work held up the download, the system has buffered some of it
		before.Rate = m.rate
	}
	if work, _ := s.work(); done && work >= enoughWork {
		before.Speed = min(work/m.busy(passed), fastest)
	}
	return before
}

// busy returns how many seconds one core would have worked. If the work waited for the disk,
// the processor's time alone says too little, and if the download was slow, the other time.
func (m *Meter) busy(passed time.Duration) float64 {
	whole := (passed - m.all.waited).Seconds() * float64(Model{}.cores())
	return max((processTime() - m.cpu).Seconds(), whole, 1e-6)
}

// processTime returns how much processor time the process has used.
func processTime() time.Duration {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
