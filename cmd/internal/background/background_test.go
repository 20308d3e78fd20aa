package background

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a process that enters the background.
const childEnv = "BACKGROUND_TEST"

// threads is how many threads the child has at least, of its three thirds: from
// before it enters, from meanwhile, and from after that.
const threads = 3 * 8

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold starts some threads, which last until release is closed, and returns their
// ids.
func hold(release chan struct{}) (tids []int) {
	ids := make(chan int)
	for range threads / 3 {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ids <- unix.Gettid()
			<-release
		}()
	}
	for range threads / 3 {
		tids = append(tids, <-ids)
	}
	return tids
}

// child enters the background and prints "NICE CLASS" of each of its threads.
func child() error {
	release := make(chan struct{}) // never closed: the threads stay
	hold(release)
	var meanwhile sync.WaitGroup
	meanwhile.Go(func() { hold(release) })
	err := Enter()
	meanwhile.Wait()
	hold(release)
	return errors.Join(err, eachThread(printThread))
}

func printThread(tid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	if errors.Is(err, os.ErrNotExist) {
		return unix.ESRCH
	}
	if err != nil {
		return err
	}
	class, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, oneThread, uintptr(tid), 0)
	if errno != 0 {
		return errno
	}
	_, after, _ := strings.Cut(string(stat), ") ") // from the third field on
	_, err = fmt.Println(strings.Fields(after)[19-3], class>>13)
	return err
}

func TestEnter(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=10")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < threads {
		t.Errorf("%d threads, want %d or more", len(lines), threads)
	}
	for _, l := range lines {
		if l != "19 3" {
			t.Errorf("nice and I/O class %q, want 19 and 3", l)
		}
	}
}

// Threads that are made while the list is gone through are not left out.
func TestEachThreadNew(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var fresh []int
	calls := make(map[int]int)
	err := eachThread(func(tid int) error {
		if len(calls) == 0 {
			fresh = hold(release)
		}
		calls[tid]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tid := range fresh {
		if calls[tid] != 1 {
			t.Errorf("called %d times for a new thread", calls[tid])
		}
	}
}

// A thread that ended is no error, another error ends it all.
func TestEachThread(t *testing.T) {
	errOther := errors.New("no such luck")
	for _, c := range []struct{ err, want error }{
		{nil, nil},
		{fmt.Errorf("wrapped: %w", unix.ESRCH), nil},
		{errOther, errOther},
	} {
		calls := make(map[int]int)
		err := eachThread(func(tid int) error {
			calls[tid]++
			return c.err
		})
		if err != c.want {
			t.Errorf("%v: got %v, want %v", c.err, err, c.want)
		}
		if c.want != nil && len(calls) != 1 {
			t.Errorf("%v: it went on after the error: %v", c.err, calls)
		}
		if calls[os.Getpid()] != 1 && c.want == nil {
			t.Errorf("%v: the first thread was not called once: %v", c.err, calls)
		}
	}
	if err := setPriority(1 << 30); !errors.Is(err, unix.ESRCH) {
		t.Errorf("priority of no thread: %v", err)
	}
	if err := setIdle(1 << 30); !errors.Is(err, unix.ESRCH) {
		t.Errorf("I/O class of no thread: %v", err)
	}
}
