package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ErrNoTerminal is the error for a question without a terminal to ask it on.
var ErrNoTerminal = errors.New("no terminal")

// Passphrase asks for a passphrase on the terminal of the process, whatever its
// standard streams are, and does not show it. With again it asks twice and wants the
// same. The prompt is without a colon.
func Passphrase(ctx context.Context, prompt string, again bool) ([]byte, error) {
	tty, err := openTTY()
	if err != nil {
		return nil, err
	}
	defer closeTTY(ctx, tty)
	first, err := readHidden(ctx, tty, prompt)
	if err != nil || !again {
		return first, err
	}
	second, err := readHidden(ctx, tty, prompt+" again")
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if string(first) != string(second) {
		clear(first)
		return nil, errors.New("the two passphrases differ; try again")
	}
	return first, nil
}

// Line asks for a line on the terminal of the process, whatever its standard streams are,
// and returns it without its end. The prompt is without a colon. The end of the input,
// Ctrl-D, is io.EOF.
func Line(ctx context.Context, prompt string) (string, error) {
	tty, err := openTTY()
	if err != nil {
		return "", err
	}
	defer closeTTY(ctx, tty)
	line, err := readFrom(ctx, tty, prompt, readLine)
	return string(line), err
}

// HasTerminal reports whether the process has a terminal to ask on.
func HasTerminal() bool {
	tty, err := openTTY()
	if err == nil {
		tty.Close()
	}
	return err == nil
}

func openTTY() (*os.File, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, ErrNoTerminal
	}
	return tty, nil
}

// closeTTY closes the terminal unless something still reads from it.
func closeTTY(ctx context.Context, tty *os.File) {
	if ctx.Err() == nil {
		tty.Close()
	}
}

// readHidden asks for a line and does not show it.
func readHidden(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	line, err := readFrom(ctx, tty, prompt, term.ReadPassword)
	if !errors.Is(err, ErrNoTerminal) {
		fmt.Fprintln(tty) // as the line's own end is not shown
	}
	return line, err
}

// readLine reads a line from a terminal, byte by byte: what follows is the next reader's.
func readLine(fd int) (line []byte, err error) {
	for b := make([]byte, 1); ; {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.EOF
		case b[0] == '\n':
			return line, nil
		}
		if line = append(line, b[0]); len(line) > maxLine {
			return nil, errors.New("the line is too long")
		}
	}
}

// maxLine is the longest line that is read, in bytes.
const maxLine = 4096

// readFrom asks for a line, which read reads. When ctx ends, it restores the terminal. The
// goroutine that reads ends with the process: nothing else ends a read of a terminal.
func readFrom(ctx context.Context, tty *os.File, prompt string, read func(fd int) ([]byte, error)) ([]byte, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, ErrNoTerminal
	}
	if _, err := fmt.Fprint(tty, prompt+": "); err != nil {
		return nil, err
	}
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		line, err := read(fd)
		answered <- answer{line, err}
		runtime.KeepAlive(tty) // whose finalizer would close it
	}()
	select {
	case a := <-answered:
		return a.line, a.err
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		return nil, ctx.Err()
	}
}
