// Package measure runs commands and tells what they take: time, memory, and bytes
// that are read and written.
package measure

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

// Figures are what was measured of some commands.
type Figures struct {
	Seconds             float64 // of the clock
	CPU                 float64 // seconds of all processors together, by user and system
	Resident, Anonymous int64   // peaks in bytes
	Read                int64   // bytes of read calls; what is mapped is not among them
	FromDisk            int64   // bytes that came from a disk, mapped files too
	Written             int64   // bytes of files that are to go to a disk
}

// Commands runs commands one after the other.
func Commands(ctx context.Context, commands [][]string) (Figures, error) {
	var all Figures
	for _, c := range commands {
		f, err := Command(exec.CommandContext(ctx, c[0], c[1:]...))
		if err != nil {
			return all, err
		}
		all.Seconds += f.Seconds
		all.CPU += f.CPU
		all.Resident = max(all.Resident, f.Resident)
		all.Anonymous = max(all.Anonymous, f.Anonymous)
		all.Read += f.Read
		all.FromDisk += f.FromDisk
		all.Written += f.Written
	}
	return all, nil
}

// Command runs a command, whose standard error it takes. The processes that the
// command starts and waits for are measured with it.
func Command(cmd *exec.Cmd) (Figures, error) {
	var p Processes
	var own Figures
	f, err := p.Measure(func() (err error) {
		own, err = p.Run(cmd)
		return err
	})
	own.Seconds, own.Anonymous = f.Seconds, f.Anonymous
	return own, err
}

// Time is Command without a look at the memory meanwhile, which takes some percent
// of a processor.
func Time(cmd *exec.Cmd) (Figures, error) {
	var p Processes
	start := time.Now()
	f, err := p.Run(cmd)
	f.Seconds = time.Since(start).Seconds()
	return f, err
}

// Processes are commands that run, perhaps several at a time.
type Processes struct {
	mu   sync.Mutex
	pids []int
	cpu  float64 // seconds of those that have ended
}

// Measure measures a call that runs commands: how long it takes, the seconds of
// processors that they take, and the peak of the anonymous memory of all that run at
// the same time, looked at a hundred times a second.
func (p *Processes) Measure(do func() error) (Figures, error) {
	peak := Peak(10*time.Millisecond, p.anonymous)
	start := time.Now()
	err := do()
	seconds := time.Since(start).Seconds()
	return Figures{Seconds: seconds, CPU: p.cpu, Anonymous: peak()}, err
}

// Peak looks at something again and again, until the function that it returns is
// called, once, which returns the largest value that was seen.
func Peak(every time.Duration, look func() int64) (stop func() int64) {
	ended, peak := make(chan struct{}), make(chan int64)
	go func() { // ends with stop
		tick := time.NewTicker(every)
		defer tick.Stop()
		var largest int64
		for {
			select {
			case <-ended:
				peak <- largest
				return
			case <-tick.C:
				largest = max(largest, look())
			}
		}
	}()
	return func() int64 {
		close(ended)
		return <-peak
	}
}

// anonymous returns the anonymous memory of all processes and of what they have
// started.
func (p *Processes) anonymous() (sum int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pid := range family(p.pids) {
		sum += field(pid, "status", "RssAnon:") << 10
	}
	return sum
}

// family returns processes with their children, and the children of those. A
// child has a larger number than its parent, until numbers begin anew.
func family(pids []int) []int {
	if len(pids) == 0 {
		return nil
	}
	all, oldest := slices.Clone(pids), slices.Min(pids)
	for _, pid := range running() {
		if pid > oldest && !slices.Contains(all, pid) && slices.Contains(all, int(field(pid, "status", "PPid:"))) {
			all = append(all, pid)
		}
	}
	return all
}

// running returns the numbers of all processes, in order.
func running() (pids []int) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Run runs a command and returns its figures but for time and anonymous memory.
// What /proc tells is complete when the process has ended, and there until it is
// waited for.
func (p *Processes) Run(cmd *exec.Cmd) (f Figures, err error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return f, err
	}
	pid := cmd.Process.Pid
	p.mu.Lock()
	p.pids = append(p.pids, pid)
	p.mu.Unlock()
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	f.Read, f.Written = field(pid, "io", "rchar:"), field(pid, "io", "write_bytes:")
	f.FromDisk = field(pid, "io", "read_bytes:")
	p.mu.Lock()
	p.pids = slices.DeleteFunc(p.pids, func(other int) bool { return other == pid })
	p.mu.Unlock()
	err = cmd.Wait()
	if state := cmd.ProcessState; state != nil {
		f.CPU = (state.UserTime() + state.SystemTime()).Seconds()
	}
	p.mu.Lock()
	p.cpu += f.CPU
	p.mu.Unlock()
	if err != nil {
		return f, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.Resident = usage.Maxrss << 10
	}
	return f, nil
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

// Median returns the middle one of some values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Column returns the median of one figure over the rounds.
func Column[T any](all []T, of func(T) float64) float64 {
	var values []float64
	for _, v := range all {
		values = append(values, of(v))
	}
	return Median(values)
}

// FirstLine returns the first line that a command prints.
func FirstLine(command ...string) string {
	out, _ := exec.Command(command[0], command[1:]...).CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// Machine tells what the results were measured on.
func Machine() []string {
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
		fmt.Sprintf("%d cores, %s, load %s", runtime.NumCPU(), cpu, strings.Join(Load(), " ")),
		runtime.Version(),
	}
}

// Load returns the load averages of 1, 5 and 15 minutes.
func Load() []string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))[:3]
}
