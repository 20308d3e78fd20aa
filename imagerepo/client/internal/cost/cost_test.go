package cost

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
)

// The images and deltas of a real update, in bytes, and of a small one.
var (
	rdiff        = Step{Fetch: 138e6, Size: 138e6, Makes: 1600e6}
	compact      = Step{Fetch: 98e6, Size: 98e6, Makes: 1600e6, Compact: true, Coded: 340e6, Unpacked: 1070e6}
	smallRdiff   = Step{Fetch: 4.6e6, Size: 4.6e6, Makes: 1467e6}
	smallCompact = Step{Fetch: 0.53e6, Size: 0.53e6, Makes: 1467e6, Compact: true, Coded: 55e6, Unpacked: 105e6}
	full         = Step{Fetch: 1600e6, Size: 1600e6, Makes: 1600e6}
)

// begun returns a step of which so many bytes have come.
func begun(s Step, came int64) Step {
	s.Fetch -= came
	return s
}

const mbit = 1e6 / 8

func TestCost(t *testing.T) {
	for _, c := range []struct {
		name        string
		model       Model
		first, then Step // the first costs less
	}{
		{"2 Mbit/s", Model{Known: Known{Rate: 2 * mbit}, Cores: 2}, compact, rdiff},
		{"10 Mbit/s", Model{Known: Known{Rate: 10 * mbit}, Cores: 2}, compact, rdiff},
		{"100 Mbit/s", Model{Known: Known{Rate: 100 * mbit}, Cores: 2}, rdiff, compact},
		{"100 Mbit/s and a fast machine", Model{Known: Known{Rate: 100 * mbit, Speed: 20e6}, Cores: 16}, compact, rdiff},
		{"100 Mbit/s, limited to 5", Model{Known: Known{Rate: 100 * mbit}, Limit: 5 * mbit, Cores: 2}, compact, rdiff},
		{"10 Mbit/s, limited to 100", Model{Known: Known{Rate: 10 * mbit}, Limit: 100 * mbit, Cores: 2}, compact, rdiff},
		{"a slow machine", Model{Known: Known{Rate: 40 * mbit, Speed: 1e6}, Cores: 1}, rdiff, compact},
		{"unlimited", Model{Known: Known{Rate: 1e9}, Cores: 2}, rdiff, compact},
		{"nothing known", Model{Cores: 2}, rdiff, compact},
		{"a small one, 10 Mbit/s", Model{Known: Known{Rate: 5 * mbit}, Cores: 2}, smallCompact, smallRdiff},
		{"a small one, 100 Mbit/s", Model{Known: Known{Rate: 100 * mbit}, Cores: 2}, smallRdiff, smallCompact},
		{"traffic", Model{Known: Known{Rate: 1e9, Speed: 1e6}, Traffic: true, Cores: 1}, compact, rdiff},
		{"traffic, begun", Model{Traffic: true}, begun(rdiff, 100e6), compact},
		{"begun", Model{Cores: 2}, begun(compact, 90e6), rdiff},
		{"full, however fast", Model{Known: Known{Rate: fastest}, Cores: 2}, rdiff, full},
	} {
		if a, b := c.model.Of(c.first), c.model.Of(c.then); a >= b {
			t.Errorf("%s: %v, want less than %v", c.name, a, b)
		}
	}
}

// Among rdiff deltas and full images the bytes decide, whatever the rate.
func TestBytesDecide(t *testing.T) {
	one := Step{Fetch: 10e6, Size: 10e6, Makes: 64e6}
	for _, rate := range []float64{slowest, 1e6, fastest} {
		m := Model{Known: Known{Rate: rate}}
		for fetch, less := range map[int64]bool{20e6: false, 21.1e6: true} {
			if got := 2*m.Of(one) < m.Of(Step{Fetch: fetch, Size: fetch, Makes: 64e6}); got != less {
				t.Errorf("at %v bytes a second, two of 10 MB cost less than one of %d: %v", rate, fetch, got)
			}
		}
	}
}

// A step takes the longer of its parts, and what of the other cannot be done meanwhile.
func TestSeconds(t *testing.T) {
	m := Model{Known: Known{Rate: 1e6, Speed: 10e6}, Cores: 2}
	for name, c := range map[string]struct {
		step        Step
		least, most float64
	}{
		"nothing":            {Step{}, 0, 0},
		"fetched":            {Step{Fetch: 100e6, Size: 100e6}, 100, 100},
		"written":            {Step{Makes: 400e6}, 2, 2},
		"worked on":          {Step{Fetch: 1e6, Size: 1e6, Compact: true, Coded: 199e6}, 11, 11.1},
		"both":               {Step{Fetch: 100e6, Size: 100e6, Compact: true, Coded: 400e6}, 101, 102},
		"decompressed alone": {Step{Fetch: 1e9, Size: 1e9, Compact: true}, 1000, 1001},
		"of no size":         {Step{Compact: true, Coded: 5}, 0, 0},
	} {
		if got := m.Seconds(c.step); got < c.least || got > c.most {
			t.Errorf("%s: %v s, want %v to %v", name, got, c.least, c.most)
		}
	}
	m.Cores = 0
	if got := m.Seconds(compact); got <= 0 {
		t.Errorf("with all cores: %v s", got)
	}
}

// On a slow line a small rdiff delta that was begun is left for a compact one, though the image
// that both write is much larger than they.
func TestTime(t *testing.T) {
	rest := []Step{begun(smallRdiff, 500e3)}
	for rate, less := range map[float64]bool{2 * mbit: true, 100 * mbit: false} {
		m := Model{Known: Known{Rate: rate}, Cores: 2}
		if got := m.Time([]Step{smallCompact}) < 0.8*m.Time(rest); got != less {
			t.Errorf("at %v bytes a second: %v s instead of %v s", rate, m.Time([]Step{smallCompact}), m.Time(rest))
		}
	}
	m := Model{Cores: 2}
	if got, want := m.Time([]Step{full, compact}), m.Seconds(full)+m.Seconds(compact); got != want {
		t.Errorf("%v s, want %v", got, want)
	}
}

func TestFile(t *testing.T) {
	path := t.TempDir()
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if k := Read(dir); k != (Known{}) {
		t.Errorf("without a file: %+v", k)
	}
	want := Known{Rate: 1234567, Speed: 2e7}
	if err := (Known{Rate: 1234567.4, Speed: 2e7}).Write(dir); err != nil {
		t.Fatal(err)
	}
	if k := Read(dir); k != want {
		t.Errorf("%+v, want %+v", k, want)
	}
	for text, want := range map[string]Known{
		"":                         {},
		"{":                        {},
		`{"rate":-1,"speed":1000}`: {Speed: 1000},
		`{"rate":1e300}`:           {},
		`{"rate":"fast"}`:          {},
		`{"rate":1000,"more":[1]}`: {Rate: 1000},
		`[]`:                       {},
		strings.Repeat(" ", maxFile) + `{"rate":1000}`: {},
	} {
		if err := os.WriteFile(filepath.Join(path, fileName), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if k := Read(dir); k != want {
			t.Errorf("%.40q: %+v, want %+v", text, k, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"rate":1000,"speed":2e7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k := parse(data)
		if k.Rate < 0 || k.Rate > fastest || k.Speed < 0 || k.Speed > fastest {
			t.Errorf("%+v", k)
		}
		if s := (Model{Known: k, Cores: 2}).Of(compact); !(s > 0) {
			t.Errorf("%+v: %v s", k, s)
		}
	})
}

// A rate is believed of a megabyte, and of the first megabytes while the work holds up the
// rest.
func TestMeter(t *testing.T) {
	const second = time.Second
	old := Known{Rate: 5, Speed: 7}
	for name, c := range map[string]struct {
		ago    time.Duration // that the step began
		came   []int
		waited time.Duration // for each of them
		step   Step
		done   bool
		early  float64 // the rate that is returned meanwhile
		rate   float64
		speed  bool // is measured
	}{
		"little":              {second, []int{1000}, second, rdiff, true, 0, 5, false},
		"a download":          {3 * second, []int{2 << 20, 2 << 20, 4 << 20}, second, rdiff, true, 2 << 20, 8 << 20 / 3., false},
		"held up":             {300 * second, []int{4 << 20, 4 << 20}, second, compact, true, 4 << 20, 4 << 20, true},
		"slow, and little":    {2 * second, []int{300 << 10, 300 << 10}, second, rdiff, false, 300 << 10, 5, false},
		"slow, and too early": {2 * second, []int{300 << 10}, second / 2, rdiff, false, 0, 5, false},
		"slow":                {20 * second, []int{1 << 20, 1 << 20}, 10 * second, rdiff, false, 1 << 20 / 10., 1 << 20 / 10., false},
		"not to its end":      {300 * second, []int{4 << 20}, second, compact, false, 4 << 20, 4 << 20, false},
		"too little work":     {second, nil, 0, Step{Size: 1, Fetch: 1, Compact: true, Coded: 1000}, true, 0, 5, false},
		"no time at all":      {0, []int{8 << 20}, 0, rdiff, true, fastest, fastest, false},
		"a large compact one": {100 * second, []int{98e6}, 50 * second, compact, true, 98e6 / 50, 98e6 / 50, true},
	} {
		m := Start(Known{})
		m.began = m.began.Add(-c.ago)
		var early float64
		for _, n := range c.came {
			if rate := m.Came(n, c.waited); early == 0 {
				early = rate
			}
		}
		k := m.End(old, c.step, c.done)
		if early != min(c.early, fastest) || k.Rate < 0.99*c.rate || k.Rate > 1.01*c.rate || (k.Speed != old.Speed) != c.speed {
			t.Errorf("%s: %v, then %+v", name, early, k)
		}
	}
}

// A rate is looked at again when four times as much has come: then it is that of the bytes since,
// unless the work has held them up.
func TestMeterAgain(t *testing.T) {
	const second = time.Second
	now := time.Now()
	m := &Meter{now: func() time.Time { return now }, began: now}
	for i, c := range []struct {
		came           int
		waited, passed time.Duration
		want           float64
	}{
		{2 << 20, second, second, 2 << 20}, // of a line that is slow
		{4 << 20, second, second, 0},
		{4 << 20, second, 2 * second, 4 << 20},
		{30 << 20, second, 5 * second, 0}, // held up
		{119 << 20, 10 * second, 10 * second, 0},
		{1 << 20, 10 * second, 10 * second, 6 << 20},
	} {
		now = now.Add(c.passed)
		if got := m.Came(c.came, c.waited); got != c.want {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
	now = now.Add(100 * second)
	if k := m.End(Known{}, Step{}, true); k.Rate != 6<<20 {
		t.Errorf("in the end %v", k.Rate)
	}
}

// What comes first counts meanwhile only if it comes slower than what came before this step. In
// the end it counts, so that a machine on a new, faster line learns of it.
func TestMeterFirst(t *testing.T) {
	for known, want := range map[float64]float64{0: early, early + 1: early, early - 1: 0} {
		m := Start(Known{Rate: known})
		if got := m.Came(early, time.Second); got != want {
			t.Errorf("after %v: %v, want %v", known, got, want)
		}
		m.began = m.began.Add(-time.Hour) // the work held up the rest
		if got := m.End(Known{Rate: known}, Step{}, true).Rate; got != early {
			t.Errorf("after %v: %v at an end", known, got)
		}
		if got := m.Came(4*early, time.Second); got != 4*early {
			t.Errorf("after %v: %v in the end", known, got)
		}
	}
}

func TestRateOf(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		in    time.Duration
		want  float64
	}{{enough - 1, time.Second, 0}, {enough, time.Second, enough}, {enough, 0, fastest}} {
		if got := RateOf(c.bytes, c.in); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
