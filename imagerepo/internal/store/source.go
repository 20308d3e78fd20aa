package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta/untrusted"
)

// A Source reads the bytes of a Content in order and checks them. The check comes before
// the last bytes are handed out, so a file of the wrong size or digest is never sent whole.
// It is not for concurrent use.
type Source struct {
	content Content
	file    *os.File
	digest  *cksum.Hash
	at      int64
	checked bool
}

// Source opens the file of c, which must have a digest. The caller calls Close.
func (c Content) Source() (*Source, error) {
	if c.SHA256 == (cksum.Digest256{}) || c.Size < 0 {
		return nil, fmt.Errorf("%s: no size and SHA-256 to compare it with", untrusted.Show(c.Name))
	}
	f, err := c.Open()
	if err != nil {
		return nil, err
	}
	return &Source{content: c, file: f, digest: cksum.NewFor(cksum.Sums{SHA256: c.SHA256})}, nil
}

// File returns the open file, so that its blocks can be shared. It must not be read.
func (s *Source) File() *os.File { return s.file }

// Close closes the file.
func (s *Source) Close() error { return s.file.Close() }

// Next reads the next bytes into buf and returns how many. They are fewer than buf can
// hold only at the end of the file; after it the error is io.EOF. With the last bytes, and
// with io.EOF of an empty file, the whole is checked: if it does not have the size and the
// digest of its Content, the error wraps ErrChanged and no bytes are returned.
func (s *Source) Next(ctx context.Context, buf []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(s.file, buf[:min(int64(len(buf)), s.content.Size-s.at)])
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return 0, s.changed("it has %d bytes, not %d", s.at+int64(n), s.content.Size)
	}
	if err != nil {
		return 0, s.reading(err)
	}
	s.digest.Write(buf[:n])
	s.at += int64(n)
	if s.at < s.content.Size {
		return n, nil
	}
	if err := s.check(); err != nil {
		return 0, err
	}
	if n == 0 && len(buf) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// check compares what was read, at the end, with the Content.
func (s *Source) check() error {
	if s.checked {
		return nil
	}
	if n, err := s.file.Read(make([]byte, 1)); n > 0 {
		return s.changed("it has more than %d bytes", s.content.Size)
	} else if err != io.EOF {
		return s.reading(err)
	}
	if got := s.digest.Sums().SHA256; got != s.content.SHA256 {
		return s.changed("its SHA-256 is %s, not %s", got, s.content.SHA256)
	}
	s.checked = true
	return nil
}

func (s *Source) reading(err error) error {
	return fmt.Errorf("reading %s: %w", untrusted.Show(s.content.Name), err)
}

func (s *Source) changed(format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s; build the mirror again, then publish it", untrusted.Show(s.content.Name), ErrChanged, fmt.Sprintf(format, args...))
}

// Each calls do with each of the remaining pieces of size bytes, in order, and its offset.
// The last piece may be shorter. A piece may be used until do returns. The errors are those
// of Next and of do: after one of Next, discard what do got.
func (s *Source) Each(ctx context.Context, size int, do func(at int64, piece []byte) error) error {
	buf := make([]byte, min(int64(size), max(s.content.Size, 1)))
	for {
		at := s.at
		n, err := s.Next(ctx, buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(at, buf[:n]); err != nil {
			return err
		}
	}
}

// Report calls Done, if it is set and n is not 0.
func (c Content) Report(n int64, sent bool) {
	if c.Done != nil && n > 0 {
		c.Done(n, sent)
	}
}
