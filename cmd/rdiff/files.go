package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"puavo-image-repository/delta/mapfile"
)

// job is one run of an action: its options and streams, and what to close in the
// end.
type job struct {
	options
	stdin          *os.File
	stdout, stderr io.Writer
	closers        []func()
}

func (j *job) close() {
	for _, c := range j.closers {
		c()
	}
}

// open opens an input. It also returns the size, -1 if that is not known.
func (j *job) open(name string) (f *os.File, size int64, err error) {
	f = j.stdin
	if name != "" && name != "-" {
		if f, err = os.Open(name); err != nil {
			return nil, 0, err
		}
		j.closers = append(j.closers, func() { f.Close() })
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case info.IsDir():
		return nil, 0, fmt.Errorf("reading %s: it is a directory", f.Name())
	case !info.Mode().IsRegular():
		return f, -1, nil
	}
	return f, info.Size(), nil
}

// whole opens an input that is to be read at any place. What is no regular file,
// or is not at its start, is copied to a temporary one.
func (j *job) whole(name string) (f *os.File, size int64, err error) {
	if f, size, err = j.open(name); err != nil {
		return nil, 0, err
	}
	if at, err := f.Seek(0, io.SeekCurrent); size >= 0 && err == nil && at == 0 {
		return f, size, nil
	}
	spool, err := os.CreateTemp("", "rdiff-")
	if err != nil {
		return nil, 0, err
	}
	j.closers = append(j.closers, func() { spool.Close() })
	if err := os.Remove(spool.Name()); err != nil {
		return nil, 0, err
	}
	if size, err = io.Copy(spool, f); err != nil {
		return nil, 0, err
	}
	_, err = spool.Seek(0, io.SeekStart)
	return spool, size, err
}

// mapped opens an input and returns its bytes.
func (j *job) mapped(name string) ([]byte, error) {
	f, _, err := j.whole(name)
	if err != nil {
		return nil, err
	}
	data, unmap, err := mapfile.Map(f)
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

// create begins to write an output. A regular file appears, or replaces what was
// there, on commit, and keeps the mode of what was there.
func (j *job) create(name string) (*output, error) {
	none := func() error { return nil }
	if name == "" || name == "-" {
		return &output{Writer: j.stdout, commit: none}, nil
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && !j.force:
		return nil, fmt.Errorf("file exists: %s; give --force to replace it", name)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		j.closers = append(j.closers, func() { f.Close() })
		return &output{Writer: f, commit: f.Close}, nil
	}
	if info != nil {
		// What a symbolic link leads to is replaced, not the link.
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return nil, err
		}
	}
	return j.createFile(name, info)
}

// createFile begins to write a regular file, beside it; old is the file that is
// there, or nil.
func (j *job) createFile(name string, old os.FileInfo) (*output, error) {
	tmp := filepath.Join(filepath.Dir(name), fmt.Sprintf(".%s.%d.tmp", filepath.Base(name), os.Getpid()))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	done := false
	j.closers = append(j.closers, func() {
		if !done {
			f.Close()
			os.Remove(tmp)
		}
	})
	if old != nil {
		if err := f.Chmod(old.Mode().Perm()); err != nil {
			return nil, err
		}
	}
	return &output{Writer: f, commit: func() error {
		if err := f.Close(); err != nil {
			return err
		}
		err := os.Rename(tmp, name)
		done = err == nil
		return err
	}}, nil
}
