package notify

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, command, want, err string }{
		{"none", "", "", ""},
		{"its environment", `echo "$PUAVO_PROGRAM $PUAVO_COMMAND: $PUAVO_ERROR ($PUAVO_EXIT_CODE)"`, "puavo-update-image update: no \\x1bspace\nleft (3)\n", ""},
		{"its input", "cat", "", ""},
		{"what it prints", "echo out; echo err >&2", "out\nerr\n", ""},
		{"a failure", "exit 7", "", `--notify "exit 7": exit status 7`},
		{"it does not exist", dir + "/none 2>/dev/null", "", "exit status 127"},
		{"something in the background", "sleep 600 >/dev/null 2>&1 & echo $! >" + dir + "/pid", "", ""},
	} {
		var out bytes.Buffer
		err := Run(t.Context(), c.command, Failure{"puavo-update-image", "update", errors.New("no \x1bspace\nleft"), 3}, &out)
		if out.String() != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, &out, err, c.want, c.err)
		}
	}
	pid := pidOf(t, dir+"/pid")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("what was left in the background: %v", err)
	}
}

// One that does not end is killed, with what it has started: after its time, or when the
// run is interrupted.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		name     string
		patience time.Duration
		want     string
	}{
		{"too long", 200 * time.Millisecond, "did not end within 200ms"},
		{"interrupted", time.Hour, "context canceled"},
	} {
		file := filepath.Join(t.TempDir(), "pid")
		ctx, cancel := context.WithCancel(t.Context())
		output := writer(func([]byte) {
			if c.patience == time.Hour {
				cancel()
			}
		})
		err := run(ctx, c.patience, "sleep 600 & echo $! >"+file+"; echo ready; wait", Failure{Err: errors.New("x")}, output)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if pid := pidOf(t, file); !ends(pid) {
			t.Errorf("%s: what it has started goes on", c.name)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, "true", Failure{Err: errors.New("x")}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// ends reports whether a process ends soon, or waits to be reaped.
func ends(pid int) bool {
	for range 500 {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// pidOf reads the number of a process.
func pidOf(t *testing.T, file string) int {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
