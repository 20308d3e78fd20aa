package hook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a hook receives, prints and ends with.
func TestRun(t *testing.T) {
	const image = "/images/an image.img"
	for _, c := range []struct {
		name, command string
		cancelled     bool
		code          int // that the error has, 0 for none
		prints        string
	}{
		{"the path", `printf '%s|' "$1" "$PUAVO_IMAGE"`, false, 0, strings.Repeat(image+"|", 3)},
		{"both outputs", "echo out; echo error >&2 ;", false, 0, "out\nerror " + image + "\n"},
		{"no input", "cat; echo >&1", false, 0, image + "\n"},
		{"a session of its own", `read -r _ _ _ _ group session _ </proc/$$/stat; test $$ = "$group" && test $$ = "$session" && echo yes #`, false, 0, "yes " + image + "\n"},
		{"failing", "echo failing; exit 3", false, 3, "failing\n"},
		{"unknown", "./none 2>/dev/null", false, 127, ""},
		{"killed", "kill -KILL $$; :", false, -1, ""},
		{"cancelled before", "echo", true, 0, ""},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if c.cancelled {
			cancel()
		}
		var out bytes.Buffer
		err := Run(ctx, c.command, image, &out)
		code := 0
		if exit, failed := errors.AsType[*exec.ExitError](err); failed {
			code = exit.ExitCode()
		} else if err != ctx.Err() {
			t.Errorf("%s: %v", c.name, err)
		}
		if code != c.code || out.String() != c.prints {
			t.Errorf("%s: %v, want the code %d; it prints %q, want %q", c.name, err, c.code, &out, c.prints)
		}
		cancel()
	}
	if err := Run(t.Context(), "echo", image, nil); err != nil {
		t.Errorf("without an output: %v", err)
	}
}

// outputs are kinds of outputs: the shell writes to a file itself.
func outputs(t *testing.T) map[string]io.Writer {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return map[string]io.Writer{"file": file, "pipe": new(bytes.Buffer)}
}

// pipe makes a named pipe, for a hook to write numbers of processes to. Reading it never
// ends.
func pipe(t *testing.T) (path string, r *bufio.Reader) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, bufio.NewReader(f)
}

// number reads the number of a process.
func number(t *testing.T, r *bufio.Reader) (pid int) {
	t.Helper()
	if _, err := fmt.Fscanln(r, &pid); err != nil || pid <= 1 {
		t.Errorf("process %d, %v", pid, err)
	}
	return pid
}

// lives reports whether a process works.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return err == nil && !bytes.HasPrefix(state, []byte("Z"))
}

// When Run has returned from a hook that was interrupted, all of its processes have
// ended: at SIGTERM, with the time that they take for it, or at SIGKILL.
func TestInterrupted(t *testing.T) {
	const short, long = 100 * time.Millisecond, time.Minute
	for _, c := range []struct {
		name, command string
		processes     int // that tell their number
		patience      time.Duration
		last          string // what the last of them prints, if the output is kept
	}{
		{"the shell itself", `echo $$ >"$1"; exec sleep 1000; :`, 1, long, ""},
		{"what it waits for", `sleep 1000 & echo $! >"$1"; wait; :`, 1, long, ""},
		{"a shell of a shell", `sh -c 'sleep 1000 & echo $! >"$1"; echo $$ >"$1"; wait' sh "$1" & wait; :`, 2, long, ""},
		{"one that takes its time", `sh -c 'trap "sleep 0.2; echo cleared; exit" TERM; echo $$ >"$1"; while :; do sleep 0.01; done' sh "$1" & wait; :`, 1, long, "cleared\n"},
		{"a shell that ignores it", `trap "" TERM; echo $$ >"$1"; while :; do sleep 0.01; done; :`, 1, short, ""},
		{"one that ignores it", `sh -c 'trap "" TERM; echo $$ >"$1"; while :; do sleep 0.01; done' sh "$1" & wait; :`, 1, short, ""},
		{"one that was stopped", `sh -c 'kill -STOP $$' & echo $! >"$1"; wait; :`, 1, short, ""},
	} {
		for kind, output := range outputs(t) {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				path, r := pipe(t)
				ctx, cancel := context.WithCancel(t.Context())
				pids := make(chan []int, 1)
				go func() {
					var all []int
					for range c.processes {
						all = append(all, number(t, r))
					}
					pids <- all
					cancel()
				}()
				if err := run(ctx, c.patience, c.command, path, output); err != context.Canceled {
					t.Errorf("%v", err)
				}
				for _, pid := range <-pids {
					if lives(pid) {
						t.Errorf("process %d lives", pid)
					}
				}
				if out, kept := output.(*bytes.Buffer); kept && !strings.HasSuffix(out.String(), c.last) {
					t.Errorf("it prints %q, want %q", out, c.last)
				}
			})
		}
	}
}

// What a hook leaves in the background goes on, whatever its output is.
func TestBackground(t *testing.T) {
	for kind, output := range outputs(t) {
		for _, command := range []string{`sleep 20 & echo $! >"$1"; echo done;`, `sleep 20 >/dev/null 2>&1 & echo $! >"$1"; echo done;`} {
			path, r := pipe(t)
			ctx, cancel := context.WithCancel(t.Context())
			if err := run(ctx, 50*time.Millisecond, command, path, output); err != nil {
				t.Errorf("%s, %s: %v", command, kind, err)
			}
			cancel()
			pid := number(t, r)
			if !lives(pid) {
				t.Errorf("%s, %s: it has ended", command, kind)
			}
			syscall.Kill(pid, syscall.SIGKILL)
			if out, kept := output.(*bytes.Buffer); kept && !strings.HasSuffix(out.String(), "done "+path+"\n") {
				t.Errorf("%s: it prints %q", command, out)
			}
		}
	}
}
