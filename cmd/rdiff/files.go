package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"puavo-image-repository/cmd/internal/outfile"
	"puavo-image-repository/delta/mmap"
)

// job is one run of an action: its options, its streams, and what to close at the
// end.
type job struct {
	options
	stdin          *os.File
	stdout, stderr io.Writer
	inputs         []fs.FileInfo
	closers        []func()
}

func (j *job) close() {
	for _, c := range j.closers {
		c()
	}
}

// open opens an input, of which reading ends when ctx does. It also returns the size, -1
// if that is not known.
func (j *job) open(ctx context.Context, name string) (f *os.File, size int64, err error) {
	f = j.stdin
	if name != "-" {
		if f, err = await(ctx, name, func() (*os.File, error) { return os.Open(name) }); err != nil {
			return nil, 0, err
		}
		j.closers = append(j.closers, func() { f.Close() })
	}
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	j.closers = append(j.closers, func() { stop() })
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case info.IsDir():
		return nil, 0, fmt.Errorf("reading %s: it is a directory", f.Name())
	case !info.Mode().IsRegular():
		return f, -1, nil
	}
	j.inputs = append(j.inputs, info)
	return f, info.Size(), nil
}

// await opens a file. For the other end of a pipe it waits as long as ctx does.
func await[File any](ctx context.Context, name string, open func() (File, error)) (File, error) {
	if info, err := os.Stat(name); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return open()
	}
	type result struct {
		file File
		err  error
	}
	opened := make(chan result, 1)
	go func() { // which ends with the process, if the other end does not come
		file, err := open()
		opened <- result{file, err}
	}()
	select {
	case r := <-opened:
		return r.file, r.err
	case <-ctx.Done():
		return *new(File), ctx.Err()
	}
}

// atStart reports whether an input is a regular file, as its size says, and at its start.
func atStart(f *os.File, size int64) bool {
	at, err := f.Seek(0, io.SeekCurrent)
	return size >= 0 && err == nil && at == 0
}

// whole opens an input to read at any offset.
func (j *job) whole(ctx context.Context, name string) (f *os.File, size int64, err error) {
	if f, size, err = j.open(ctx, name); err != nil {
		return nil, 0, err
	}
	return j.seekable(f, size)
}

// seekable returns an input that can be read at any offset: one that is no regular file,
// or not at its start, is copied to a temporary file.
func (j *job) seekable(f *os.File, size int64) (*os.File, int64, error) {
	if atStart(f, size) {
		return f, size, nil
	}
	spool, err := temporary()
	if err != nil {
		return nil, 0, err
	}
	j.closers = append(j.closers, func() { spool.Close() })
	if size, err = io.Copy(spool, f); err != nil {
		return nil, 0, err
	}
	_, err = spool.Seek(0, io.SeekStart)
	return spool, size, err
}

// temporary returns an empty file that has no name.
func temporary() (*os.File, error) {
	f, err := os.CreateTemp("", "rdiff-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// mapped opens an input and returns its bytes.
func (j *job) mapped(ctx context.Context, name string) ([]byte, error) {
	f, size, err := j.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return j.bytes(f, size)
}

// bytes returns the bytes of an input.
func (j *job) bytes(f *os.File, size int64) ([]byte, error) {
	f, _, err := j.seekable(f, size)
	if err != nil {
		return nil, err
	}
	data, unmap, err := mmap.Map(f)
	if err != nil {
		return nil, err
	}
	j.closers = append(j.closers, func() { unmap() })
	return data, nil
}

// output is an output that is being written.
type output struct {
	io.Writer
	n      int64 // bytes written
	commit func() error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	o.n += int64(n)
	return n, err
}

// create begins to write an output, standard output if its name is -. The inputs must
// be open: an output that is one of them is not written in place.
func (j *job) create(ctx context.Context, name string) (*output, error) {
	if name == "-" {
		return &output{Writer: j.stdout, commit: func() error { return nil }}, nil
	}
	old, err := os.Stat(name)
	if err == nil && !j.force {
		return nil, existsError(name)
	}
	begin := outfile.Create
	if err == nil && slices.ContainsFunc(j.inputs, func(in fs.FileInfo) bool { return os.SameFile(in, old) }) {
		begin = outfile.Replace
	}
	f, err := await(ctx, name, func() (*outfile.File, error) { return begin(name, 0) })
	if err != nil {
		return nil, err
	}
	j.closers = append(j.closers, f.Discard)
	return &output{Writer: f, commit: f.Commit}, nil
}
