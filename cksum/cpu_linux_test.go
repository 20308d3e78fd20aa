package cksum

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// perCPU reports how many bytes a CPU-second does, of all threads of the process: that
// does not change with what else the machine does.
func perCPU(b *testing.B, size int, do func()) {
	b.Helper()
	b.SetBytes(int64(size))
	before := cpuTime(b)
	for b.Loop() {
		do()
	}
	spent := cpuTime(b) - before
	b.ReportMetric(float64(size)*float64(b.N)/1e6/spent.Seconds(), "MB/CPU-s")
}

// cpuTime returns the CPU time that the process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
