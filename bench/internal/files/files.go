// Package files reads and compares files that bench works with.
package files

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// Warm reads files, so that all who are measured find them in the page cache, as far as it
// holds them.
func Warm(paths []string) error {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Same returns an error if two files differ.
func Same(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	ba, bb := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errA := io.ReadFull(fa, ba)
		m, errB := io.ReadFull(fb, bb)
		if !bytes.Equal(ba[:n], bb[:m]) {
			return fmt.Errorf("%s is not %s", a, b)
		}
		if errA != nil || errB != nil {
			return nil
		}
	}
}
