package fetch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// A mirror that is no directory is not waited at.
func TestOpenPipe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(dir, 0o666); err != nil {
		t.Fatal(err)
	}
	testdata.Promptly(t, "a pipe", func() {
		for _, where := range []string{dir, "file://" + dir} {
			if _, err := Open(where, Options{}); !errors.Is(err, syscall.ENOTDIR) {
				t.Errorf("%s: %v", where, err)
			}
		}
	})
}

// Certificates can come from a pipe, and end with the context.
func TestAuthorities(t *testing.T) {
	if pool, err := Authorities(t.Context(), ""); pool != nil || err != nil {
		t.Errorf("without a file: %v, %v", pool, err)
	}
	dir := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(dir, 0o666); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(dir, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	testdata.Promptly(t, "a pipe", func() {
		if _, err := Authorities(ctx, dir); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
