package s3

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"puavo-image-repository/imagerepo/internal/mediatype"
	"puavo-image-repository/imagerepo/internal/store"
)

// upload is one that is not complete.
type upload struct {
	key, id string
	begun   time.Time // by the clock of the server
	parts   map[int32]part
}

// part is one that is there.
type part struct {
	etag string
	size int64
}

// uploads returns the uploads whose keys begin with a prefix, the newest first, without
// their parts.
func (s *Store) uploads(ctx context.Context, prefix string) (all []upload, err error) {
	in := &sdk.ListMultipartUploadsInput{Bucket: &s.options.Bucket, Prefix: &prefix}
	err = s.pages(ctx, func() (*bool, error) {
		page, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Uploads {
			all = append(all, upload{key: aws.ToString(u.Key), id: aws.ToString(u.UploadId), begun: aws.ToTime(u.Initiated)})
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
		return page.IsTruncated, nil
	})
	slices.SortFunc(all, func(a, b upload) int { return cmp.Or(b.begun.Compare(a.begun), cmp.Compare(b.id, a.id)) })
	return all, err
}

// uploadsOf returns the uploads for a file, the newest first.
func (s *Store) uploadsOf(ctx context.Context, name string) ([]upload, error) {
	key := s.key(name)
	all, err := s.uploads(ctx, key)
	return slices.DeleteFunc(all, func(u upload) bool { return u.key != key }), err
}

// list sets the parts of an upload.
func (s *Store) list(ctx context.Context, up *upload) error {
	up.parts = make(map[int32]part)
	in := &sdk.ListPartsInput{Bucket: &s.options.Bucket, Key: &up.key, UploadId: &up.id}
	return s.pages(ctx, func() (*bool, error) {
		page, err := s.client.ListParts(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Parts {
			up.parts[aws.ToInt32(p.PartNumber)] = part{etagOf(p.ETag), aws.ToInt64(p.Size)}
		}
		in.PartNumberMarker = page.NextPartNumberMarker
		return page.IsTruncated, nil
	})
}

// uploadFor returns the newest upload for a file, if its parts have the sizes of ours, or
// begins one.
func (s *Store) uploadFor(ctx context.Context, c store.Content, partSize int64) (upload, error) {
	all, err := s.uploadsOf(ctx, c.Name)
	if err != nil {
		return upload{}, err
	}
	if len(all) > 0 {
		up := all[0]
		if err := s.list(ctx, &up); err != nil {
			return upload{}, err
		}
		if up.fits(c.Size, partSize) {
			return up, nil
		}
		if err := s.abort(ctx, up); err != nil {
			return upload{}, err
		}
	}
	return s.begin(ctx, c)
}

// fits reports whether each part that is there has the size that it must have in a file of
// size bytes.
func (u upload) fits(size, partSize int64) bool {
	for number, p := range u.parts {
		at := int64(number-1) * partSize
		if int64(number) > countOf(size, partSize) || p.size != min(partSize, size-at) {
			return false
		}
	}
	return true
}

// begin begins an upload. What it says here of the object cannot be changed later.
func (s *Store) begin(ctx context.Context, c store.Content) (upload, error) {
	kind, key := mediatype.Of(c.Name), s.key(c.Name)
	out, err := s.client.CreateMultipartUpload(ctx, &sdk.CreateMultipartUploadInput{
		Bucket: &s.options.Bucket, Key: &key, ContentType: &kind.ContentType, CacheControl: &kind.CacheControl,
		Metadata: map[string]string{digestOf: c.SHA256.String()},
	})
	if err != nil {
		return upload{}, err
	}
	return upload{key: key, id: aws.ToString(out.UploadId)}, nil
}

// abort removes an upload. One that is gone is not an error. No part may be on its way: it
// could arrive later and stay.
func (s *Store) abort(ctx context.Context, up upload) error {
	_, err := s.client.AbortMultipartUpload(ctx, &sdk.AbortMultipartUploadInput{Bucket: &s.options.Bucket, Key: &up.key, UploadId: &up.id})
	if codeOf(err) == "NoSuchUpload" {
		return ctx.Err()
	}
	return err
}

// Release completes the newest upload for a file that has all parts. Where none has, the
// object must be there already.
func (s *Store) Release(ctx context.Context, c store.Content) error {
	const doing = "releasing"
	if err := store.CheckName(c.Name); err != nil {
		return err
	}
	all, err := s.uploadsOf(ctx, c.Name)
	if err != nil {
		return s.failedAt(ctx, doing, c, err)
	}
	completed := false
	for _, up := range all {
		err := s.list(ctx, &up)
		if err != nil && codeOf(err) != "NoSuchUpload" {
			return s.failedAt(ctx, doing, c, err)
		}
		if !up.isWhole(c.Size) {
			continue
		}
		err = s.complete(ctx, up)
		if err != nil && codeOf(err) != "NoSuchUpload" {
			return s.failedAt(ctx, doing, c, err)
		}
		completed = err == nil
		break
	}
	return s.released(ctx, c, completed)
}

// isWhole reports whether an upload has all parts of a file of size bytes: from the first
// on, without a gap.
func (u upload) isWhole(size int64) bool {
	for number := range len(u.parts) {
		p, ok := u.parts[int32(number+1)]
		if !ok {
			return false
		}
		size -= p.size
	}
	return len(u.parts) > 0 && size == 0
}

// complete makes the object of the parts of an upload.
func (s *Store) complete(ctx context.Context, up upload) error {
	parts := make([]types.CompletedPart, len(up.parts))
	for i := range parts {
		number := int32(i + 1)
		parts[i] = types.CompletedPart{PartNumber: &number, ETag: aws.String(`"` + up.parts[number].etag + `"`)}
	}
	_, err := s.client.CompleteMultipartUpload(ctx, &sdk.CompleteMultipartUploadInput{
		Bucket: &s.options.Bucket, Key: &up.key, UploadId: &up.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

// released returns an error unless a file is what was staged. If its upload was not completed
// here, the object must say so; a server that keeps no metadata says only its size. The
// digest in the metadata of an upload that was completed here may be another: that of the
// content for which it was begun, whose parts were the same as far as they were sent.
func (s *Store) released(ctx context.Context, c store.Content, completed bool) error {
	file, metadata, err := s.head(ctx, c.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	digest := metadata[digestOf]
	isOther := digest != "" && digest != c.SHA256.String() && !completed
	if err != nil || file.Size != c.Size || isOther {
		return s.failedAt(ctx, "releasing", c, errGone)
	}
	return nil
}

// keptFor is how long uploads of other publishers are kept.
const keptFor = 7 * 24 * time.Hour

// Sweep aborts old uploads of payload that is not in keep.
func (s *Store) Sweep(ctx context.Context, keep []store.Content) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	const doing = "removing old uploads"
	all, err := s.uploads(ctx, s.key(""))
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	for _, up := range all {
		name, ok := s.nameOf(&up.key)
		isKept := slices.ContainsFunc(keep, func(c store.Content) bool { return c.Name == name })
		if !ok || isKept || !mediatype.Of(name).IsPayload() || now.Sub(up.begun) < keptFor {
			continue
		}
		if err := s.abort(ctx, up); err != nil {
			return s.failed(ctx, doing, err)
		}
	}
	return nil
}
