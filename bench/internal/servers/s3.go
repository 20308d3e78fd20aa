package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// The access key of an S3 server, and its region.
const (
	Key    = "AKIABENCHBENCH"
	Secret = "secret-of-the-bench"
	Region = "us-east-1"
)

// S3 is versitygw, a server that speaks S3, on a directory of its own.
type S3 struct {
	*process
	dir string
}

// StartS3 starts a server until Stop is called or ctx ends. The directory must not exist;
// buckets and the server's own files are put into it, and left there.
func StartS3(ctx context.Context, dir string) (*S3, error) {
	s := &S3{dir: dir}
	for _, d := range []string{dir, s.Bucket(""), s.metadata("")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	s.process, err = start(ctx, filepath.Join(dir, "log"), func(ctx context.Context, port int) *exec.Cmd {
		// A directory for metadata, since not every file system has extended attributes.
		cmd := exec.CommandContext(ctx, "versitygw", "--port", fmt.Sprintf("127.0.0.1:%d", port), "--keep-alive", "--quiet",
			"posix", "--sidecar", s.metadata(""), s.Bucket(""))
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+Key, "ROOT_SECRET_KEY="+Secret)
		return cmd
	}, func(net.Conn) bool { return true })
	return s, err
}

// Bucket returns the directory that has the objects of a bucket. To make the directory is
// to make the bucket.
func (s *S3) Bucket(name string) string { return filepath.Join(s.dir, "buckets", name) }

func (s *S3) metadata(bucket string) string { return filepath.Join(s.dir, "metadata", bucket) }

// Remove removes a bucket with all that is in it, or nothing if it does not exist.
func (s *S3) Remove(bucket string) error {
	if err := os.RemoveAll(s.Bucket(bucket)); err != nil {
		return err
	}
	return os.RemoveAll(s.metadata(bucket))
}
