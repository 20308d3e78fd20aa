package pullcmd

import (
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/pull"
)

func record() pull.Record {
	at := time.Unix(1_700_000_000, 0)
	return pull.Record{
		Began: at, Seconds: 1.5, Success: at, Lacks: pull.Lag{Images: 1, Deltas: 2, Bytes: 3 << 20},
		Upstreams: []pull.Upstream{
			{URL: "https://a.example.org", Seen: at, Changed: at.Add(-time.Hour), Expires: at.Add(time.Hour)},
			{URL: "https://b.example.org", Seen: at, Changed: at},
		},
	}
}

func TestDescribeRecord(t *testing.T) {
	r := record()
	got := DescribeRecord(r, time.Unix(1_700_000_060, 0))
	for _, want := range []string{
		"pulled from https://a.example.org 1m0s ago, unchanged for 1h1m0s, signed until ",
		": 1 images and 2 deltas of 3.0 MiB are missing\n",
		"pulled from https://b.example.org 1m0s ago, unchanged for 1m0s: 1 images",
		", 1.5s: done\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	r.Error, r.Lacks = "no room", pull.Lag{}
	if got := DescribeRecord(r, time.Now()); !strings.Contains(got, ": nothing is missing\n") || !strings.Contains(got, "failed: no room\nlast success ") {
		t.Errorf("%s", got)
	}
	r.Success = time.Time{}
	if got := DescribeRecord(r, time.Now()); !strings.HasSuffix(got, "failed: no room\n") {
		t.Errorf("%s", got)
	}
}

// formatted are the metrics of a run, less HELP and TYPE.
const formatted = `
puavo_pull_last_run_timestamp_seconds{mirror="/srv/copy"} 1700000100
puavo_pull_last_success_timestamp_seconds{mirror="/srv/copy"} 1700000000
puavo_pull_last_run_success{mirror="/srv/copy"} 0
puavo_pull_last_exit_code{mirror="/srv/copy"} 3
puavo_pull_duration_seconds{mirror="/srv/copy"} 1.5
puavo_pull_fetched_bytes{mirror="/srv/copy"} 5000
puavo_pull_files{mirror="/srv/copy"} 0
puavo_pull_images_rebuilt{mirror="/srv/copy"} 4
puavo_pull_deltas_made{mirror="/srv/copy"} 2
puavo_pull_files_removed{mirror="/srv/copy"} 0
puavo_pull_lag_images{mirror="/srv/copy"} 1
puavo_pull_lag_deltas{mirror="/srv/copy"} 2
puavo_pull_lag_bytes{mirror="/srv/copy"} 3145728
puavo_pull_upstream_seen_timestamp_seconds{mirror="/srv/copy",upstream="https://a.example.org"} 1700000000
puavo_pull_upstream_seen_timestamp_seconds{mirror="/srv/copy",upstream="https://b.example.org"} 1700000000
puavo_pull_upstream_changed_timestamp_seconds{mirror="/srv/copy",upstream="https://a.example.org"} 1699996400
puavo_pull_upstream_changed_timestamp_seconds{mirror="/srv/copy",upstream="https://b.example.org"} 1700000000
puavo_pull_upstream_expires_timestamp_seconds{mirror="/srv/copy",upstream="https://a.example.org"} 1700003600
`

func TestMetrics(t *testing.T) {
	m := metrics{
		summary: pull.Summary{Fetched: 5000, Rebuilt: 4, Made: 2, Seconds: 1.5, Record: record()},
		dir:     "/srv/copy", end: time.Unix(1_700_000_100, 5), exitCode: 3, failed: true,
	}
	samples, head := "\n", 0
	for line := range strings.Lines(string(m.format())) {
		if strings.HasPrefix(line, "#") {
			head++
		} else {
			samples += line
		}
	}
	if samples != formatted || head != 2*16 {
		t.Errorf("%d lines of help and type, and %s", head, samples)
	}
}

func TestParseReverify(t *testing.T) {
	for s, want := range map[string]struct {
		how pull.Verify
		age time.Duration
	}{
		"never": {pull.ByName, 0}, "size": {pull.BySize, 0}, "digest": {pull.ByReading, 0}, "2d": {pull.BySize, 48 * time.Hour},
	} {
		if how, age, err := parseReverify(s); how != want.how || age != want.age || err != nil {
			t.Errorf("%s: %v, %v, %v", s, how, age, err)
		}
	}
	for _, s := range []string{"", "often", "-1d"} {
		if how, age, err := parseReverify(s); err == nil {
			t.Errorf("%q: %v, %v", s, how, age)
		}
	}
}
