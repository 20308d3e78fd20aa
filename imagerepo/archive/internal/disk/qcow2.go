package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"puavo-image-repository/imagerepo/archive/internal/extents"
	"puavo-image-repository/imagerepo/archive/internal/nbd"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta/untrusted"

	"golang.org/x/sys/unix"
)

// qcow2Magic is what a qcow2 file begins with.
const qcow2Magic = "QFI\xfb"

// Where the header of a qcow2 file has what it rests on, from QEMU's docs/interop/qcow2.txt.
// Numbers are big-endian.
const (
	qcow2Version     = 4  // 4 bytes
	qcow2Backing     = 8  // 8 bytes: where its name is, 0 for none
	qcow2BackingSize = 16 // 4 bytes
	qcow2Crypt       = 32 // 4 bytes
	qcow2Features    = 72 // 8 bytes, from version 3 on
	qcow2Header      = 80
	externalData     = 1 << 2 // of the features
	maxBacking       = 1023
)

// errEncrypted is the error for an encrypted file.
var errEncrypted = fmt.Errorf("%w: it is encrypted; give an NBD export", ErrRefused)

// errOutside returns the error for a file that rests on another.
func errOutside(other string) error {
	return fmt.Errorf("%w: it rests on another file, %s, which it could choose freely; make it whole by qemu-img convert, or give an NBD export", ErrRefused, other)
}

// checkHeader returns an error for a qcow2 file that rests on another, or is encrypted.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	header := make([]byte, qcow2Header)
	if _, err := f.ReadAt(header, 0); err != nil && err != io.EOF {
		return err
	}
	at, size := binary.BigEndian.Uint64(header[qcow2Backing:]), binary.BigEndian.Uint32(header[qcow2BackingSize:])
	switch {
	case string(header[:len(qcow2Magic)]) != qcow2Magic:
		return fmt.Errorf("%w: it does not begin as a qcow2 file does", ErrRefused)
	case at != 0:
		name := make([]byte, min(size, maxBacking))
		n, _ := f.ReadAt(name, int64(at))
		return errOutside(untrusted.Quote(string(name[:n])))
	case binary.BigEndian.Uint32(header[qcow2Version:]) >= 3 && binary.BigEndian.Uint64(header[qcow2Features:])&externalData != 0:
		return errOutside("which has its content")
	case binary.BigEndian.Uint32(header[qcow2Crypt:]) != 0:
		return errEncrypted
	}
	return nil
}

// qcow2 serves a qcow2 file.
func (d *Disk) qcow2(ctx context.Context, s Spec, bitmap string) error {
	if info, err := os.Stat(s.Source); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is %s; give an NBD export of it", ErrRefused, atomicfile.Describe(info.Mode()))
	}
	if err := checkHeader(s.Source); err != nil {
		return err
	}
	out, err := run(ctx, maxInfo, "qemu-img", "info", "--output=json", "--force-share", node("qcow2", s.Source))
	if err != nil {
		return err
	}
	image, err := extents.ParseImage(out, "qcow2")
	switch {
	case err != nil:
		return fmt.Errorf("qemu-img: %w", err)
	case image.Outside != "":
		return errOutside(untrusted.Quote(image.Outside))
	case image.Encrypted:
		return errEncrypted
	case bitmap != "" && slices.Contains(image.Broken, bitmap):
		d.Why, bitmap = "the bitmap "+bitmap+" is not complete: the guest was not shut down properly", ""
	case bitmap != "" && !slices.Contains(image.Bitmaps, bitmap):
		d.Why, bitmap = "the disk has no bitmap "+bitmap, ""
	}
	address, err := d.server(ctx, s, bitmap)
	if err != nil {
		return err
	}
	return d.connect(ctx, address, bitmap)
}

// maxSocket bounds paths of sockets, in bytes.
const maxSocket = 100

// server starts qemu-nbd for a qcow2 file, and waits until it can be connected to.
func (d *Disk) server(ctx context.Context, s Spec, bitmap string) (a nbd.Address, err error) {
	above := os.TempDir()
	if len(above) > maxSocket/2 {
		above = "/tmp"
	}
	dir, err := os.MkdirTemp(above, "puavo-nbd-")
	if err != nil {
		return a, err
	}
	d.ends = append(d.ends, func() { removeAll(dir) })
	socket := filepath.Join(dir, "s")
	// Without --persistent it ends with its last connection, however this process ends.
	args := []string{"--read-only", "--shared=8", "--socket=" + socket}
	if bitmap != "" {
		args = append(args, "--bitmap="+bitmap)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "qemu-nbd", append(args, node("qcow2", s.Source))...)
	cmd.Env, cmd.Stderr = environment(), &bounded{w: &stderr, left: maxStderr}
	if err := cmd.Start(); err != nil {
		return a, missing("qemu-nbd", err)
	}
	var exit error
	ended := make(chan struct{})
	go func() { // it ends when the process does, which Close sees to
		exit = cmd.Wait()
		close(ended)
	}()
	d.ends = append(d.ends, func() { cmd.Process.Kill(); <-ended })
	a = nbd.Unix(socket)
	for start := time.Now(); time.Since(start) < nbd.Patience; time.Sleep(5 * time.Millisecond) {
		select {
		case <-ended:
			return a, failed("qemu-nbd", exit, stderr.String())
		default:
		}
		c, err := nbd.Dial(ctx, a) // the first connection, which the server must not lose
		if err == nil {
			d.ends = append(d.ends, func() { c.Close() })
			return a, nil
		}
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ECONNREFUSED) {
			select {
			case <-ended: // which says more
				return a, failed("qemu-nbd", exit, stderr.String())
			case <-time.After(time.Second):
				return a, err
			}
		}
	}
	return a, errors.New("qemu-nbd does not begin to serve")
}

// removeAll removes a temporary directory.
func removeAll(dir string) {
	if above, err := atomicfile.Open(filepath.Dir(dir)); err == nil {
		above.RemoveAll(filepath.Base(dir))
		above.Close()
	}
}
