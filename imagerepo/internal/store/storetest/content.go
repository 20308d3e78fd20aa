package storetest

import (
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"puavo-image-repository/imagerepo/internal/store"
)

// length is that of payload for which Stage takes several steps, in bytes.
const length = 20<<20 + 12345

// Content is payload in a file, and counts what Stage reports.
type Content struct {
	store.Content
	data        string
	path        string
	sent, found atomic.Int64 // bytes
}

// NewContent returns payload of size bytes, which are the same for the same size.
func NewContent(t *testing.T, name string, size int) *Content {
	t.Helper()
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data)
	c := &Content{data: string(data), path: filepath.Join(t.TempDir(), "payload")}
	c.Content = store.Content{Name: name, Size: int64(size), SHA256: sha256.Sum256(data)}
	c.Open = func() (*os.File, error) { return os.Open(c.path) }
	c.Done = c.count
	c.write(t, c.data)
	return c
}

// Sent returns how many bytes Stage has sent, Found how many were there before it.
func (c *Content) Sent() int64  { return c.sent.Load() }
func (c *Content) Found() int64 { return c.found.Load() }

// Data returns the bytes.
func (c *Content) Data() string { return c.data }

func (c *Content) count(n int64, sent bool) {
	if sent {
		c.sent.Add(n)
	} else {
		c.found.Add(n)
	}
}

// write gives the file other bytes.
func (c *Content) write(t *testing.T, data string) {
	t.Helper()
	if err := os.WriteFile(c.path, []byte(data), 0o666); err != nil {
		t.Fatal(err)
	}
}
