// Package s3 publishes to a bucket of S3: of Amazon, or of any server that speaks its
// protocol with these requests, which need these rights:
//
//	ListObjectsV2, ListMultipartUploads         s3:ListBucket, s3:ListBucketMultipartUploads
//	PutObject, CreateMultipartUpload, UploadPart,
//	CompleteMultipartUpload                     s3:PutObject
//	ListParts, AbortMultipartUpload             s3:ListMultipartUploadParts, s3:AbortMultipartUpload
//	HeadObject, GetObject, DeleteObject         s3:GetObject, s3:DeleteObject
//
// # Objects
//
// A file is the object with its name below the prefix. Its Content-Type and Cache-Control
// are those of package mediatype. Its x-amz-meta-sha256 is the SHA-256 of its content in
// lower-case hexadecimal.
//
// # Payload
//
// Stage sends a file as the parts of an upload for the object's key, which no reader sees,
// and Release completes the upload, even if it has one part only. So what was sent is kept
// by the bucket, and no other record of it is needed:
//
//	             read in order, digested       Jobs parts of all files at a time
//	file ──────> buffer of one part ─┬─> MD5 ─> UploadPart ─┐
//	             waits for a free    ├─> MD5 ─> UploadPart ─┼─> upload ── Release ──> object
//	             one of Jobs buffers └─> MD5 ─> (is there)  ┘   (hidden)
//
// The buffers are all that takes memory: Jobs × the size of a part. A part is 16 MiB, or
// more where a file would have more than 10,000 parts.
//
// After an interruption Stage takes the newest upload for the key, and does not send a part
// again whose ETag there is the MD5 of ours. An upload with a part of another size or content
// was begun for another file: Stage aborts it and sends all parts. (It could replace the
// parts, but not x-amz-meta-sha256.) Where an ETag is not the MD5, as with encryption by keys
// of KMS, it always sends all parts.
//
// Each part and each document is sent with its Content-MD5, which the server must compare,
// and the ETag of the answer is compared too if it looks like an MD5 and is one.
//
// If the content of a file is not as it should be (store.ErrChanged), its upload is aborted.
// Sweep aborts uploads below the prefix that are older than a week by the clock of
// the server, of payload that is not kept. Younger ones stay, for another publisher may have
// begun them; uploads of files that are not payload are not ours and stay.
//
// # Connections
//
// A request is tried 8 times at most, with pauses of up to 20 s, if the connection breaks,
// if nothing is sent or received for two minutes, or if the answer is 5xx or asks to slow
// down. Other answers are final. Redirects are not followed.
//
// Given endpoints are asked in path style, https://endpoint/bucket/key; Amazon in the style
// of virtual hosts, unless the name of the bucket has a dot, which certificates do not allow.
// An endpoint must be https, except on this machine itself. Plain HTTP would not show the
// access keys to others, but would let them change what is published on its way.
package s3

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/s3/awskeys"
)

// Options say which bucket, and how it is written to.
type Options struct {
	Bucket   string
	Prefix   string // of all keys, without the slash after it; "" is the whole bucket
	Endpoint string // such as https://s3.example.org; "" is Amazon's
	Region   string // "" is that of the environment or the AWS files, with an endpoint us-east-1
	Jobs     int    // parts that are sent at a time, of all files; at least 1
	PartSize int64  // bytes; 0 is 16 MiB, less than 5 MiB is 5 MiB, the least that S3 takes
	// Pace is called before n bytes are sent, at most 32 KiB, and returns when they may be.
	// It is called concurrently; nil is not called.
	Pace func(ctx context.Context, n int) error

	tuning tuning
}

// tuning is what tests change.
type tuning struct {
	stall   time.Duration // without a byte, after which a connection is given up
	backoff time.Duration // at most, before a request is tried again
	pages   int           // of a list that are read
}

// A Store is a bucket, or a part of one. It can be used concurrently.
type Store struct {
	options Options
	keys    awskeys.Keys
	client  *sdk.Client
	buffers buffers
	idle    func() // closes what connections are idle
}

var _ store.Store = (*Store)(nil)

// bucketName is what a bucket may be called. Amazon allows less today.
var bucketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)

// Open finds access keys, as package awskeys says, and asks whether they fit the bucket.
// The caller calls Close.
func Open(ctx context.Context, o Options) (*Store, error) {
	if !bucketName.MatchString(o.Bucket) {
		return nil, fmt.Errorf("%q is not the name of a bucket; give s3://BUCKET/PREFIX", o.Bucket)
	}
	if o.Prefix != "" {
		if err := store.CheckName(o.Prefix); err != nil {
			return nil, fmt.Errorf("the prefix in the bucket: %w; give s3://BUCKET/PREFIX", err)
		}
	}
	if err := checkEndpoint(o.Endpoint); err != nil {
		return nil, err
	}
	keys, err := awskeys.Find(ctx, os.Getenv)
	if err != nil {
		return nil, err
	}
	if o.Region == "" {
		o.Region = keys.Region
	}
	if o.Region == "" && o.Endpoint != "" {
		o.Region = "us-east-1"
	}
	if o.Region == "" {
		return nil, fmt.Errorf("s3://%s: no region; add ?region=REGION, or set AWS_REGION", o.Bucket)
	}
	s := newStore(o, keys)
	if err := s.look(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newStore(o Options, keys awskeys.Keys) *Store {
	s := &Store{options: o, keys: keys, buffers: newBuffers(max(o.Jobs, 1))}
	s.client, s.idle = newClient(o, keys)
	return s
}

// look lists one file, to find out what is wrong before anything is sent.
func (s *Store) look(ctx context.Context) error {
	_, err := s.client.ListObjectsV2(ctx, &sdk.ListObjectsV2Input{
		Bucket: &s.options.Bucket, Prefix: aws.String(s.key("")), MaxKeys: aws.Int32(1),
	})
	return s.failed(ctx, "looking into the bucket", err)
}

// String returns s3://bucket/prefix, with the endpoint and the region if they were given.
func (s *Store) String() string {
	query := ""
	for _, part := range [][2]string{{"endpoint", s.options.Endpoint}, {"region", s.options.Region}} {
		if part[1] == "" || part[0] == "region" && s.options.Endpoint != "" {
			continue
		}
		query += "&" + part[0] + "=" + strings.NewReplacer("&", "%26", "#", "%23").Replace(part[1])
	}
	name := strings.TrimSuffix(s.options.Bucket+"/"+s.options.Prefix, "/")
	return "s3://" + (&url.URL{Path: name}).EscapedPath() + strings.Replace(query, "&", "?", 1)
}

// key returns the key of a file. That of "" is the prefix of all.
func (s *Store) key(name string) string {
	if s.options.Prefix == "" {
		return name
	}
	return s.options.Prefix + "/" + name
}

// nameOf returns the name of the file with a key, and whether it can be one.
func (s *Store) nameOf(key *string) (string, bool) {
	name, ok := strings.CutPrefix(aws.ToString(key), s.key(""))
	return name, ok && store.CheckName(name) == nil
}

// Now returns the time by the clock of the server, to the second.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	const doing = "asking for the time"
	out, err := s.client.HeadBucket(ctx, &sdk.HeadBucketInput{Bucket: &s.options.Bucket})
	if err != nil {
		return time.Time{}, s.failed(ctx, doing, err)
	}
	now, ok := middleware.GetServerTime(out.ResultMetadata)
	if !ok {
		return time.Time{}, s.failed(ctx, doing, errNoDate)
	}
	return now, nil
}

// Requests returns about how many requests it takes to publish a file of size bytes: one
// for each part, and those to find, begin and complete the upload.
func (s *Store) Requests(size int64) int64 {
	return countOf(size, s.partSize(size)) + 6
}

// Close closes the connections.
func (s *Store) Close() error {
	s.idle()
	return nil
}
