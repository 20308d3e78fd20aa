package measure

import (
	"strconv"
	"strings"
)

// Stage is a step of a script.
type Stage struct {
	Name    string
	Seconds float64
}

// Stages reads what a script prints that tells the clock, in seconds, before its first
// step and after each: lines of a number and the step's name. Other lines are
// skipped.
func Stages(text string) (all []Stage) {
	before := -1.0
	for line := range strings.Lines(text) {
		clock, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		now, err := strconv.ParseFloat(clock, 64)
		if err != nil {
			continue
		}
		if before >= 0 {
			all = append(all, Stage{name, now - before})
		}
		before = now
	}
	return all
}
