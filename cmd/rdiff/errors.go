package main

import (
	"errors"
	"fmt"
	"io"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
)

// The exit codes, librsync's rs_result.
const (
	ioError     = 100
	syntaxError = 101
	inputEnded  = 103
	badMagic    = 104
	corrupt     = 106
	paramError  = 108
	interrupted = 130 // not librsync's
)

// errParam is wrapped by the error for wrong sizes of blocks or sums.
var errParam = errors.New("no such signature")

// existsError is the error for an output that exists. Its first line is librsync's.
type existsError string

func (e existsError) Error() string {
	return fmt.Sprintf("File exists %q, aborting!\nGive --force to replace it, or name another output.", string(e))
}

func exitCode(err error) int {
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case is(errUsage):
		return syntaxError
	case is(errParam):
		return paramError
	case is(io.ErrUnexpectedEOF):
		return inputEnded
	case is(delta.ErrMagic), is(compact.ErrMagic):
		return badMagic
	case is(delta.ErrFormat), is(compact.ErrFormat), is(compact.ErrBase):
		return corrupt
	default:
		return ioError
	}
}
