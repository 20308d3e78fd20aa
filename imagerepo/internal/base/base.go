// Package base makes deltas from one base to several targets, and verifies each with a
// second implementation of the format.
//
//	image ----map---> index ---+
//	  or                       +--diff---> delta (a file) --+--apply--> digest, compared
//	signature -load-> blocks --+                            |           with the target's
//	                           ^                            |
//	target ----map-------------+             base ----------+
//
// A base is opened and indexed when it is first needed, and once for all targets.
// Diff and Verify may run concurrently, as one call each: the delta to one target is
// verified while the next is made. The pages of what is mapped are the system's to
// keep or not; besides them, an index takes the memory that New was given.
package base

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/internal/meter"
)

// Errors of a base.
var (
	// ErrWrong is wrapped by the error for a delta that does not make its target.
	ErrWrong = errors.New("the delta does not make its image")
	// ErrSignature is wrapped by the error for a signature that cannot be used.
	ErrSignature = errors.New("its base left, and of that the signature is damaged; remove the signature, or run without --keep-signatures")
)

// Base is what deltas are made from: an image, or only its signature.
type Base struct {
	path     string
	size     int64 // of the image, in bytes
	isImage  bool
	options  delta.Options
	progress *meter.Meter

	content []byte // mapped
	unmap   func() error
	index   encoder
}

// encoder makes deltas from one base.
type encoder interface {
	Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (delta.Stats, error)
	Close()
}

// Image returns the base that is an image of size bytes. Progress counts the bytes
// that are diffed and those that verifying makes.
func Image(path string, size int64, o delta.Options, progress *meter.Meter) *Base {
	return &Base{path: path, size: size, isImage: true, options: o, progress: progress}
}

// Signature returns the base that is known by a signature: that of an image of size
// bytes.
func Signature(path string, size int64, progress *meter.Meter) *Base {
	return &Base{path: path, size: size, progress: progress}
}

// Close frees what the base takes.
func (b *Base) Close() {
	if b.index != nil {
		b.index.Close()
	}
	if b.unmap != nil {
		b.unmap()
	}
}

// Target is an image that a delta is to make.
type Target struct {
	Path   string
	Size   int64 // bytes
	BLAKE3 cksum.Digest256
}

// Diff writes the delta to a target.
func (b *Base) Diff(ctx context.Context, t Target, w io.Writer) error {
	content, unmap, err := mmap.Open(t.Path)
	if err != nil {
		return err
	}
	defer unmap()
	if err := b.makeIndex(ctx); err != nil {
		return err
	}
	_, err = b.index.Diff(ctx, w, content, func(n int) { b.progress.Add(int64(n)) })
	return err
}

// Verify applies a delta of size bytes and compares what that makes with the target.
// It writes the bytes of the delta to seen too.
func (b *Base) Verify(ctx context.Context, t Target, r io.ReaderAt, size int64, seen io.Writer) error {
	if err := b.ready(ctx); err != nil {
		return err
	}
	if err := b.apply(ctx, t, r, size, seen); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrWrong, err)
	}
	return nil
}

func (b *Base) apply(ctx context.Context, t Target, r io.ReaderAt, size int64, seen io.Writer) error {
	var content delta.Source = io.NewSectionReader(bytes.NewReader(b.content), 0, b.size)
	if blocks, isSignature := b.index.(*delta.Blocks); isSignature {
		target, unmap, err := mmap.Open(t.Path)
		if err != nil {
			return err
		}
		defer unmap()
		if content, err = blocks.Recall(ctx, target, b.size, io.NewSectionReader(r, 0, size)); err != nil {
			return err
		}
	}
	digest := cksum.NewBLAKE3()
	in := io.TeeReader(io.NewSectionReader(r, 0, size), seen)
	err := delta.Verify(ctx, b.progress.Writer(digest), content, in, t.Size)
	if err == nil && cksum.Digest256(digest.Sum(nil)) != t.BLAKE3 {
		err = errors.New("another digest")
	}
	return err
}

// ready opens what Verify needs: of an image its content, of a signature its blocks.
func (b *Base) ready(ctx context.Context) error {
	if b.isImage {
		return b.open()
	}
	return b.makeIndex(ctx)
}

func (b *Base) open() (err error) {
	if b.unmap == nil {
		b.content, b.unmap, err = mmap.Open(b.path)
	}
	return err
}

// makeIndex makes what deltas are made with, of the image or of its signature.
func (b *Base) makeIndex(ctx context.Context) error {
	if b.index != nil {
		return nil
	}
	if err := b.open(); err != nil {
		return err
	}
	if b.isImage {
		index, err := delta.NewIndex(ctx, b.content, b.options)
		if err == nil { // else an encoder would hold a nil Index
			b.index = index
		}
		return err
	}
	blocks, err := delta.LoadSignature(ctx, b.content)
	if err == nil {
		b.index = blocks
	} else if ctx.Err() == nil {
		err = fmt.Errorf("%s: %w: %w", b.path, ErrSignature, err)
	}
	return err
}
