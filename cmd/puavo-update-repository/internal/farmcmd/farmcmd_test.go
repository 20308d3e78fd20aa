package farmcmd

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/farm"
)

var example = farm.Status{
	Address: "nats://127.0.0.1:4280", Time: time.Unix(1_700_000_000, 0),
	Workers: []farm.Worker{
		{Name: "one", Done: 30, Running: 2, Seconds: 3600},
		{Name: "two", Done: 0, Failed: 1, Barred: "it made a wrong \x1b delta"},
		{Name: "three", Done: 1, Seconds: 7200, Gone: true},
	},
	Left: 12, Seconds: 90, Sent: 3 << 30, Received: 5 << 20, Rechecked: 4,
}

// The table has each worker with its rate, and what is left.
func TestPrintStatus(t *testing.T) {
	ended := example
	ended.Ended, ended.Left, ended.Seconds, ended.Workers = true, 0, 0, nil
	for _, c := range []struct {
		status farm.Status
		want   string
	}{
		{example, `^worker  done  failed  running  jobs an hour  \n` +
			`one     30    0       2        30            \n` +
			`two     0     1       0        -             gets no more jobs: it made a wrong .* delta\n` +
			`three   1     0       0        0             gone\n` +
			`3\.0 GiB sent to workers, 5\.0 MiB received; 4 of their deltas applied here\n` +
			`nats://127\.0\.0\.1:4280 at work \(2023-11-1\d \d\d:\d\d:20\); 12 jobs left, about 1m30s\n$`},
		{ended, `^worker .*\n0 B sent .*|.* ended \(.*\); 0 jobs left\n$`},
	} {
		var b strings.Builder
		if err := PrintStatus(&b, c.status); err != nil || !regexp.MustCompile(c.want).MatchString(b.String()) || strings.Contains(b.String(), "\x1b") {
			t.Errorf("%v, got\n%q\nwant\n%s", err, &b, c.want)
		}
	}
}

// JSON has an object for each worker, and none is an empty list.
func TestPrintJSON(t *testing.T) {
	var b strings.Builder
	if err := PrintJSON(&b, example); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Workers []struct {
			Worker  string
			Done    int
			PerHour float64 `json:"jobs_per_hour"`
		}
		Left, Rechecked int
		Seconds         float64
		Sent, Received  int64
	}
	err := json.Unmarshal([]byte(b.String()), &got)
	if err != nil || len(got.Workers) != 3 || got.Workers[0].Worker != "one" || got.Workers[0].Done != 30 || got.Workers[0].PerHour != 30 || got.Workers[2].PerHour != 0.5 ||
		got.Left != 12 || got.Seconds != 90 || got.Sent != 3<<30 || got.Received != 5<<20 || got.Rechecked != 4 {
		t.Errorf("%+v, %v of\n%s", got, err, &b)
	}
	b.Reset()
	if err := PrintJSON(&b, farm.Status{}); err != nil || !strings.Contains(b.String(), `"workers": []`) {
		t.Errorf("%v, no workers: %s", err, &b)
	}
}

func TestShare(t *testing.T) {
	for text, want := range map[string]float64{"5%": 0.05, "0.25": 0.25, "0": 0, "100%": 1, "1": 1, " 7 %": 0.07, "": -1, "%": -1, "7": -1, "-1%": -1, "101%": -1, "NaN": -1, "x": -1} {
		got, err := share(text)
		if (err != nil) != (want < 0) || err == nil && (got < want-1e-9 || got > want+1e-9) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
}
