package cksum

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkGroup reads as many streams at once, of 32 MiB each, by Read and in a Group.
func BenchmarkGroup(b *testing.B) {
	data := random(32 << 20)
	for n := 1; n <= 5; n++ {
		for name, read := range map[string]func(context.Context, io.Reader, ...io.Writer) (Sums, error){
			"Read": Read, "Group": new(Group).Read,
		} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				perCPU(b, n*len(data), func() {
					var calls sync.WaitGroup
					for range n {
						calls.Go(func() { read(b.Context(), bytes.NewReader(data)) })
					}
					calls.Wait()
				})
			})
		}
	}
}

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
