package ui

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echoes reports whether the terminal shows what is typed.
func (tty *terminal) echoes() bool {
	tty.t.Helper()
	state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		tty.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// A line is read and not shown, and the terminal is afterwards as it was.
func TestReadHidden(t *testing.T) {
	for _, c := range []struct {
		name, typed string
		cancel      bool
		want        string
		err         error
	}{
		{"a line", "open sesame\n", false, "open sesame", nil},
		{"bytes that are no letters", "\xff\u00e4 \n", false, "\xff\u00e4 ", nil},
		{"nothing", "\n", false, "", nil},
		{"cancelled", "", true, "", context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			tty := openTerminal(t, 80)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { // types when nothing is shown any more
				for tty.echoes() {
					time.Sleep(time.Millisecond)
				}
				if c.cancel {
					cancel()
				}
				tty.other.WriteString(c.typed)
			}()
			got, err := readHidden(ctx, tty.File, "passphrase")
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, %v, want %q, %v", got, err, c.want, c.err)
			}
			if !tty.echoes() {
				t.Error("the terminal shows nothing any more")
			}
			if shown := strings.ReplaceAll(tty.written(), "\r", ""); shown != "passphrase: \n" {
				t.Errorf("shown is %q", shown)
			}
			if c.cancel {
				tty.other.WriteString("\n") // ends the read that was left
			}
		})
	}
}

// A line is read and shown, up to its end and no further.
func TestReadLine(t *testing.T) {
	for _, c := range []struct {
		name, typed string
		cancel      bool
		want        string
		err         error
		left        string
	}{
		{"a line", "/srv/images\n", false, "/srv/images", nil, ""},
		{"two lines", "a\nb\n", false, "a", nil, "b"},
		{"nothing", "\n", false, "", nil, ""},
		{"the end", "\x04", false, "", io.EOF, ""},
		{"cancelled", "", true, "", context.Canceled, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tty := openTerminal(t, 80)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.cancel {
				time.AfterFunc(20*time.Millisecond, cancel)
			}
			tty.other.WriteString(c.typed)
			got, err := readFrom(ctx, tty.File, "images", readLine)
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Errorf("%q, %v, want %q, %v", got, err, c.want, c.err)
			}
			if !strings.Contains(tty.written(), "images: ") {
				t.Errorf("shown is %q", tty.written())
			}
			if c.left != "" {
				if next, err := readFrom(ctx, tty.File, "next", readLine); string(next) != c.left || err != nil {
					t.Errorf("then %q, %v, want %q", next, err, c.left)
				}
			}
			if c.cancel {
				tty.other.WriteString("\n") // ends the read that was left
			}
		})
	}
}

func TestReadHiddenNoTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := readHidden(t.Context(), f, "passphrase"); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("%v", err)
	}
}
