package retention

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// restic is a repository of restic with a snapshot of each of some times.
type restic struct {
	t   *testing.T
	env []string
}

func newRestic(t *testing.T, times []time.Time) restic {
	testdata.Tool(t, "restic")
	dir := t.TempDir()
	r := restic{t, append(os.Environ(), "TZ=UTC", "RESTIC_PASSWORD=test", "RESTIC_REPOSITORY="+filepath.Join(dir, "repo"), "RESTIC_CACHE_DIR="+filepath.Join(dir, "cache"))}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	r.run("init", "--quiet")
	for _, at := range times {
		r.run("backup", "--quiet", "--host", "h", "--time", at.Format(time.DateTime), file)
	}
	return r
}

func (r restic) run(args ...string) []byte {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "restic", args...)
	cmd.Env, cmd.Stderr = r.env, r.t.Output()
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("restic %q: %v", args, err)
	}
	return out
}

// keeps returns the versions that restic keeps.
func (r restic) keeps(args ...string) (kept []string) {
	r.t.Helper()
	var groups []struct {
		Keep []struct {
			Time time.Time `json:"time"`
		} `json:"keep"`
	}
	out := r.run(append([]string{"forget", "--dry-run", "--json"}, args...)...)
	if err := json.Unmarshal(out, &groups); err != nil || len(groups) != 1 {
		r.t.Fatalf("%v: %s", err, out)
	}
	for _, s := range groups[0].Keep {
		kept = append(kept, s.Time.UTC().Format(Layout))
	}
	slices.Sort(kept)
	return kept
}

// A policy keeps what restic keeps of the same times.
func TestAgainstRestic(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	at := time.Date(2022, 11, 3, 23, 50, 0, 0, time.UTC)
	var times []time.Time
	var all []Item
	for i := range testdata.Scale(36, 3) {
		step := []time.Duration{13 * time.Minute, 5 * time.Hour, 26 * time.Hour, 9 * 24 * time.Hour, 40 * 24 * time.Hour}[(i/2+random.IntN(2))%5]
		at = at.Add(step)
		times = append(times, at)
		all = append(all, Item{Version: at.Format(Layout)})
	}
	r := newRestic(t, times)
	version := r.run("version")
	old := strings.HasPrefix(string(version), "restic 0.14.") || strings.HasPrefix(string(version), "restic 0.15.")
	policies := []Policy{
		{Last: 3}, {Hourly: 4}, {Hourly: 100}, {Daily: 5}, {Daily: 100}, {Weekly: 4}, {Weekly: 100}, {Monthly: 3}, {Monthly: 100},
		{Yearly: 1}, {Yearly: 9}, {Within: 24 * time.Hour}, {Within: 100 * 24 * time.Hour},
		{Last: 1, Daily: 3, Weekly: 3, Monthly: 6, Yearly: 2}, {Last: 2, Hourly: 6, Within: 50 * 24 * time.Hour}, {Daily: 7, Monthly: 12},
	}
	for _, p := range policies[:testdata.Scale(len(policies), 2)] {
		var args []string
		for _, a := range []struct {
			flag string
			n    int
		}{{"last", p.Last}, {"hourly", p.Hourly}, {"daily", p.Daily}, {"weekly", p.Weekly}, {"monthly", p.Monthly}, {"yearly", p.Yearly}} {
			if a.n > 0 {
				args = append(args, fmt.Sprintf("--keep-%s=%d", a.flag, a.n))
			}
		}
		if p.Within > 0 {
			args = append(args, fmt.Sprintf("--keep-within=%dh", int(p.Within.Hours())))
		}
		choices, err := p.Choose(all)
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		for _, c := range choices {
			if c.Kept() {
				kept = append(kept, c.Version)
			}
		}
		want := r.keeps(args...)
		if !old && len(want) > 0 && want[0] == all[0].Version && kept[0] != want[0] {
			want = want[1:] // the oldest, while a count is left
		}
		if !slices.Equal(kept, want) {
			t.Errorf("%v: kept are\n%q, restic keeps\n%q", args, kept, want)
		}
	}
}
