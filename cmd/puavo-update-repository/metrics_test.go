package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/farm"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta/untrusted"
	"puavo-image-repository/testdata"
)

var testMetrics = metrics{
	Summary: imagerepo.Summary{
		Series: 1, Images: 3, ImageBytes: 12_000_000_000_001,
		Made: 2, Kept: 4, Dropped: 5, DeltaBytes: 1 << 30, Removed: 7,
	},
	mirror:      "/srv/mirror",
	end:         time.Unix(1_700_000_100, 999),
	lastSuccess: 1_700_000_000,
	exitCode:    3,
	duration:    90*time.Second + 1500*time.Microsecond,
}

// formatted is testMetrics as a file, less HELP and TYPE.
const formatted = `
puavo_repository_last_run_timestamp_seconds{mirror="/srv/mirror"} 1700000100
puavo_repository_last_success_timestamp_seconds{mirror="/srv/mirror"} 1700000000
puavo_repository_last_run_success{mirror="/srv/mirror"} 1
puavo_repository_last_exit_code{mirror="/srv/mirror"} 3
puavo_repository_duration_seconds{mirror="/srv/mirror"} 90.002
puavo_repository_series{mirror="/srv/mirror"} 1
puavo_repository_images{mirror="/srv/mirror"} 3
puavo_repository_image_bytes{mirror="/srv/mirror"} 12000000000001
puavo_repository_deltas{mirror="/srv/mirror"} 6
puavo_repository_delta_bytes{mirror="/srv/mirror"} 1073741824
puavo_repository_deltas_made{mirror="/srv/mirror"} 2
puavo_repository_deltas_kept{mirror="/srv/mirror"} 4
puavo_repository_deltas_dropped{mirror="/srv/mirror"} 5
puavo_repository_files_removed{mirror="/srv/mirror"} 7
puavo_repository_deltas_omitted{mirror="/srv/mirror"} 0
puavo_repository_series_failed{mirror="/srv/mirror"} 0
puavo_repository_errors{mirror="/srv/mirror"} 0
`

// Each metric has three lines: HELP, TYPE and the value.
func TestFormat(t *testing.T) {
	lines := strings.SplitAfter(string(testMetrics.format()), "\n")
	var samples strings.Builder
	for i := 0; i+2 < len(lines); i += 3 {
		name, _, _ := strings.Cut(lines[i+2], "{")
		if help, found := strings.CutPrefix(lines[i], "# HELP "+name+" "); !found || !strings.HasSuffix(help, ".\n") {
			t.Errorf("%q, want the help of %s", lines[i], name)
		}
		if want := "# TYPE " + name + " gauge\n"; lines[i+1] != want {
			t.Errorf("%q, want %q", lines[i+1], want)
		}
		samples.WriteString(lines[i+2])
	}
	if got := "\n" + samples.String(); got != formatted || len(lines)%3 != 1 {
		t.Errorf("got %s\nwant %s", got, formatted)
	}
}

// A run that workers could come to says what they did.
func TestFormatFarm(t *testing.T) {
	m := testMetrics
	before := string(m.format())
	m.farm = &farm.Status{
		Workers: []farm.Worker{{Name: "a", Done: 7, Failed: 1}, {Name: "b", Done: 4, Failed: 2, Barred: "it made a wrong delta"}, {Name: "c", Gone: true}},
		Sent:    3 << 40, Received: 5 << 30, Rechecked: 2,
	}
	var got strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(string(m.format()), before)) {
		if !strings.HasPrefix(line, "#") {
			got.WriteString(strings.ReplaceAll(line, `{mirror="/srv/mirror"}`, ""))
		}
	}
	const want = `puavo_repository_farm_workers 3
puavo_repository_farm_workers_barred 1
puavo_repository_farm_jobs_done 11
puavo_repository_farm_jobs_failed 3
puavo_repository_farm_deltas_rechecked 2
puavo_repository_farm_sent_bytes 3298534883328
puavo_repository_farm_received_bytes 5368709120
`
	if got.String() != want {
		t.Errorf("got\n%s", &got)
	}
}

// What differs in a run that failed, where none ever succeeded.
func TestFormatFailed(t *testing.T) {
	m := testMetrics
	m.failed, m.lastSuccess = true, 0
	got := string(m.format())
	for _, want := range []string{`last_run_success{mirror="/srv/mirror"} 0`, `errors{mirror="/srv/mirror"} 1`} {
		if !strings.Contains(got, "\n"+prefix+want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "last_success") {
		t.Errorf("a last success in\n%s", got)
	}
}

// The expiry of signatures is given by role; a renewal replaces it alone.
func TestExpiry(t *testing.T) {
	signed := func(at int64) (all []trust.RoleStatus) {
		for i, role := range trust.Roles() {
			all = append(all, trust.RoleStatus{Role: role, Expires: time.Unix(at+int64(i), 0)})
		}
		return all
	}
	const want = `# HELP puavo_repository_signature_expires_timestamp_seconds When the signatures of a role expire, since 1970.
# TYPE puavo_repository_signature_expires_timestamp_seconds gauge
puavo_repository_signature_expires_timestamp_seconds{mirror="/srv/mirror",role="root"} 500
puavo_repository_signature_expires_timestamp_seconds{mirror="/srv/mirror",role="timestamp"} 501
puavo_repository_signature_expires_timestamp_seconds{mirror="/srv/mirror",role="snapshot"} 502
puavo_repository_signature_expires_timestamp_seconds{mirror="/srv/mirror",role="targets"} 503
`
	m := testMetrics
	unsigned := string(m.format())
	m.signed = signed(500)
	got := string(m.format())
	if got != unsigned+want {
		t.Errorf("got\n%s", got)
	}
	file := filepath.Join(t.TempDir(), "repo.prom")
	for _, old := range []string{"", got, unsigned, "what is this?\n"} {
		if old != "" {
			if err := os.WriteFile(file, []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := writeExpiry(t.Context(), file, "/srv/mirror", signed(1500)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if want := strings.TrimSuffix(old, want) + strings.ReplaceAll(want, "} 50", "} 150"); err != nil || string(got) != want {
			t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
		}
	}
	if err := writeExpiry(t.Context(), filepath.Dir(file), "/srv/mirror", nil); err == nil || !strings.Contains(err.Error(), "metrics file ") {
		t.Errorf("a directory: %v", err)
	}
}

// A renewal reads no old metrics of what is no regular file, none that are far too large,
// and none when it is cancelled; then the file stays as it is.
func TestExpiryOfOddFiles(t *testing.T) {
	signed := []trust.RoleStatus{{Role: trust.Root, Expires: time.Unix(500, 0)}}
	t.Chdir(t.TempDir())
	if err := errors.Join(testdata.Sparse("large"), os.WriteFile("old", []byte("old\n"), 0o644), testdata.PutOdd("pipe", "pipe")); err != nil {
		t.Fatal(err)
	}
	used := testdata.Allocated(func() {
		if err := writeExpiry(t.Context(), "large", "/m", signed); !errors.Is(err, untrusted.ErrTooLarge) {
			t.Errorf("2 GiB: %v", err)
		}
	})
	if used > 1<<20 {
		t.Errorf("2 GiB: it takes %d bytes of memory", used)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := writeExpiry(cancelled, "old", "/m", signed); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got, err := os.ReadFile("old"); string(got) != "old\n" || err != nil {
		t.Errorf("cancelled: left is %q, %v", got, err)
	}
	r, err := os.OpenFile("pipe", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, 1<<10)
	testdata.Promptly(t, "a pipe", func() {
		err := writeExpiry(t.Context(), "pipe", "/m", signed)
		if n, readErr := r.Read(got); err != nil || readErr != nil || !strings.HasSuffix(string(got[:n]), `{mirror="/m",role="root"} 500`+"\n") {
			t.Errorf("a pipe: %v, read %q, %v", err, got[:n], readErr)
		}
	})
}

// The name of a mirror can have any bytes.
func TestLabel(t *testing.T) {
	for _, c := range []struct{ mirror, want string }{
		{"/srv/mirror", `/srv/mirror`},
		{`/a "b" \n`, `/a \"b\" \\n`},
		{"/a\nb{} ", `/a\nb{} `},
		{"/ä\xff\xfe", "/ä\uFFFD"},
	} {
		m := testMetrics
		m.mirror = c.mirror
		got := string(m.format())
		if want := "\n" + prefix + `images{mirror="` + c.want + `"} 3` + "\n"; !strings.Contains(got, want) {
			t.Errorf("%q: no %q in\n%s", c.mirror, want, got)
		}
	}
}

// lastSuccess returns the last success in a file of metrics, "" if it has none.
func lastSuccess(metrics []byte, mirror string) string {
	_, after, _ := strings.Cut("\n"+string(metrics), "\n"+sample("last_success_timestamp_seconds", mirror))
	value, _, _ := strings.Cut(after, "\n")
	return value
}

// The last success is the one that the mirror remembers, whatever the file said. The
// file can be read by all, and nothing else is left in its directory.
func TestWrite(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("repo.prom", []byte("what is this?"), 0o600); err != nil {
		t.Fatal(err)
	}
	const began = `"began": "2024-01-20T12:00:00Z"`
	for _, c := range []struct {
		name, run   string // .repo/run.json of the mirror
		failed      bool
		mirror      string
		lastSuccess string
	}{
		{"a run that did not come to a mirror", "", true, "mirror", ""},
		{"no run that succeeded", `{` + began + `, "error": "no"}`, true, "mirror", ""},
		{"a run that succeeded", `{` + began + `, "success": "2024-01-20T12:00:01.9Z"}`, false, "mirror", "1705752001"},
		{"one that failed after it", `{` + began + `, "error": "no", "success": "2024-01-20T12:00:01.9Z"}`, true, "./mirror/", "1705752001"},
		{"one that did not get the lock", "", true, "mirror", "1705752001"},
		{"one of another mirror", "", true, "other", ""},
		{"a record that is damaged", `{` + began + `, "succ`, true, "mirror", ""},
		{"no record", `{}`, true, "mirror", ""},
	} {
		if err := os.MkdirAll(c.mirror+"/.repo", 0o777); err != nil {
			t.Fatal(err)
		}
		if c.run != "" {
			if err := os.WriteFile(c.mirror+"/.repo/run.json", []byte(c.run), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		m := metrics{end: time.Unix(100, 0), failed: c.failed}
		if err := m.write("repo.prom", c.mirror); err != nil {
			t.Fatal(err)
		}
		dir, _ := filepath.Abs(c.mirror)
		data, err := os.ReadFile("repo.prom")
		if err != nil || !strings.Contains(string(data), `{mirror="`+dir+`"} `) {
			t.Errorf("%s: %v, no %s in\n%s", c.name, err, dir, data)
		}
		if got := lastSuccess(data, dir); got != c.lastSuccess {
			t.Errorf("%s: last success %s, want %s", c.name, got, c.lastSuccess)
		}
		if info, err := os.Stat("repo.prom"); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: %v, %v, want 0644", c.name, info.Mode(), err)
		}
	}
	if files := glob(t, ".*"); len(files) > 0 {
		t.Errorf("left: %q", files)
	}
}

func TestWriteFails(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("dir", 0o777); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"nowhere/repo.prom", "dir"} {
		err := testMetrics.write(file, "mirror")
		if err == nil || !strings.HasPrefix(err.Error(), "metrics file "+file+": ") {
			t.Errorf("%s: got %v", file, err)
		}
	}
	if files := append(glob(t, ".*"), glob(t, "dir/*")...); len(files) > 0 {
		t.Errorf("left: %q", files)
	}
}

// The collector finds the metrics of one run or of another, whenever it looks, and
// after a power cut.
func TestMetricsOrder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "repo.prom")
	if err := os.WriteFile(file, []byte("old\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	var changes []string
	stop := atomicfile.Observe(dir, func(c atomicfile.Change) error {
		changes = append(changes, string(c.Kind))
		if names := glob(t, filepath.Join(dir, "*.prom")); len(names) != 1 {
			t.Errorf("before %s, the collector finds %v", c, names)
		}
		return nil
	})
	defer stop()
	if err := testMetrics.write(file, dir); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(changes, ", "), "create, write, flush, rename, flush dir"; got != want {
		t.Errorf("changes %s, want %s", got, want)
	}
}
