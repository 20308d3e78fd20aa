package delta

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"puavo-image-repository/testdata"
)

// repeated returns n bytes of a period of random bytes.
func repeated(period, n int) []byte {
	if period == 1 {
		return make([]byte, n)
	}
	return bytes.Repeat(random(uint64(100+period), period), n/period+1)[:n]
}

// runPairs are bases and targets that have runs of a period, which are longer, shorter
// or somewhere else in the target.
func runPairs(period int) map[string]struct{ base, target []byte } {
	const long = 256 << 10
	run := func(n int) []byte { return repeated(period, n) }
	a, b, c := random(1, 64), random(2, 64), random(3, 5000)
	var islands, sparse []byte
	for i := range uint64(40) {
		islands = slices.Concat(islands, run(5000+int(i)*37), random(10+i, 300))
		sparse = slices.Concat(sparse, run(3000+int(i)*113), random(10+i, 300))
	}
	return map[string]struct{ base, target []byte }{
		"longer":           {slices.Concat(a, run(long), b), slices.Concat(a, run(long*6/5), b)},
		"longer, cut":      {slices.Concat(a, run(long), b), slices.Concat(run(long*6/5), a)},
		"much longer":      {slices.Concat(a, run(4096), b), slices.Concat(a, run(long), b)},
		"from a short one": {slices.Concat(c, run(300), c), slices.Concat(c, run(20_000), c)},
		"shorter":          {slices.Concat(a, run(long), b), slices.Concat(a, run(long/3), b)},
		"moved":            {slices.Concat(a, run(long), b, c), slices.Concat(c, a, run(long), b)},
		"moved by a byte":  {slices.Concat(a, run(long), b), slices.Concat(a, b[:1], run(long), b)},
		"shifted":          {slices.Concat(a, run(long), b), slices.Concat(a, run(long)[period/2:], b)},
		"islands":          {islands, sparse},
		"other islands":    {islands, slices.Concat(c, sparse[10_000:], run(long))},
		"in the middle":    {slices.Concat(c, run(long), c), slices.Concat(c, run(long/2), a, run(long), c)},
		"not there before": {slices.Concat(a, b, c), slices.Concat(a, run(long/4), b, c)},
	}
}

// No delta of a pair with runs is larger than that of stock rdiff, whatever the period
// and the effort.
func TestRuns(t *testing.T) {
	testdata.Tool(t, "rdiff")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	periods := []int{1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 31, 32, 33, 48, 60, 63, 64}
	if testing.Short() {
		periods = []int{1, 3, 16, 33, 64}
	}
	for _, period := range periods {
		for name, p := range runPairs(period) {
			testdata.Run(t, "rdiff", "-f", "-b", "128", "signature", write(t, dir, "base", p.base), file("signature"))
			testdata.Run(t, "rdiff", "-f", "delta", file("signature"), write(t, dir, "target", p.target), file("delta"))
			stock, err := os.Stat(file("delta"))
			if err != nil {
				t.Fatal(err)
			}
			for effort := range efforts {
				name := fmt.Sprintf("period %d, %s, effort %s", period, name, effort)
				d := diffWith(t, p.base, p.target, effort)
				checkDelta(t, name, p.base, d, p.target)
				if int64(len(d)) > stock.Size() {
					t.Errorf("%s: %d bytes, %d by rdiff", name, len(d), stock.Size())
				}
			}
		}
	}
}

// A run of n bytes is made of as few copies as the longest run of the base allows: all
// but the last take whole periods, and the last less than all.
func TestRunCopies(t *testing.T) {
	for _, period := range []int{1, 3, 16, 33, 64} {
		for _, longest := range []int{192, 320, 1000, 64 << 10} {
			base := slices.Concat(random(1, 5000), repeated(period, 150), random(2, 5000), repeated(period, longest), random(3, 5000))
			target := slices.Concat(random(4, 1000), repeated(period, 300_000), random(5, 1000))
			d := diffWith(t, base, target, Default)
			copies := 0
			for _, c := range commandList(t, d) {
				if !c.literal {
					copies++
				}
			}
			whole := longest / period * period
			if most := (300_000+whole-1)/whole + 1; copies > most || copies == 0 {
				t.Errorf("period %d: %d copies of a run of %d bytes, want %d at most", period, copies, longest, most)
			}
		}
	}
}

// diffWith returns the delta that an effort gives.
func diffWith(t *testing.T, base, target []byte, effort Effort) []byte {
	t.Helper()
	x, err := NewIndex(t.Context(), base, Options{Memory: 1 << 20, Effort: effort})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var d bytes.Buffer
	if _, err := x.Diff(t.Context(), &d, target, nil); err != nil {
		t.Fatal(err)
	}
	return d.Bytes()
}
