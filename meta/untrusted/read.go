package untrusted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrTooLarge is wrapped by the error for more bytes than allowed.
var ErrTooLarge = errors.New("too large")

// tooLarge is the error for more bytes than this number.
type tooLarge int64

func (e tooLarge) Error() string { return fmt.Sprintf("it has more than %d bytes", int64(e)) }

func (tooLarge) Unwrap() error { return ErrTooLarge }

// ReadAll reads r to its end. It reads at most most+1 bytes; if it gets more than
// most, it returns no data and an error that wraps ErrTooLarge. It does not begin to
// read a regular file that is too large. With any other error it returns what it read
// until then.
func ReadAll(r io.Reader, most int64) ([]byte, error) {
	if f, ok := r.(*os.File); ok && left(f) > most {
		return nil, tooLarge(most)
	}
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	if int64(len(data)) > most {
		return nil, tooLarge(most)
	}
	return data, err
}

// left returns how many bytes of a regular file are left to read, 0 if that is not known.
func left(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0
	}
	return info.Size() - at
}

// ReadFile reads a whole file that a user named, by ReadAll. The file may be a pipe or a
// device: opening it does not wait, and reading ends when ctx does. A pipe into which
// nobody writes is an error after some seconds. An error is a *fs.PathError.
func ReadFile(ctx context.Context, name string, most int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := readOpen(ctx, f, most)
	if ctx.Err() != nil {
		data, err = nil, ctx.Err()
	}
	if err == nil {
		return data, nil
	}
	if _, ok := errors.AsType[*fs.PathError](err); !ok {
		err = &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, err
}

// readOpen reads an open file by ReadAll.
func readOpen(ctx context.Context, f *os.File, most int64) ([]byte, error) {
	if info, err := f.Stat(); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return ReadAll(f, most)
	}
	return ReadAll(&pipe{ctx: ctx, f: f, end: time.Now().Add(patience)}, most)
}

// patience is how long a pipe may have no writer.
var patience = 2 * time.Second

var errNoWriter = errors.New("no process writes to this pipe; start the one that does first")

// pipe reads a pipe that may have no writer yet. Until it has one, reading returns the
// end.
type pipe struct {
	ctx context.Context
	f   *os.File
	end time.Time // of the patience
}

func (p *pipe) Read(b []byte) (int, error) {
	for {
		n, err := p.f.Read(b)
		if n > 0 || err != io.EOF {
			return n, err
		}
		switch state := p.poll(); {
		case state&unix.POLLIN != 0: // it came just now
			continue
		case state&unix.POLLHUP != 0: // there was a writer
			return 0, io.EOF
		case time.Now().After(p.end):
			return 0, errNoWriter
		}
		select {
		case <-p.ctx.Done():
			return 0, p.ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// poll returns what poll(2) says of the pipe. Of one that had no writer yet it says
// nothing.
func (p *pipe) poll() (state int16) {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return unix.POLLHUP
	}
	_ = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 0); err == nil {
			state = fds[0].Revents
		}
	})
	return state
}
