package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// figures are what was measured of some commands.
type figures struct {
	seconds             float64
	resident, anonymous int64 // peaks in bytes
	read                int64 // bytes of read calls; what is mapped is not among them
}

// measure runs commands one after the other.
func measure(ctx context.Context, commands [][]string) (figures, error) {
	var all figures
	for _, c := range commands {
		f, err := measureOne(exec.CommandContext(ctx, c[0], c[1:]...))
		if err != nil {
			return all, err
		}
		all.seconds += f.seconds
		all.resident = max(all.resident, f.resident)
		all.anonymous = max(all.anonymous, f.anonymous)
		all.read += f.read
	}
	return all, nil
}

// measureOne runs a command, whose standard error it takes.
func measureOne(cmd *exec.Cmd) (figures, error) {
	var p processes
	var read int64
	f, err := p.measure(func() (err error) {
		read, err = p.run(cmd)
		return err
	})
	f.read = read
	if err != nil {
		return f, err
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.resident = usage.Maxrss << 10
	}
	return f, nil
}

// processes are commands that run, perhaps several at a time.
type processes struct {
	mu   sync.Mutex
	pids []int
}

// measure measures a call that runs commands: how long it takes, and the peak of
// the anonymous memory of all that run at the same time, looked at a hundred
// times a second.
func (p *processes) measure(do func() error) (figures, error) {
	ended, peak := make(chan struct{}), make(chan int64)
	go func() { peak <- p.watch(ended) }()
	start := time.Now()
	err := do()
	seconds := time.Since(start).Seconds()
	close(ended)
	return figures{seconds: seconds, anonymous: <-peak}, err
}

func (p *processes) watch(ended <-chan struct{}) (peak int64) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return peak
		case <-tick.C:
			peak = max(peak, p.anonymous())
		}
	}
}

// anonymous returns the anonymous memory of all processes.
func (p *processes) anonymous() (sum int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pid := range p.pids {
		sum += field(pid, "status", "RssAnon:") << 10
	}
	return sum
}

// run runs a command and returns how many bytes it read. What /proc tells is
// complete when the process has ended, and there until it is waited for.
func (p *processes) run(cmd *exec.Cmd) (read int64, err error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	p.mu.Lock()
	p.pids = append(p.pids, pid)
	p.mu.Unlock()
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	read = field(pid, "io", "rchar:")
	p.mu.Lock()
	p.pids = slices.DeleteFunc(p.pids, func(other int) bool { return other == pid })
	p.mu.Unlock()
	if err := cmd.Wait(); err != nil {
		return read, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return read, nil
}

// field returns a number of a file in /proc/PID, 0 if there is none.
func field(pid int, file, name string) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// median returns the middle one of some values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// machine tells what the results were measured on.
func machine() []string {
	cpu := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	return []string{
		time.Now().Format("2006-01-02"),
		fmt.Sprintf("%d cores, %s, load %s", runtime.NumCPU(), cpu, strings.Join(load(), " ")),
		runtime.Version(),
	}
}

func load() []string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))[:3]
}
