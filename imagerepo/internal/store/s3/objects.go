package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"puavo-image-repository/imagerepo/internal/mediatype"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta/untrusted"
)

// The metadata of objects.
const (
	digestOf = "sha256" // of the content, in hexadecimal
	madeBy   = "made"   // by which Create: a random number
)

// maxPages is how many pages of a list are read: of objects, ten million.
const maxPages = 10_000

// pages calls next for each page of a list until it says that no more follow.
func (s *Store) pages(ctx context.Context, next func() (more *bool, err error)) error {
	for range cmp.Or(s.options.tuning.pages, maxPages) {
		if more, err := next(); err != nil {
			return err
		} else if !aws.ToBool(more) {
			return ctx.Err()
		}
	}
	return errEndless
}

// List returns all files below the prefix. It leaves out objects whose keys cannot be names
// of files, such as the folders that some tools make.
func (s *Store) List(ctx context.Context) (files []store.File, err error) {
	in := &sdk.ListObjectsV2Input{Bucket: &s.options.Bucket, Prefix: aws.String(s.key(""))}
	err = s.pages(ctx, func() (*bool, error) {
		page, err := s.client.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			if name, ok := s.nameOf(o.Key); ok {
				files = append(files, store.File{Name: name, Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified)})
			}
		}
		in.ContinuationToken = page.NextContinuationToken
		return page.IsTruncated, nil
	})
	slices.SortFunc(files, func(a, b store.File) int { return strings.Compare(a.Name, b.Name) })
	return files, s.failed(ctx, "listing", err)
}

// Stat returns what is known of a file.
func (s *Store) Stat(ctx context.Context, name string) (store.File, error) {
	file, _, err := s.head(ctx, name)
	return file, err
}

// head returns what is known of a file, and its metadata.
func (s *Store) head(ctx context.Context, name string) (store.File, map[string]string, error) {
	if err := store.CheckName(name); err != nil {
		return store.File{}, nil, err
	}
	out, err := s.client.HeadObject(ctx, &sdk.HeadObjectInput{Bucket: &s.options.Bucket, Key: aws.String(s.key(name))})
	if err != nil {
		return store.File{}, nil, s.failed(ctx, "looking at "+untrusted.Show(name), err)
	}
	return store.File{Name: name, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified)}, out.Metadata, nil
}

// Open opens a file to read it. The caller closes it, and bounds what is read.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	out, err := s.client.GetObject(ctx, &sdk.GetObjectInput{Bucket: &s.options.Bucket, Key: aws.String(s.key(name))})
	if err != nil {
		return nil, s.failed(ctx, "reading "+untrusted.Show(name), err)
	}
	return out.Body, nil
}

// Write makes or replaces a document.
func (s *Store) Write(ctx context.Context, name string, data []byte) error {
	in, err := s.document(name, data)
	if err != nil {
		return err
	}
	_, err = s.client.PutObject(ctx, in)
	return s.failed(ctx, "writing "+untrusted.Show(name), err)
}

// document returns the request that writes a document.
func (s *Store) document(name string, data []byte) (*sdk.PutObjectInput, error) {
	if err := store.CheckName(name); err != nil {
		return nil, err
	}
	kind, sum, digest := mediatype.Of(name), md5.Sum(data), sha256.Sum256(data)
	return &sdk.PutObjectInput{
		Bucket: &s.options.Bucket, Key: aws.String(s.key(name)), Body: bytes.NewReader(data),
		ContentType: &kind.ContentType, CacheControl: &kind.CacheControl,
		ContentMD5: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		Metadata:   map[string]string{digestOf: hex.EncodeToString(digest[:])},
	}, nil
}

// Create makes a document that must not exist, by a request with If-None-Match. Some servers
// ignore that header, so the same request is made again: if it does not fail, the document is
// removed, and the error wraps store.ErrIgnored.
func (s *Store) Create(ctx context.Context, name string, data []byte) error {
	in, err := s.document(name, data)
	if err != nil {
		return err
	}
	doing := "creating " + untrusted.Show(name)
	in.IfNoneMatch = aws.String("*")
	in.Metadata[madeBy] = rand.Text()
	// What exists is safe even from a server that would replace it.
	if _, err := s.Stat(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(err, fmt.Errorf("%s: %s: %w", s, doing, fs.ErrExist))
	}
	err = s.create(ctx, in, data)
	if isExisting(err) && s.isOurs(ctx, name, in.Metadata[madeBy]) {
		err = nil // an answer was lost, and the library tried again
	}
	if err != nil {
		return s.failedCreate(ctx, doing, err)
	}
	err = s.create(ctx, in, data)
	if isExisting(err) {
		return ctx.Err()
	}
	removed := s.Remove(context.WithoutCancel(ctx), name)
	if err != nil {
		return s.failedCreate(ctx, doing, err)
	}
	return errors.Join(fmt.Errorf("%s: %s: %w; use a server that obeys If-None-Match", s, doing, store.ErrIgnored), removed)
}

// create makes one request. Where two are made at once, S3 may answer to both that they
// conflict: then the one that is tried again wins.
func (s *Store) create(ctx context.Context, in *sdk.PutObjectInput, data []byte) error {
	var err error
	for range attempts {
		in.Body = bytes.NewReader(data) // it is read where it stands
		if _, err = s.client.PutObject(ctx, in); codeOf(err) != "ConditionalRequestConflict" {
			return err
		}
	}
	return err
}

// failedCreate returns the error of Create for that of a request.
func (s *Store) failedCreate(ctx context.Context, doing string, err error) error {
	switch {
	case isExisting(err), codeOf(err) == "ConditionalRequestConflict":
		err = errors.Join(fs.ErrExist, err)
	case statusOf(err) == http.StatusNotImplemented:
		err = errors.Join(store.ErrIgnored, err)
	}
	return s.failed(ctx, doing, err)
}

func isExisting(err error) bool { return statusOf(err) == http.StatusPreconditionFailed }

// isOurs reports whether a document was made by the Create with that number.
func (s *Store) isOurs(ctx context.Context, name, number string) bool {
	_, metadata, err := s.head(ctx, name)
	return err == nil && metadata[madeBy] == number
}

// Replace replaces a document whose content is old, by a request with If-Match for the ETag
// that it had when it was compared. A server that ignores that header, or does not know it,
// replaces what another has written in the meantime.
func (s *Store) Replace(ctx context.Context, name string, old, data []byte) error {
	in, err := s.document(name, data)
	if err != nil {
		return err
	}
	doing := "replacing " + untrusted.Show(name)
	for range attempts {
		in.Body = bytes.NewReader(data) // it is read where it stands
		if in.IfMatch, err = s.etagIf(ctx, name, old); err == nil {
			_, err = s.client.PutObject(ctx, in)
		}
		if statusOf(err) == http.StatusNotImplemented {
			return s.Write(ctx, name, data)
		}
		if codeOf(err) != "ConditionalRequestConflict" {
			break
		}
	}
	if isExisting(err) { // an answer may have been lost, and the library has tried again
		if _, second := s.etagIf(ctx, name, data); second == nil {
			return nil
		}
	}
	if isExisting(err) || isMissing(err) || codeOf(err) == "ConditionalRequestConflict" {
		err = errors.Join(store.ErrOther, err)
	}
	return s.failed(ctx, doing, err)
}

// etagIf returns the ETag of a document whose content is data, and otherwise an error that
// wraps store.ErrOther.
func (s *Store) etagIf(ctx context.Context, name string, data []byte) (*string, error) {
	out, err := s.client.GetObject(ctx, &sdk.GetObjectInput{Bucket: &s.options.Bucket, Key: aws.String(s.key(name))})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	got, err := untrusted.ReadAll(out.Body, int64(len(data)))
	if errors.Is(err, untrusted.ErrTooLarge) || err == nil && !bytes.Equal(got, data) {
		err = store.ErrOther
	}
	return out.ETag, err
}

// Remove removes a file.
func (s *Store) Remove(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	_, err := s.client.DeleteObject(ctx, &sdk.DeleteObjectInput{Bucket: &s.options.Bucket, Key: aws.String(s.key(name))})
	if isMissing(err) {
		return ctx.Err()
	}
	return s.failed(ctx, "removing "+untrusted.Show(name), err)
}
