package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"puavo-image-repository/imagerepo/internal/pool"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta/untrusted"
)

// Limits of S3.
const (
	maxParts     = 10_000
	leastPart    = 5 << 20
	usualPart    = 16 << 20
	partsInSteps = 1 << 20 // of which the size of a part is a multiple
)

// partSize returns how many bytes the parts of a file have, but for the last.
func (s *Store) partSize(size int64) int64 {
	part := int64(usualPart)
	if s.options.PartSize != 0 {
		part = max(s.options.PartSize, leastPart)
	}
	if least := (size + maxParts - 1) / maxParts; least > part {
		part = (least + partsInSteps - 1) / partsInSteps * partsInSteps
	}
	return part
}

// countOf returns how many parts a file has: an empty one has one, too.
func countOf(size, part int64) int64 { return max((size+part-1)/part, 1) }

// buffers are those for parts: as many as may be sent at a time. They are made when they
// are needed.
type buffers chan []byte

func newBuffers(n int) buffers {
	b := make(buffers, n)
	for range n {
		b <- nil
	}
	return b
}

// take waits for a buffer and returns it with n bytes.
func (b buffers) take(ctx context.Context, n int64) ([]byte, error) {
	select {
	case buf := <-b:
		if int64(cap(buf)) < n {
			buf = make([]byte, n)
		}
		return buf[:n], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b buffers) give(buf []byte) { b <- buf }

// errOther is returned for an upload that has a part of other content.
var errOther = errors.New("the upload was begun for other content")

// Stage sends the parts of a file that are not there yet.
func (s *Store) Stage(ctx context.Context, c store.Content) error {
	if err := store.CheckName(c.Name); err != nil {
		return err
	}
	sending := &sending{Store: s, content: c, part: s.partSize(c.Size)}
	for {
		up, err := s.uploadFor(ctx, c, sending.part)
		if err != nil {
			return s.failedAt(ctx, "beginning to send", c, err)
		}
		err = sending.all(ctx, up)
		if !errors.Is(err, errOther) && !errors.Is(err, store.ErrChanged) {
			return err
		}
		if aborted := s.abort(ctx, up); aborted != nil || !errors.Is(err, errOther) {
			return errors.Join(err, s.failedAt(ctx, "aborting the upload of", c, aborted))
		}
	}
}

func (s *Store) failedAt(ctx context.Context, doing string, c store.Content, err error) error {
	return s.failed(ctx, doing+" "+untrusted.Show(c.Name), err)
}

// sending is one Stage.
type sending struct {
	*Store
	content store.Content
	part    int64

	mu       sync.Mutex
	reported map[int32]bool // parts
}

// all sends the parts that an upload lacks. If one part fails, no more are begun, but those that are
// being sent go on: they are kept, or the upload is aborted when none is on its way.
func (s *sending) all(ctx context.Context, up upload) error {
	src, err := s.content.Source()
	if err != nil {
		return err
	}
	defer src.Close()
	read := &reading{sending: s, src: src}
	parts := make([]struct{}, countOf(s.content.Size, s.part))
	return pool.Each(ctx, s.options.Jobs, parts, func(inner context.Context, _ struct{}) error {
		number, data, err := read.next(inner)
		if err != nil {
			return err
		}
		defer s.buffers.give(data)
		return s.one(ctx, up, number, data)
	})
}

// reading hands out the parts of a file in order, whoever asks first.
type reading struct {
	*sending
	mu   sync.Mutex
	src  *store.Source
	last int32
}

// next returns the number and the bytes of the next part, in a buffer to be given back.
func (r *reading) next(ctx context.Context) (int32, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.content.Size - int64(r.last)*r.part
	buf, err := r.buffers.take(ctx, min(r.part, left))
	if err != nil {
		return 0, nil, err
	}
	if _, err := r.src.Next(ctx, buf); err != nil && (err != io.EOF || r.content.Size > 0) {
		r.buffers.give(buf)
		return 0, nil, err
	}
	r.last++
	return r.last, buf, nil
}

// one sends a part, unless the upload has it.
func (s *sending) one(ctx context.Context, up upload, number int32, data []byte) error {
	sum := md5.Sum(data)
	digest := hex.EncodeToString(sum[:])
	if there, ok := up.parts[number]; ok {
		if there.etag != digest || there.size != int64(len(data)) {
			return errOther
		}
		s.report(number, len(data), false)
		return ctx.Err()
	}
	out, err := s.client.UploadPart(ctx, &sdk.UploadPartInput{
		Bucket: &s.options.Bucket, Key: &up.key, UploadId: &up.id, PartNumber: &number, Body: bytes.NewReader(data),
		ContentMD5: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	})
	if err == nil && isMD5(out) && etagOf(out.ETag) != digest {
		err = errDigest
	}
	if err != nil {
		return s.failedAt(ctx, "sending", s.content, err)
	}
	s.report(number, len(data), true)
	return nil
}

// report counts a part once, whatever happens to its upload.
func (s *sending) report(number int32, n int, sent bool) {
	s.mu.Lock()
	if s.reported == nil {
		s.reported = make(map[int32]bool)
	}
	again := s.reported[number]
	s.reported[number] = true
	s.mu.Unlock()
	if !again {
		s.content.Report(int64(n), sent)
	}
}

var hexMD5 = regexp.MustCompile(`^[0-9a-f]{32}$`)

// isMD5 reports whether the ETag of a part is its MD5. Where keys of KMS or of the customer
// encrypt the part, the ETag only looks like one.
func isMD5(out *sdk.UploadPartOutput) bool {
	plain := out.ServerSideEncryption == "" || out.ServerSideEncryption == types.ServerSideEncryptionAes256
	return plain && out.SSECustomerAlgorithm == nil && hexMD5.MatchString(etagOf(out.ETag))
}

func etagOf(header *string) string { return strings.Trim(aws.ToString(header), `"`) }
