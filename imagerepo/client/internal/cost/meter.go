package cost

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// enough is how many bytes must come before a rate is believed.
	enough = 1 << 20
	// A rate is looked at the first time when early bytes have come; on a slow line when
	// earlySlow have, which were waited for earlyTime.
	early     = 4 << 20
	earlySlow = 256 << 10
	earlyTime = time.Second
	// enoughWork is how much work, in bytes, a speed is believed of.
	enoughWork = 16 << 20
)

// Meter measures a step while it is made. Its methods are called one at a time.
type Meter struct {
	began  time.Time
	cpu    time.Duration // that the process had used then
	came   int64
	waited time.Duration // for what came
	first  float64       // the rate of the first bytes, 0 as long as it is not known
}

// Start begins to measure a step.
func Start() *Meter { return &Meter{began: time.Now(), cpu: processTime()} }

// Came takes how many bytes came, and how long that took. A rate that is greater than 0 is
// that of the first megabytes, and returned once.
func (m *Meter) Came(n int, waited time.Duration) (rate float64) {
	m.came += int64(n)
	m.waited += waited
	if m.first > 0 || m.came < early && (m.came < earlySlow || m.waited < earlyTime) {
		return 0
	}
	m.first = rateOf(m.came, m.waited)
	return m.first
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
	all := time.Since(m.began)
	switch {
	case m.came < enough:
	case m.waited*2 >= all || m.first == 0:
		before.Rate = rateOf(m.came, m.waited)
	default: // while the work held up the download, the system has buffered some of it
		before.Rate = m.first
	}
	if work, _ := s.work(); done && work >= enoughWork {
		before.Speed = min(work/m.busy(all), fastest)
	}
	return before
}

// busy returns how many seconds one core would have worked. If the work waited for the disk,
// the processor's time alone says too little, and if the download was slow, the other time.
func (m *Meter) busy(all time.Duration) float64 {
	whole := (all - m.waited).Seconds() * float64(Model{}.cores())
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
