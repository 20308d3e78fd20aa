package fetch

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"

	"puavo-image-repository/imagerepo/internal/throttle"
)

// localFile is a file of a directory.
type localFile struct {
	ctx       context.Context
	mirror    *Mirror
	name      string
	file      *os.File
	pos, size int64
}

// openLocal opens a file of a directory.
func openLocal(ctx context.Context, m *Mirror, name string, r Request) (io.ReadCloser, error) {
	f, err := m.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait for the writer of a pipe
	if err != nil {
		return nil, err
	}
	l := &localFile{ctx: ctx, mirror: m, name: name, file: f, pos: r.Offset}
	if err := l.seek(r); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// seek goes to where reading begins, if the file is the one asked for.
func (l *localFile) seek(r Request) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return l.mirror.failed(l.name, errors.New("it is not a regular file"))
	}
	if l.size = info.Size(); r.Size > 0 && l.size != r.Size {
		return l.mirror.failed(l.name, wrongSize(l.size, r.Size))
	}
	_, err = l.file.Seek(r.Offset, io.SeekStart)
	return err
}

func (l *localFile) Close() error { return l.file.Close() }

func (l *localFile) Read(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.file.Read(p[:min(len(p), throttle.Burst)])
	l.pos += int64(n)
	if wait := l.mirror.take(l.ctx, n); wait != nil {
		return n, wait
	}
	switch {
	case err == io.EOF && l.pos != l.size:
		err = l.mirror.failed(l.name, ErrChanged) // it became shorter, or longer
	case err != nil && err != io.EOF:
		err = l.mirror.failed(l.name, err)
	}
	return n, err
}
