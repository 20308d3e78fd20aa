package mmap

import (
	"bytes"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
)

// A file cut short is an error, in Go's code and in assembly, and the process
// goes on.
func TestGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	data, unmap, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap()
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	for name, use := range map[string]func(){
		"index":   func() { sink = data[len(data)-1] },
		"compare": func() { bytes.Equal(data[:len(data)/2], data[len(data)/2:]) },
		"copy":    func() { copy(make([]byte, len(data)), data) },
		"crc":     func() { crc32.ChecksumIEEE(data) },
	} {
		if err := Guard(func() error { use(); return nil }); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	failed := errors.New("failed")
	if err := Guard(func() error { return failed }); err != failed {
		t.Errorf("an error of use becomes %v", err)
	}
}

func TestGuardPassesPanics(t *testing.T) {
	defer func() {
		if r := recover(); r != "mistake" {
			t.Errorf("recovered %v", r)
		}
	}()
	Guard(func() error { panic("mistake") })
}

// sink keeps the compiler from leaving out a look at a byte.
var sink byte
