package fetch

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/throttle"
)

// Mirrors that share a limit keep it together, and each its own rate without one.
func TestLimit(t *testing.T) {
	const size, rate = 96 << 10, 512 << 10
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	read := func(o Options) {
		t.Helper()
		m, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		f, err := m.Open(t.Context(), "file", Request{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n, err := io.Copy(io.Discard, f); n != size || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	o := Options{Limit: throttle.New(rate), Rate: 1} // which would take a day
	start := time.Now()
	read(o)
	read(o)
	// All but the first burst waits.
	if took, least := time.Since(start), time.Second*(2*size-throttle.Burst)/rate; took < least*9/10 {
		t.Errorf("it took %v, want %v", took, least)
	}
}
