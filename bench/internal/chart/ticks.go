package chart

import (
	"math"
	"strconv"

	"gonum.org/v1/plot"
)

// ticks are the multiples of 1, 2 or 5 times a power of ten, about as many as this.
type ticks int

// Ticks implements plot.Ticker.
func (n ticks) Ticks(from, to float64) (all []plot.Tick) {
	if !(to > from) {
		return nil
	}
	rough := (to - from) / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	step := 10 * power
	for _, f := range []float64{1, 2, 5} {
		if f*power >= rough {
			step = f * power
			break
		}
	}
	for i := math.Ceil(from / step); i*step <= to; i++ {
		all = append(all, plot.Tick{Value: i * step, Label: figure(i * step)})
	}
	return all
}

// figure writes a number with three digits that count, and thousands apart.
func figure(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v == 0:
		return "0"
	case math.Abs(v) >= 99.95:
		s := strconv.FormatFloat(v, 'f', 0, 64)
		for i := len(s) - 3; i > 0 && len(s) > 4; i -= 3 {
			s = s[:i] + " " + s[i:]
		}
		return s
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}
