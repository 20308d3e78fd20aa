// Package background lets a process yield the machine to others.
//
// On Linux, the CPU priority and the I/O class belong to each thread, and a
// thread starts with those of the one that made it.
package background

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Of setpriority(2) and ioprio_set(2).
const (
	lowestPriority = 19
	oneThread      = 1       // IOPRIO_WHO_PROCESS
	idleClass      = 3 << 13 // IOPRIO_CLASS_IDLE
)

// Enter gives the process the lowest CPU priority, nice 19, and the idle I/O class:
// it gets what others leave. That includes threads that start later. It tries both,
// even if one is an error.
func Enter() error {
	return errors.Join(eachThread(setPriority), eachThread(setIdle))
}

func setPriority(tid int) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, tid, lowestPriority); err != nil {
		return fmt.Errorf("CPU priority: %w", err)
	}
	return nil
}

func setIdle(tid int) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, oneThread, uintptr(tid), idleClass); errno != 0 {
		return fmt.Errorf("I/O priority: %w", errno)
	}
	return nil
}

// eachThread calls set with the id of each thread, once. A thread that set has not
// reached can start another while the list is read, so eachThread reads the list
// until it finds nothing new twice. It stops at the first error; a thread that has
// ended is no error.
func eachThread(set func(tid int) error) error {
	done := make(map[string]bool)
	for settled := 0; settled < 2; settled++ {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("the threads of the process: %w", err)
		}
		for _, t := range threads {
			if done[t.Name()] {
				continue
			}
			done[t.Name()], settled = true, -1
			tid, err := strconv.Atoi(t.Name())
			if err == nil {
				err = set(tid)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}
