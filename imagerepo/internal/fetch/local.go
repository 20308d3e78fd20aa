package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// localFile is a file of a directory.
type localFile struct {
	ctx       context.Context
	mirror    *Mirror
	name      string
	file      *os.File
	pos, size int64
	validator string
}

// openLocal opens a file of a directory.
func openLocal(ctx context.Context, m *Mirror, name string, from Position) (File, error) {
	f, err := m.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait for the writer of a pipe
	if err != nil {
		return nil, err
	}
	l := &localFile{ctx: ctx, mirror: m, name: name, file: f, pos: from.Offset}
	if err := l.seek(from); err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// seek goes to the position, if the file is still the one that it is in.
func (l *localFile) seek(from Position) error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return l.mirror.failed(l.name, errors.New("it is no regular file"))
	}
	l.size = info.Size()
	l.validator = fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano())
	if from.Offset > 0 && from.Validator != "" && from.Validator != l.validator {
		return l.mirror.failed(l.name, ErrChanged)
	}
	_, err = l.file.Seek(from.Offset, io.SeekStart)
	return err
}

func (l *localFile) Size() int64       { return l.size }
func (l *localFile) Validator() string { return l.validator }
func (l *localFile) Close() error      { return l.file.Close() }

func (l *localFile) Read(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.file.Read(p[:min(len(p), burst)])
	l.pos += int64(n)
	if wait := l.mirror.throttle(l.ctx, n); wait != nil {
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
