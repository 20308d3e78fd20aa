// Package store defines a destination: a place for files, which clients may read at any
// instant. The packages below it write to a directory, by SFTP, and to S3.
//
// # Documents and payload
//
// A document is small; Write replaces it as a whole, so that a reader gets the old or the
// new. Payload, images and deltas, is large, and sent in two steps:
//
//	Stage    sends its bytes, which nobody can read yet, to the disk of the destination
//	Release  gives them their name, in place of what has it
//
// A Stage that was interrupted, for whatever reason, continues when it is called again with
// the same Content: it does not send again the bytes that are certainly there. Until then
// they are aside: List does not return them, and Sweep removes them.
//
//	directory, SFTP  .publish/<SHA-256>-<digest of the name>, renamed by Release
//	S3               the parts of an upload that is not complete, completed by Release
//
// # Names
//
// Names are paths below the destination, with slashes: clean, relative, and without a
// component that begins with a dot. Only files in the root whose names begin with
// ".publish" may have one: they belong to publish. CheckName refuses all others, and with
// it every method. List leaves out what has such a name. Stores make the folders that a
// name needs.
//
// # Errors
//
// An error names the destination and the file, and says what to do where that is known. It
// never contains a secret. A file that is missing is an error that wraps fs.ErrNotExist.
package store

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"puavo-image-repository/cksum"
)

var (
	// ErrChanged is wrapped by the error of Stage for a file that does not have the size
	// and the digest of its Content: it changed since the documents were made.
	ErrChanged = errors.New("it is not what the documents say")
	// ErrIgnored is wrapped by the error of Create where the destination would replace a
	// file that exists: it cannot hold a lock.
	ErrIgnored = errors.New("the destination replaces a file that it was asked to keep")
	// ErrOther is wrapped by the error of Replace for a document that somebody has changed or
	// removed.
	ErrOther = errors.New("somebody else has changed or removed it")
)

// Aside is the folder, or the prefix, of what is not published yet.
const Aside = ".publish"

// A File is one that is at a destination.
type File struct {
	Name     string
	Size     int64
	Modified time.Time // by the clock of the destination
}

// Content is payload to send.
type Content struct {
	Name   string
	Size   int64
	SHA256 cksum.Digest256
	// Open opens the file. Stage closes it.
	Open func() (*os.File, error)
	// Done, unless it is nil, is called with the number of bytes that have arrived since
	// the last call; sent is false for those of an earlier Stage. When Stage returns nil, the
	// numbers add up to Size. It may be called concurrently.
	Done func(n int64, sent bool)
}

// A Store is a destination. All methods can be called concurrently, for different names,
// and return the error of ctx if that ends first.
type Store interface {
	// String returns the destination as it was given, without secrets.
	String() string
	// List returns all files, sorted by name, but for those that are aside.
	List(ctx context.Context) ([]File, error)
	// Stat returns what is known of a file.
	Stat(ctx context.Context, name string) (File, error)
	// Open opens a file to read it.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Write makes or replaces a document.
	Write(ctx context.Context, name string, data []byte) error
	// Create makes a document that must not exist. Where it does, the error wraps
	// fs.ErrExist.
	Create(ctx context.Context, name string, data []byte) error
	// Replace replaces a document whose content is old. Where it has another content, or is
	// gone, the error wraps ErrOther. S3 compares and replaces in one step. Elsewhere, and
	// where a server of S3 ignores If-Match, it compares immediately before it replaces.
	Replace(ctx context.Context, name string, old, data []byte) error
	// Remove removes a file. A file that is missing is not an error.
	Remove(ctx context.Context, name string) error
	// Stage sends payload. It reads all of it, and compares size and digest. After it
	// returned nil, Release can be called, by another process too.
	Stage(ctx context.Context, c Content) error
	// Release gives payload that was staged its name. Where nothing was staged, the error
	// wraps fs.ErrNotExist.
	Release(ctx context.Context, c Content) error
	// Sweep removes what is aside and belongs to none of these contents: what other runs
	// began, unless somebody may still need it.
	Sweep(ctx context.Context, keep []Content) error
	// Now returns the time by the clock of the destination.
	Now(ctx context.Context) (time.Time, error)
	// Requests returns about how many requests it takes to publish a file of size bytes, 0
	// where there are none.
	Requests(size int64) int64
	// Close ends the connection.
	Close() error
}
