package pace

import (
	"testing"
	"testing/synctest"
	"time"
)

// A rate is that of the last window: a fast beginning does not count for ever, nor does
// a slow one.
func TestPace(t *testing.T) {
	const window = time.Minute
	for _, c := range []struct {
		name  string
		rates []int64 // bytes a second, each for half a window
		want  float64 // in the end, within a sixteenth of a window
		whole bool
	}{
		{"less than a window", []int64{100}, 100, false},
		{"a window", []int64{100, 100}, 100, true},
		{"a fast beginning", []int64{1000, 100, 100, 100}, 100, true},
		{"a slow beginning", []int64{1, 1, 1000, 1000}, 1000, true},
		{"half of the window is slow", []int64{1000, 1000, 500}, 750, true},
		{"nothing comes", []int64{1000, 0, 0, 0}, 0, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, left := Over(window), int64(1<<30)
			rate, whole := p.Left(left)
			if rate != 0 || whole {
				t.Errorf("%s: at first %v, %v", c.name, rate, whole)
			}
			for _, r := range c.rates {
				for range int(window / 2 / time.Second) {
					time.Sleep(time.Second)
					left -= r
					rate, whole = p.Left(left)
				}
			}
			if slack := c.want / 8; rate < c.want-slack || rate > c.want+slack || whole != c.whole {
				t.Errorf("%s: %v a second, whole %v; want %v, %v", c.name, rate, whole, c.want, c.whole)
			}
			if len(p.past) > marks+2 {
				t.Errorf("%s: %d marks", c.name, len(p.past))
			}
		})
	}
}

// Two calls in one instant have no rate.
func TestInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Over(0)
		p.Left(100)
		if rate, whole := p.Left(50); rate != 0 || whole {
			t.Errorf("%v, %v", rate, whole)
		}
	})
}

func TestTime(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		rate  float64
		want  time.Duration
	}{
		{0, 1, 0}, {100, 50, 2 * time.Second}, {1, 1000, time.Millisecond}, {1 << 62, 1e-9, 1<<63 - 1},
	} {
		if got := Time(c.bytes, c.rate); got != c.want {
			t.Errorf("%d at %v: %v, want %v", c.bytes, c.rate, got, c.want)
		}
	}
}
