package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/cmd/internal/scripttest"
)

const name = "puavo-update-repository"

func TestMain(m *testing.M) { scripttest.Main(m, name, main) }

func TestHelp(t *testing.T) {
	t.Parallel()
	scripttest.Help(t, newApp(new(config.Settings), nil, io.Discard, io.Discard), name)
}

func TestManual(t *testing.T) {
	scripttest.Manual(t, newApp(new(config.Settings), nil, io.Discard, io.Discard), name)
}

// A file of settings of the host does not count.
func TestScripts(t *testing.T) { scripttest.Run(t, "PUAVO_UPDATE_REPOSITORY_SETTINGS=") }

// The images of TestInterrupt: random, the second a copy of the first with some
// of it changed.
const (
	imageSize = 12 << 20
	image1    = "puavo-os-noise-buster-2022-01-01-000001-amd64.img"
	image2    = "puavo-os-noise-buster-2022-01-01-000002-amd64.img"
)

// SIGINT and SIGTERM end a run before its work is done, with exit code 130, a
// message and no temporary files; the next run completes the work, to the same
// mirror as one that was not interrupted.
func TestInterrupt(t *testing.T) {
	dir := t.TempDir()
	noiseImages(t, dir)
	want := filepath.Join(t.TempDir(), "mirror")
	if code, _, stderr := runBuilder(t, dir, want, nil); code != command.Done {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, c := range []struct {
		name   string
		signal os.Signal
		when   string // a pattern of a file that is being written
	}{
		{"SIGINT while images are read", os.Interrupt, "../state/*.img.json"},
		{"SIGTERM while deltas are made", syscall.SIGTERM, "*.rdiff"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mirror := filepath.Join(t.TempDir(), "mirror")
			code, stdout, stderr := runBuilder(t, dir, mirror, func(p *os.Process) {
				awaitFile(t, filepath.Join(mirror, ".repo/tmp", c.when))
				p.Signal(c.signal)
			})
			if code != command.Interrupted || stdout != "" || stderr != name+": interrupted; run again to resume\n" {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
			if left := glob(t, filepath.Join(mirror, ".repo/tmp/*")); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			lastRun(t, mirror, "0")
			if docs := glob(t, filepath.Join(mirror, "meta/*")); len(docs) > 0 {
				t.Errorf("published: %q", docs)
			}
			if code, _, stderr := runBuilder(t, dir, mirror, nil); code != command.Done || strings.Contains(stderr, "warning") {
				t.Fatalf("the next run: exit code %d, %s", code, stderr)
			}
			lastRun(t, mirror, "1")
			if out, err := exec.Command("diff", "-r", "-x", ".repo", mirror, want).CombinedOutput(); err != nil {
				t.Errorf("the mirror is not as that of a run in one go: %v\n%s", err, out)
			}
		})
	}
}

// runBuilder runs the command as a process, calls during with it, and returns
// how it ended.
func runBuilder(t *testing.T, images, mirror string, during func(*os.Process)) (code int, stdout, stderr string) {
	t.Helper()
	// A run that hangs is ended with all its goroutines' stacks.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, "-q", "--jobs", "2", "-r", "images.example.org",
		"--metrics-file", mirror+".prom", images, mirror)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during(cmd.Process)
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// lastRun checks what the metrics say of the success of the last run.
func lastRun(t *testing.T, mirror, want string) {
	t.Helper()
	data, err := os.ReadFile(mirror + ".prom")
	if err != nil || !strings.Contains(string(data), sample("last_run_success", mirror)+want+"\n") {
		t.Errorf("%v, want success %s in\n%s", err, want, data)
	}
}

// awaitFile waits for a file that matches.
func awaitFile(t *testing.T, pattern string) {
	t.Helper()
	for start := time.Now(); len(glob(t, pattern)) == 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Errorf("no %s", pattern)
			return
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// noiseImages makes the images of TestInterrupt.
func noiseImages(t *testing.T, dir string) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{})
	data := make([]byte, imageSize)
	random.Read(data)
	for _, file := range []string{image1, image2} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o666); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < imageSize; i += 1 << 20 {
			random.Read(data[i : i+100_000])
		}
	}
}
