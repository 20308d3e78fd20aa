package tuf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Verify verifies timestamp, snapshot and targets by a root. It ignores expiry, and
// roots after the given one. With an error it returns the metadata that was verified
// before the error occurred, nil if the root is no root.
func Verify(ctx context.Context, root []byte, read ReadFunc) (trusted *trustedmetadata.TrustedMetadata, err error) {
	err = recovered(func() (err error) {
		if trusted, err = trustedmetadata.New(root); err != nil {
			return untrusted.Error(meta.PlainJSON(err))
		}
		trusted.RefTime = time.Time{}
		c := chain{read: read, trusted: trusted}
		return c.verify(ctx)
	})
	return trusted, err
}

// recovered calls a function and returns its panic as an error: metadata that is
// signed, but malformed, can make go-tuf panic.
func recovered(verify func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: invalid metadata: %s", ErrRefused, untrusted.Show(fmt.Sprint(r)))
		}
	}()
	return verify()
}

// chain is a walk along the metadata of a mirror.
type chain struct {
	read    ReadFunc
	store   store
	trusted *trustedmetadata.TrustedMetadata // as far as the walk has come
}

// followRoots verifies the roots that come after the trusted one. All of them but the
// last may have expired.
func (c *chain) followRoots(ctx context.Context) error {
	for range maxRoots + 1 { // the last one must not exist
		next := MetadataPath(metadata.ROOT, c.trusted.Root.Signed.Version+1)
		data, err := c.fetch(ctx, next, maxRoot)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := c.trusted.UpdateRoot(data); err != nil {
			return refused(next, err)
		}
	}
	return fmt.Errorf("%w: more than %d roots follow the trusted one (endless data attack?)", ErrRefused, maxRoots)
}

// verify verifies the metadata that the newest root has signed.
func (c *chain) verify(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.timestamp, c.snapshot, c.targets} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *chain) timestamp(ctx context.Context) error {
	// An expired one still protects from a rollback.
	_, _ = c.trusted.UpdateTimestamp(c.store.read(FileName(metadata.TIMESTAMP), maxTimestamp))
	name := MetadataPath(metadata.TIMESTAMP, 0)
	data, err := c.fetch(ctx, name, maxTimestamp)
	if err != nil {
		return err
	}
	if err := requireMeta(data, FileName(metadata.SNAPSHOT)); err != nil {
		return refused(name, err)
	}
	_, err = c.trusted.UpdateTimestamp(data)
	if errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		if !c.trusted.Timestamp.Signed.IsExpired(c.trusted.RefTime) {
			return nil
		}
		err = &metadata.ErrExpiredMetadata{Msg: "timestamp.json is expired"}
	}
	if err != nil {
		return refused(name, err)
	}
	return c.store.write(FileName(metadata.TIMESTAMP), data)
}

func (c *chain) snapshot(ctx context.Context) error {
	file := FileName(metadata.SNAPSHOT)
	if _, err := c.trusted.UpdateSnapshot(c.store.read(file, maxSnapshot), true); err == nil {
		return nil
	}
	name, data, err := c.fetchNamed(ctx, metadata.SNAPSHOT, c.trusted.Timestamp.Signed.Meta[file], maxSnapshot)
	if err != nil {
		return err
	}
	if err := requireMeta(data, FileName(metadata.TARGETS)); err != nil {
		return refused(name, err)
	}
	if _, err := c.trusted.UpdateSnapshot(data, false); err != nil {
		return refused(name, err)
	}
	return c.store.write(file, data)
}

func (c *chain) targets(ctx context.Context) error {
	file := FileName(metadata.TARGETS)
	if _, err := c.trusted.UpdateTargets(c.store.read(file, maxTargets)); err == nil {
		return nil
	}
	name, data, err := c.fetchNamed(ctx, metadata.TARGETS, c.trusted.Snapshot.Signed.Meta[file], maxTargets)
	if err != nil {
		return err
	}
	if _, err := c.trusted.UpdateTargets(data); err != nil {
		return refused(name, err)
	}
	return c.store.write(file, data)
}

// fetchNamed returns the metadata of a role that other metadata names, and its path.
func (c *chain) fetchNamed(ctx context.Context, role string, named *metadata.MetaFiles, most int64) (name string, data []byte, err error) {
	if named.Length > 0 {
		most = min(most, named.Length)
	}
	name = MetadataPath(role, named.Version)
	data, err = c.fetch(ctx, name, most)
	return name, data, refuseMissing(name, err)
}

// fetch returns a file of the mirror.
func (c *chain) fetch(ctx context.Context, name string, most int64) ([]byte, error) {
	data, err := c.read(ctx, name, most)
	return data, refuseEndless(name, err)
}
