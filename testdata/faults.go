package testdata

import (
	"io"
	"runtime"
	"testing"
)

// Allocated returns how many bytes are allocated while do works, whether they are
// freed or not.
func Allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Scale returns how often a test tries something, or how much of it: all, or a part
// where only the short tests run, and under the race detector, which makes each try
// several times as long and sees in the first ones what it sees in all.
func Scale(all, part int) int {
	if testing.Short() || raceDetector {
		return part
	}
	return all
}

// Failing is a file whose reads after the first At call Hook, and then fail if Err
// is not nil.
type Failing struct {
	io.ReaderAt
	At   int
	Hook func()
	Err  error
}

func (f *Failing) ReadAt(p []byte, off int64) (int, error) {
	if f.At--; f.At < 0 {
		f.Hook()
		if f.Err != nil {
			return 0, f.Err
		}
	}
	return f.ReaderAt.ReadAt(p, off)
}
