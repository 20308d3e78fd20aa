package kernel

import (
	"crypto/sha512"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func BenchmarkReverseBits(b *testing.B) {
	dst, src := make([]byte, 4<<10), random(4<<10)
	b.Run("kernel", func(b *testing.B) {
		perCore(b, len(src), func() { ReverseBits(dst, src) })
	})
	b.Run("Go", func(b *testing.B) {
		perCore(b, len(src), func() { reverseGeneric(dst, src) })
	})
}

// BenchmarkSHA512 has 1 to 4 streams; a single one is crypto/sha512.
func BenchmarkSHA512(b *testing.B) {
	const size = 256 << 10
	for n := 1; n <= Lanes; n++ {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var streams []Stream
			for range n {
				streams = append(streams, Stream{sha512.New(), random(size)})
			}
			perCore(b, n*size, func() { SHA512(streams...) })
		})
	}
}

// perCore reports how much one core does, from the CPU time of the process: that does
// not change with what else the machine does.
func perCore(b *testing.B, size int, do func()) {
	b.Helper()
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
