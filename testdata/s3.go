package testdata

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The access keys of an S3 server.
const (
	S3Key    = "AKIATESTTESTTEST"
	S3Secret = "secret+of/the+s3+server"
)

// S3 is versitygw, a server that speaks S3, on a directory of its own, at a port of
// 127.0.0.1. Its region is us-east-1. It can be stopped and started again.
type S3 struct {
	URL string // http://127.0.0.1:PORT

	t    testing.TB
	port int
	dir  string
	cmd  *exec.Cmd
	says bytes.Buffer
}

// NewS3 starts a server for the time of the test. Where versitygw is not installed, it does
// as Tool.
func NewS3(t testing.TB) *S3 {
	t.Helper()
	Tool(t, "versitygw")
	s := &S3{t: t, dir: t.TempDir()}
	for range 3 { // another may take the port meanwhile
		s.port = freePort(t)
		s.URL = fmt.Sprintf("http://127.0.0.1:%d", s.port)
		if s.start() {
			t.Cleanup(s.Stop)
			return s
		}
	}
	t.Fatalf("versitygw does not start: %s", s.says.String())
	return nil
}

// Bucket makes a bucket, and returns the directory that has its objects.
func (s *S3) Bucket(name string) string {
	s.t.Helper()
	dir := filepath.Join(s.dir, "buckets", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// Start starts the server again, with what it had.
func (s *S3) Start() {
	s.t.Helper()
	if !s.start() {
		s.t.Fatalf("versitygw does not start again: %s", s.says.String())
	}
}

// start reports whether the server has started.
func (s *S3) start() bool {
	s.t.Helper()
	buckets, metadata := filepath.Join(s.dir, "buckets"), filepath.Join(s.dir, "metadata")
	for _, dir := range []string{buckets, metadata} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	s.says.Reset()
	// A directory for metadata, since not every file system has extended attributes.
	s.cmd = exec.Command("versitygw", "--port", fmt.Sprintf("127.0.0.1:%d", s.port), "--keep-alive", "--quiet",
		"posix", "--sidecar", metadata, buckets)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+S3Key, "ROOT_SECRET_KEY="+S3Secret)
	s.cmd.Stdout, s.cmd.Stderr = &s.says, &s.says
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should the test be killed
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for range 200 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)); err == nil {
			c.Close()
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Stop()
	return false
}

// Put puts an empty object into a bucket.
func (s *S3) Put(bucket, key string) {
	s.t.Helper()
	file := filepath.Join(s.dir, "buckets", bucket, key)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

// Age has an upload look as if it had been begun that much earlier.
func (s *S3) Age(upload string, by time.Duration) {
	s.t.Helper()
	then, found := time.Now().Add(-by), false
	err := filepath.WalkDir(filepath.Join(s.dir, "buckets"), func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == upload {
			found = true
			return os.Chtimes(file, then, then)
		}
		return err
	})
	if err != nil || !found {
		s.t.Fatalf("upload %s: found: %t, %v", upload, found, err)
	}
}

// Stop kills the server, as a crash would.
func (s *S3) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}
