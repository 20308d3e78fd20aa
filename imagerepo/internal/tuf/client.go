package tuf

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// ClientDir is the name of the directory of a client's files.
const ClientDir = ".trust"

// Client is the verifying side: the root that it was given, and what it remembers.
type Client struct {
	Root []byte // a root.json of any version
	// Dir is the ClientDir, for the caller to close after Refresh; with the zero Dir
	// nothing is remembered. With ReadOnly it is read, but not written.
	Dir      atomicfile.Dir
	ReadOnly bool
	Now      time.Time // the zero Time is now
}

// CheckRoot returns an error for data that is no root.
func CheckRoot(data []byte) error {
	_, err := trustedmetadata.New(data)
	return untrusted.Error(meta.PlainJSON(err))
}

// Refresh reads and verifies the metadata of a mirror, and returns the documents that
// it names. It remembers each part as soon as that is verified, so that a later call
// accepts none older. Two calls must not use one Dir at the same time.
func (c Client) Refresh(ctx context.Context, read ReadFunc) (d *Documents, err error) {
	err = recovered(func() (err error) {
		d, err = c.refresh(ctx, read)
		return err
	})
	return d, err
}

func (c Client) refresh(ctx context.Context, read ReadFunc) (*Documents, error) {
	walk := &chain{read: read, store: store{c.Dir, c.ReadOnly || c.Dir.IsZero()}}
	var err error
	if walk.trusted, err = c.firstRoot(walk.store); err != nil {
		return nil, fmt.Errorf("the root of trust: %w", err)
	}
	walk.trusted.RefTime = c.time()
	if err := walk.followRoots(ctx); err != nil {
		return nil, err
	}
	if err := c.rememberRoot(walk); err != nil {
		return nil, err
	}
	err = walk.verify(ctx)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrRefused) { // nothing names the timestamp
		err = fmt.Errorf("it is not signed, so --trust refuses it; ask for a signed mirror, or leave out --trust: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return &Documents{walk.fetch, walk.trusted.Targets[metadata.TARGETS].Signed.Targets}, nil
}

// time returns the time by which metadata expires.
func (c Client) time() time.Time {
	if c.Now.IsZero() {
		return time.Now().UTC()
	}
	return c.Now.UTC()
}

// firstRoot returns the newest root that was trusted before, if it began from the
// same given root; otherwise the given one.
func (c Client) firstRoot(s store) (*trustedmetadata.TrustedMetadata, error) {
	if bytes.Equal(s.read("pinned", maxPin), c.pin()) {
		if trusted, err := trustedmetadata.New(s.read(FileName(metadata.ROOT), maxRoot)); err == nil {
			return trusted, nil
		}
	}
	return trustedmetadata.New(c.Root)
}

// pin identifies the given root.
func (c Client) pin() []byte { return fmt.Appendf(nil, "%x\n", sha256.Sum256(c.Root)) }

// rememberRoot remembers the newest root. The pin comes last: under another pin the
// root is ignored.
func (c Client) rememberRoot(walk *chain) error {
	data, err := walk.trusted.Root.ToBytes(false)
	if err != nil {
		return err
	}
	if err := walk.store.write(FileName(metadata.ROOT), data); err != nil {
		return err
	}
	return walk.store.write("pinned", c.pin())
}

// store holds the files of a client. The zero store holds none.
type store struct {
	dir      atomicfile.Dir
	readOnly bool
}

// read returns a file, nil if it cannot be read or has more than most bytes.
func (s store) read(name string, most int64) []byte {
	if s.dir.IsZero() {
		return nil
	}
	data, err := s.dir.ReadFile(name, most)
	if err != nil {
		return nil
	}
	return data
}

func (s store) write(name string, data []byte) error {
	if s.readOnly || s.dir.IsZero() {
		return nil
	}
	if _, err := s.dir.Replace(name+".tmp", name, data); err != nil {
		return fmt.Errorf("recording what is trusted: %w", err)
	}
	return nil
}

// Documents are the documents that the signed targets of a mirror name. They can be
// read concurrently if the ReadFunc can be.
type Documents struct {
	fetch   ReadFunc
	targets map[string]*metadata.TargetFiles
}

// Read returns a document, such as index.json, verified, of at most most bytes. Its
// error for one that the targets do not name wraps fs.ErrNotExist.
func (d *Documents) Read(ctx context.Context, name string, most int64) ([]byte, error) {
	t := d.targets[name]
	if t == nil {
		return nil, fmt.Errorf("%s is not among the signed documents: %w", name, fs.ErrNotExist)
	}
	if len(t.Hashes["sha256"]) != sha256.Size || t.Length > most {
		return nil, fmt.Errorf("%w: the targets name %s without its SHA-256, or with %d bytes", ErrRefused, name, t.Length)
	}
	where := TargetPath(name, t)
	data, err := d.fetch(ctx, where, t.Length)
	if err != nil {
		return nil, refuseMissing(where, err)
	}
	if err := t.VerifyLengthHashes(data); err != nil {
		return nil, refused(where, err)
	}
	return data, nil
}
