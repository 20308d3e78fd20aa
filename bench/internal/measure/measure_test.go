package measure

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"puavo-image-repository/bench/internal/memory"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := Median(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
}

func TestCommands(t *testing.T) {
	f, err := Commands(t.Context(), [][]string{{"sh", "-c", "sleep 0.05"}, {"true"}})
	if err != nil || f.Seconds < 0.05 || f.Resident == 0 {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := Commands(t.Context(), [][]string{{"sh", "-c", "echo bad >&2; false"}}); err == nil || !strings.Contains(err.Error(), "bad") {
		t.Errorf("a command that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Commands(ctx, [][]string{{"sleep", "10"}}); err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// What a process reads is known when it has ended, and so is what the processes
// that it started take.
func TestCommand(t *testing.T) {
	const size = 3 << 20
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{`exec cat "$0"`, `cat "$0" && true`} {
		f, err := Command(exec.CommandContext(t.Context(), "sh", "-c", script, path))
		if err != nil || f.Read < size || f.Read > size+1<<20 {
			t.Errorf("%s: %+v, %v", script, f, err)
		}
	}
	f, err := Time(exec.CommandContext(t.Context(), "sh", "-c", `sleep 0.05; cat "$0"`, path))
	if err != nil || f.Read < size || f.Seconds < 0.05 || f.Anonymous != 0 {
		t.Errorf("timed: %+v, %v", f, err)
	}
	busy := `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	if f, err := Command(exec.CommandContext(t.Context(), "sh", "-c", "("+busy+"); true")); err != nil || f.CPU < 0.01 {
		t.Errorf("a child that works: %+v, %v", f, err)
	}
}

// The time of processors of several commands is added up, of their children too.
func TestCPU(t *testing.T) {
	const busy = `i=0; while [ $i -lt 30000 ]; do i=$((i + 1)); done`
	var p Processes
	var parts float64
	f, err := p.Measure(func() error {
		for _, script := range []string{busy, "(" + busy + "); true", "exit 1"} {
			part, err := p.Run(exec.CommandContext(t.Context(), "sh", "-c", script))
			if (err != nil) != (script == "exit 1") {
				return err
			}
			if err == nil && part.CPU <= 0 {
				t.Errorf("%s took nothing", script)
			}
			parts += part.CPU
		}
		return nil
	})
	if err != nil || f.CPU < parts || f.CPU > parts+1 {
		t.Errorf("%v seconds in all, %v of parts, %v", f.CPU, parts, err)
	}
}

// What comes from the disk is counted once, when it is in no cache.
func TestFromDisk(t *testing.T) {
	const size = 3 << 20
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	cat := []string{"cat", path}
	if _, err := Commands(t.Context(), [][]string{cat}); err != nil {
		t.Fatal(err)
	}
	if err := memory.Drop([]string{path}); err != nil {
		t.Skip("no disk file system:", err)
	}
	for _, c := range []struct{ min, max int64 }{{size, size + 1<<20}, {0, 1 << 20}} {
		f, err := Commands(t.Context(), [][]string{cat})
		if err != nil || f.FromDisk < c.min || f.FromDisk > c.max {
			t.Errorf("%d bytes from the disk, want %d to %d; %v", f.FromDisk, c.min, c.max, err)
		}
	}
}

// The memory of several processes is added up, that of their children with it.
func TestAnonymous(t *testing.T) {
	one, two := Processes{pids: []int{os.Getpid()}}, Processes{pids: []int{os.Getpid(), os.Getpid()}}
	if a, b := one.anonymous(), two.anonymous(); a == 0 || b < a*3/2 {
		t.Errorf("%d bytes in one process, %d in two", a, b)
	}
	f, err := Command(exec.CommandContext(t.Context(), "sh", "-c",
		`(x=$(head -c 20000000 /dev/zero | tr '\0' x); sleep 0.5; echo "$x" >/dev/null); true`))
	if err != nil || f.Anonymous < 20e6 {
		t.Errorf("a child with 20 MB: %+v, %v", f, err)
	}
}

func TestFamily(t *testing.T) {
	child := exec.CommandContext(t.Context(), "sh", "-c", "echo; read -r line; true")
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer stdin.Close()
	pid := child.Process.Pid
	if got := family([]int{pid}); !slices.Equal(got, []int{pid}) {
		t.Errorf("the family of a process without children: %d", got)
	}
	if pid > os.Getpid() && !slices.Contains(family([]int{os.Getpid()}), pid) {
		t.Errorf("%d is not in the family of its parent", pid)
	}
	if got := family(nil); got != nil {
		t.Errorf("the family of nobody: %d", got)
	}
}

func TestPeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		values, n := []int64{3, 9, 4, 1}, 0
		stop := Peak(time.Second, func() int64 { n++; return values[(n-1)%len(values)] })
		time.Sleep(3*time.Second + time.Second/2)
		if peak := stop(); peak != 9 || n != 3 {
			t.Errorf("a peak of %d in %d looks", peak, n)
		}
		if peak := Peak(time.Second, func() int64 { return 5 })(); peak != 0 {
			t.Errorf("a peak of %d without a look", peak)
		}
	})
}

func TestMachine(t *testing.T) {
	if m := Machine(); len(m) != 3 || !strings.Contains(m[1], " cores, ") {
		t.Errorf("%q", m)
	}
	if l := Load(); len(l) != 3 {
		t.Errorf("load %q", l)
	}
}
