package untrusted

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"puavo-image-repository/testdata"
)

func TestReadAll(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		r    io.Reader
		most int64
		want string
		err  error
	}{
		{"nothing", strings.NewReader(""), 0, "", nil},
		{"less", strings.NewReader("abc"), 4, "abc", nil},
		{"as much", strings.NewReader("abc"), 3, "abc", nil},
		{"byte by byte", iotest.OneByteReader(strings.NewReader("abc")), 3, "abc", nil},
		{"more", strings.NewReader("abcd"), 3, "", ErrTooLarge},
		{"anything where nothing may be", strings.NewReader("a"), 0, "", ErrTooLarge},
		{"without end", endless{}, 1 << 10, "", ErrTooLarge},
		{"an error", io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(broken)), 3, "ab", broken},
		{"an error where it ends", io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)), 3, "abc", broken},
	} {
		got, err := ReadAll(c.r, c.most)
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
		}
		if c.err == ErrTooLarge && err.Error() != fmt.Sprintf("it has more than %d bytes", c.most) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	file, sparse := filepath.Join(dir, "f"), filepath.Join(dir, "sparse")
	if err := errors.Join(os.WriteFile(file, []byte("abc"), 0o666), testdata.Sparse(sparse)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file string
		most       int64
		want, says string
	}{
		{"a file", file, 3, "abc", ""},
		{"a device", "/dev/null", 3, "", ""},
		{"too large", file, 2, "", "read " + file + ": it has more than 2 bytes"},
		{"far too large", sparse, 64 << 20, "", "read " + sparse + ": it has more than 67108864 bytes"},
		{"unending", "/dev/zero", 2, "", "read /dev/zero: it has more than 2 bytes"},
		{"missing", file + "x", 2, "", "open " + file + "x: no such file or directory"},
		{"a directory", dir, 2, "", "read " + dir + ": is a directory"},
	} {
		var got []byte
		var err error
		if used := testdata.Allocated(func() { got, err = ReadFile(t.Context(), c.file, c.most) }); used > 1<<20 {
			t.Errorf("%s: it takes %d bytes of memory", c.name, used)
		}
		if string(got) != c.want || !isPathError(err, c.says) {
			t.Errorf("%s: %q, %v, want %q, %s", c.name, got, err, c.want, c.says)
		}
	}
}

// isPathError reports whether an error says this, nil for nothing.
func isPathError(err error, says string) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return says == "" && err == nil || ok && err.Error() == says
}

// A file in which reading began is as large as what is left of it.
func TestReadAllOfTheRest(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.WriteString("abcdef")
	_, seekErr := f.Seek(4, io.SeekStart)
	if err := errors.Join(err, seekErr); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadAll(f, 2); string(got) != "ef" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// peer is who has the other end of a pipe.
type peer struct {
	path   string
	cancel func()          // of the reader
	read   <-chan struct{} // is closed when the reader has ended
}

// open opens the pipe, which waits for the reader.
func (p peer) open() *os.File {
	w, err := os.OpenFile(p.path, os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	return w
}

func (p peer) write(parts ...string) {
	w := p.open()
	defer w.Close()
	for i, part := range parts {
		if i > 0 {
			time.Sleep(20 * time.Millisecond)
		}
		w.WriteString(part)
	}
}

// A pipe is read to its end, bounded. It may have no writer for some time. One without
// any is an error; reading one whose writer writes nothing ends with the context.
func TestReadPipe(t *testing.T) {
	short := 50 * time.Millisecond
	for _, c := range []struct {
		name       string
		patience   time.Duration
		peer       func(p peer)
		want, says string
	}{
		{"a writer", patience, func(p peer) { p.write("abc") }, "abc", ""},
		{"nothing is written", patience, func(p peer) { p.write() }, "", ""},
		{"as it comes", patience, func(p peer) { p.write("a", "b", "c") }, "abc", ""},
		{"as it comes, for longer than a writer may take to come", short, func(p peer) { p.write("a", "", "", "", "", "bc") }, "abc", ""},
		{"a late writer", time.Minute, func(p peer) {
			time.Sleep(100 * time.Millisecond)
			p.write("abc")
		}, "abc", ""},
		{"too much", patience, func(p peer) { p.write("abcd") }, "", "it has more than 3 bytes"},
		{"no writer", short, func(peer) {}, "", "no process writes to this pipe; start the one that does first"},
		{"no writer, and cancelled", time.Minute, func(p peer) { p.cancel() }, "", "context canceled"},
		{"cancelled", short, func(p peer) {
			defer p.open().Close()
			time.Sleep(3 * short) // it waits for more than a writer
			p.cancel()
			<-p.read
		}, "", "context canceled"},
		{"cancelled in the middle", patience, func(p peer) {
			w := p.open()
			defer w.Close()
			w.WriteString("ab")
			p.cancel()
			<-p.read
		}, "", "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func(before time.Duration) { patience = before }(patience)
			patience = c.patience
			path := filepath.Join(t.TempDir(), "pipe")
			if err := syscall.Mkfifo(path, 0o666); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			read := make(chan struct{})
			go c.peer(peer{path, cancel, read})
			testdata.Promptly(t, c.name, func() {
				got, err := ReadFile(ctx, path, 3)
				close(read)
				says := ""
				if c.says != "" {
					says = "read " + path + ": " + c.says
				}
				if string(got) != c.want || !isPathError(err, says) {
					t.Errorf("%q, %v, want %q, %s", got, err, c.want, says)
				}
				if strings.Contains(c.says, "canceled") && !errors.Is(err, context.Canceled) {
					t.Errorf("%v is no context.Canceled", err)
				}
			})
		})
	}
}

// A descriptor that the process inherited, such as that of a shell's <(command), is read
// under /dev/fd, and stays as it is for others who have it.
func TestReadInherited(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ends[0])
	_, err := unix.Write(ends[1], []byte("abc"))
	name := fmt.Sprintf("/dev/fd/%d", ends[0])
	if err := errors.Join(err, unix.Close(ends[1])); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"abc", ""} { // its writer is gone
		if got, err := ReadFile(t.Context(), name, 3); string(got) != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	if flags, err := unix.FcntlInt(uintptr(ends[0]), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("it has the flags %#x, %v", flags, err)
	}
}

// Nothing is read for a context that has ended.
func TestReadFileCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := ReadFile(ctx, "/dev/null", 3); got != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%q, %v", got, err)
	}
}
