package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"puavo-image-repository/imagerepo/archive/internal/extents"
	"puavo-image-repository/meta/untrusted"
)

// packages are the packages of Debian that have the tools.
var packages = map[string]string{"nbdinfo": "libnbd-bin", "qemu-img": "qemu-utils", "qemu-nbd": "qemu-utils"}

// maxStderr bounds the messages of a tool that are kept, in bytes.
const maxStderr = 4 << 10

// environment is that of a tool: its messages are English.
func environment() []string { return append(os.Environ(), "LC_ALL=C") }

// maxInfo bounds what a tool prints about a disk, in bytes; its maps are larger.
const maxInfo = 16 << 20

// run runs a tool and returns what it prints, at most most bytes. One that prints more is ended.
func run(ctx context.Context, most int, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	out := &bounded{w: &stdout, left: most, ends: true}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(), out, &bounded{w: &stderr, left: maxStderr}
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return nil, missing(name, err)
	case out.cut:
		return nil, fmt.Errorf("%s: %w: it prints more than %d MiB", name, extents.ErrFormat, most>>20)
	case err != nil:
		return nil, failed(name, err, stderr.String())
	}
	return stdout.Bytes(), nil
}

func missing(name string, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w; install it: in Debian the package %s has it", err, packages[name])
	}
	return err
}

func failed(name string, err error, stderr string) error {
	return fmt.Errorf("%s: %w: %s", name, err, untrusted.ShowLines(strings.TrimSpace(stderr)))
}

// bounded passes on at most left bytes, and drops what follows, or fails there if it ends.
type bounded struct {
	w    io.Writer
	left int
	ends bool
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.cut = b.cut || n < len(p)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	if b.cut && b.ends {
		return n, io.ErrShortWrite
	}
	return len(p), nil
}
