// Package base makes the deltas from one base to several targets in one sweep, and
// verifies each with a second implementation of the format while it is made.
//
//	base ---------map----> index --+
//	  |                            |     +----> delta (a file) ---> digests
//	  |          target --map-----diff --+
//	  |             |                    +-pipe-> apply and compare
//	  +-------------|--------------------------------^
//	                +--------------------------------+
//
// One goroutine writes the delta, and another has librsync-go apply it as it comes,
// and compares what that makes with the target. So both look at the same places of
// base and target, and what is verified is still in the processor's or the system's
// cache: at most 32 MiB of the target and half a MiB of the delta lie between them, or
// one long copy or literal.
//
// A Lane makes one delta. The lanes of a sweep go over the base together: none
// gets more than a window of 64 MiB ahead of the slowest, so that the base is read
// once for all of them where memory does not hold it.
//
// A base is opened and indexed when it is first needed, and once for all targets; or
// it is indexed while somebody reads it for its digests, see Base.Reader. The pages
// of what is mapped are the system's to keep or not; besides them, an index takes the
// memory that its options say.
//
// A base that is known by its signature alone has no content to compare with. Its
// deltas are verified when they are complete, by what the target has where they copy
// from the base.
package base

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/mmap"
	"puavo-image-repository/imagerepo/internal/meter"
)

// Errors of a base.
var (
	// ErrWrong is wrapped by the error for a delta that does not make its target.
	ErrWrong = errors.New("the delta does not make its image")
	// ErrSignature is wrapped by the error for a signature that cannot be used.
	ErrSignature = errors.New("its base is gone, and the signature of the base is damaged; remove the signature, or run without --keep-signatures")
	// ErrTooLarge is the error for a delta that became larger than it may be.
	ErrTooLarge = errors.New("the delta is too large")
)

// Base is what deltas are made from: an image, or only its signature. Its methods can
// be called concurrently.
type Base struct {
	// Encoder, which may be nil, is called with what makes the deltas and returns what
	// does so in its place: tests have some that make wrong ones.
	Encoder func(Encoder) Encoder
	// SumsAsWritten has deltas digested while they are written or read, each by itself,
	// instead of several together afterwards. That takes more time of the processor, and
	// spares the disk where memory does not hold the delta until then.
	SumsAsWritten bool

	path     string
	size     int64 // of the image, in bytes
	isImage  bool
	options  delta.Options
	progress *meter.Meter

	mu       sync.Mutex // guards what follows, and is held while an index is made
	content  []byte     // mapped
	unmap    func() error
	indexing *delta.Indexing // nil if no Reader has begun one
	encoder  Encoder         // nil until it is needed
	blocks   *delta.Blocks   // of a signature; encoder, or what Encoder has been called with
}

// Encoder makes deltas from one base, as delta.Index does and delta.Blocks.
type Encoder interface {
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

// Close frees what the base takes. It may be called again, and no lane of the base may
// work after it.
func (b *Base) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.indexing != nil {
		b.indexing.Close()
	}
	if b.encoder != nil {
		b.encoder.Close()
	}
	if b.unmap != nil {
		b.unmap()
	}
	b.content, b.unmap, b.indexing, b.encoder = nil, nil, nil, nil
}

// Reader returns a reader of r, which reads the base's image from its start, that
// makes the index of what is read. Where r does not come to the end of the image, the
// index is made when it is needed. Errors of reading are those of r, or of the mapped
// image.
func (b *Base) Reader(ctx context.Context, r io.Reader) (io.Reader, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.open(); err != nil {
		return nil, err
	}
	var err error
	if b.indexing == nil {
		b.indexing, err = delta.Begin(b.content, b.options)
	}
	return &indexingReader{ctx, r, b.indexing, len(b.content), 0, 0, b.progress.At(meter.Index)}, err
}

// indexStep is how many bytes are read before they are indexed: few enough to be in
// the processor's cache still.
const indexStep = 512 << 10

type indexingReader struct {
	ctx     context.Context
	r       io.Reader
	index   *delta.Indexing
	size    int // of the base, in bytes
	read    int // bytes
	indexed int // bytes
	work    *meter.Meter
}

func (r *indexingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.read += n
	if end := min(r.read, r.size); end-r.indexed >= indexStep || err == io.EOF {
		if err := r.index.Add(r.ctx, end); err != nil {
			return n, err
		}
		r.work.Add(int64(end - r.indexed))
		r.indexed = end
	}
	return n, err
}

// open maps the image, or its signature.
func (b *Base) open() (err error) {
	if b.unmap == nil {
		b.content, b.unmap, err = mmap.Open(b.path)
	}
	return err
}

// mapped returns the content of the image, or its signature's.
func (b *Base) mapped() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.open()
	return b.content, err
}

// ready returns what makes deltas, which it makes of the image or of its signature
// when it is first needed.
func (b *Base) ready(ctx context.Context) (Encoder, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.encoder != nil {
		return b.encoder, nil
	}
	err := b.open()
	if err != nil {
		return nil, err
	}
	encoder, err := b.encode(ctx)
	if err != nil {
		return nil, err
	}
	if b.Encoder != nil {
		encoder = b.Encoder(encoder)
	}
	b.encoder = encoder
	return encoder, nil
}

func (b *Base) encode(ctx context.Context) (Encoder, error) {
	if !b.isImage {
		blocks, err := delta.LoadSignature(ctx, b.content)
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%s: %w: %w", b.path, ErrSignature, err)
		}
		b.blocks = blocks
		return blocks, err
	}
	if b.indexing != nil {
		if index := b.indexing.Index(); index != nil {
			return index, nil
		}
		b.indexing.Close() // what read the image did not come to its end
		b.indexing = nil
	}
	index, err := delta.NewIndex(ctx, b.content, b.options)
	if err != nil {
		return nil, err
	}
	b.progress.At(meter.Index).Add(b.size)
	return index, nil
}
