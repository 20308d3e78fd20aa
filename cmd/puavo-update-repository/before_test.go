package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/scripttest"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/testdata"
)

// The command lines of before are taken still.
func TestBeforeCommands(t *testing.T) {
	scripttest.Before(t, name, name, command.WrongUsage, nil)
}

// A mirror of before is right, and the run that made it, done again, leaves all that
// it publishes as it is, signatures too.
func TestBeforeMirror(t *testing.T) {
	dir := t.TempDir()
	testdata.Before(t, "mirror", dir)
	testdata.Before(t, "keys", dir)
	mirror, metrics := filepath.Join(dir, "mirror"), filepath.Join(dir, "metrics.prom")
	build := []string{
		"--keep-signatures", "--grace", "10000d", "--repository", "https://images.example.org", "--max-delta-ratio", "0.3",
		"--sign-keys", filepath.Join(dir, "keys"), "--passphrase-file", testdata.Path("before/passphrase"),
		"--expire-root", "10000d", "--expire-targets", "10000d", "--expire-snapshot", "10000d", "--expire-timestamp", "10000d",
		"--config", testdata.Path("before/config/amxa.json"), "--config", testdata.Path("before/config/long.json"),
		"--metrics-file", metrics, filepath.Join(dir, "puavo-os-images"), mirror,
	}
	verified := []string{
		"waiting  puavo-os-long-buster-2022-03-01-000000-amd64.img ", "waiting  rdiffs/puavo-os-long-buster-2022-03-02-000000--2022-03-01-000000-amd64.rdiff ",
		"4 deltas applied: 0 damaged.",
	}
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"status", mirror}, []string{"2 series, 5 images of ", "last run 2026-11-2"}},
		{[]string{"verify", "--deep", mirror}, verified},
		{build, []string{"2 series, 5 images of ", ", 7 deltas of "}},
		{[]string{"verify", "--deep", mirror}, verified},
	} {
		var out, errs bytes.Buffer
		if err := run(t.Context(), c.args, nil, &out, &errs); err != nil {
			t.Errorf("%q: %v\n%s", c.args, err, &errs)
		}
		for _, says := range c.says {
			if !strings.Contains(out.String(), says) {
				t.Errorf("%q: want %q in\n%s", c.args, says, &out)
			}
		}
	}
	asBefore(t, mirror)
}

// asBefore checks that a mirror publishes what the one of before does, signatures too, and
// besides that the page alone. Its lists of digests say together what the one of before says.
func asBefore(t *testing.T, mirror string) {
	t.Helper()
	for _, pattern := range []string{"*.json", "CKSUMS", "meta/*.json", "rdiffs/*.rdiff", "tuf/*.json", "tuf/targets/*.json", "tuf/targets/meta/*"} {
		want := testdata.Glob(t, "before/mirror/"+pattern)
		if got := glob(t, filepath.Join(mirror, pattern)); len(got) != len(want) {
			t.Errorf("%s are %d files, were %d", pattern, len(got), len(want))
		}
		for _, file := range want {
			name, _ := filepath.Rel(testdata.Path("before/mirror"), file)
			got, err := os.ReadFile(filepath.Join(mirror, name))
			if err != nil || !bytes.Equal(got, testdata.Read(t, "before/mirror/"+name)) {
				t.Errorf("%s is another, %v", name, err)
			}
		}
	}
	var lines []string
	for _, folder := range []string{"", "meta/", "rdiffs/"} {
		list, err := os.ReadFile(filepath.Join(mirror, folder+"SHA256SUMS"))
		if err != nil || folder == "" && bytes.Contains(list, []byte("/")) {
			t.Errorf("%sSHA256SUMS is %s, %v", folder, list, err)
		}
		for line := range strings.Lines(string(list)) {
			if digest, file, _ := strings.Cut(line, "  "); file != "index.html\n" {
				lines = append(lines, digest+"  "+folder+file)
			}
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
	if got, want := strings.Join(lines, ""), string(testdata.Read(t, "before/mirror/SHA256SUMS")); got != want {
		t.Errorf("the lists say\n%s\nwas\n%s", got, want)
	}
}

// A mirror of before says when a run last succeeded, as its metrics file did; a run that
// fails keeps it. A renewal keeps all of the file but the signatures.
func TestBeforeMetrics(t *testing.T) {
	const mirror = "/srv/before/mirror"
	dir := t.TempDir()
	testdata.Before(t, "mirror", dir)
	old := testdata.Read(t, "before/metrics.prom")
	file := filepath.Join(dir, "metrics.prom")
	if err := os.WriteFile(file, old, 0o666); err != nil {
		t.Fatal(err)
	}
	signed, err := trust.StatusOf(filepath.Join(dir, "mirror"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := writeExpiry(t.Context(), file, mirror, signed); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, old) {
		t.Errorf("a renewal that changes nothing leaves %s, %v", got, err)
	}
	success, now := lastSuccess(old, mirror), filepath.Join(dir, "mirror")
	if err := (metrics{end: time.Now(), failed: true}).write(file, now); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || success == "" || lastSuccess(got, now) != success {
		t.Errorf("a run that fails leaves %s, %v", got, err)
	}
}
