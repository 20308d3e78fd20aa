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
	"syscall"
	"time"
)

// figures are what was measured of some commands, one after the other.
type figures struct {
	seconds             float64
	resident, anonymous int64 // peaks in bytes
}

// measure runs commands one after the other.
func measure(ctx context.Context, commands [][]string) (figures, error) {
	var all figures
	for _, c := range commands {
		f, err := measureOne(ctx, c)
		if err != nil {
			return all, fmt.Errorf("%s: %w", strings.Join(c, " "), err)
		}
		all.seconds += f.seconds
		all.resident = max(all.resident, f.resident)
		all.anonymous = max(all.anonymous, f.anonymous)
	}
	return all, nil
}

func measureOne(ctx context.Context, command []string) (figures, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return figures{}, err
	}
	ended, peak := make(chan struct{}), make(chan int64)
	go func() { peak <- watch(cmd.Process.Pid, ended) }()
	err := cmd.Wait()
	seconds := time.Since(start).Seconds()
	close(ended)
	f := figures{seconds: seconds, anonymous: <-peak}
	if err != nil {
		return f, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.resident = usage.Maxrss << 10
	}
	return f, nil
}

// watch returns the peak of a process's anonymous memory, looked at a hundred
// times a second.
func watch(pid int, ended <-chan struct{}) (peak int64) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		peak = max(peak, anonymous(pid))
		select {
		case <-ended:
			return peak
		case <-tick.C:
		}
	}
}

func anonymous(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "RssAnon:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10
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
