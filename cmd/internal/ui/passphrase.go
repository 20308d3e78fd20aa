package ui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/term"
)

// ErrNoTerminal is the error for a question without a terminal to ask it on.
var ErrNoTerminal = errors.New("there is no terminal to ask on")

// Passphrase asks for a passphrase on the terminal of the process, whatever its
// standard streams are, and does not show it. With again it asks twice and wants the
// same. The prompt is without a colon.
func Passphrase(ctx context.Context, prompt string, again bool) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, ErrNoTerminal
	}
	defer func() {
		if ctx.Err() == nil { // or something still reads from it
			tty.Close()
		}
	}()
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

// readHidden asks for a line. When ctx ends, readHidden restores the terminal. The
// goroutine that reads ends with the process: nothing else ends a read of a
// terminal.
func readHidden(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
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
		line, err := term.ReadPassword(fd)
		answered <- answer{line, err}
		runtime.KeepAlive(tty) // whose finalizer would close it
	}()
	select {
	case a := <-answered:
		fmt.Fprintln(tty) // as the line's own end is not shown
		return a.line, a.err
	case <-ctx.Done():
		_ = term.Restore(fd, before)
		fmt.Fprintln(tty)
		return nil, ctx.Err()
	}
}
