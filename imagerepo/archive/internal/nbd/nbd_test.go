package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ uri, network, host, export string }{
		{"nbd://h/", "tcp", "h:10809", ""},
		{"nbd://h:1/a/b%20c", "tcp", "h:1", "a/b c"},
		{"nbd://[::1]/x", "tcp", "[::1]:10809", "x"},
		{"nbd+unix:///x?socket=/run/a%20b", "unix", "/run/a b", "x"},
		{"nbd+unix:///?socket=s", "unix", "s", ""},
	} {
		a, err := ParseURI(c.uri)
		if err != nil || a != (Address{c.network, c.host, c.export}) {
			t.Errorf("%s: %+v, %v", c.uri, a, err)
		}
		if again, err := ParseURI(a.URI()); err != nil || again != a {
			t.Errorf("%s is written %s", c.uri, a.URI())
		}
	}
	for _, uri := range []string{"", "nbd:", "nbd://", "nbd:///x", "nbd+unix:///x", "nbd+unix://h/x?socket=s", "nbd://h/x?socket=s", "nbds://h/x",
		"http://h/x", "nbd://u:p@h/x", "nbd://h/%zz", "nbd://h/" + strings.Repeat("x", maxName+1)} {
		if a, err := ParseURI(uri); err == nil {
			t.Errorf("%s: %+v", uri, a)
		}
	}
}

// serve starts qemu-nbd for a file, and returns where.
func serve(t *testing.T, file string, args ...string) Address {
	t.Helper()
	testdata.Tool(t, "qemu-nbd")
	dir, err := shortDir() // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("qemu-nbd", append([]string{"--read-only", "--persistent", "--shared=4", "--socket=" + socket, "--format=raw", file}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 1000 {
		if _, err := os.Stat(socket); err == nil {
			return Unix(socket)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("qemu-nbd does not come up")
	return Address{}
}

// A real server's bytes are read, wherever they are.
func TestRead(t *testing.T) {
	t.Parallel()
	want := make([]byte, 5<<20+512)
	rand.NewChaCha8([32]byte{1}).Read(want)
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, want, 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), serve(t, file))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Size() != int64(len(want)) {
		t.Fatalf("%d bytes", c.Size())
	}
	got := make([]byte, len(want)+1)
	if n, err := c.ReadAt(got, 0); n != len(want) || err != io.EOF || !bytes.Equal(got[:n], want) {
		t.Errorf("all: %d bytes, %v", n, err)
	}
	for range 100 {
		off := rand.IntN(len(want))
		part := make([]byte, 1+rand.IntN(min(len(want)-off, 3<<20)))
		if n, err := c.ReadAt(part, int64(off)); n != len(part) || err != nil || !bytes.Equal(part, want[off:off+n]) {
			t.Errorf("%d bytes at %d: %d, %v", len(part), off, n, err)
		}
	}
	for _, off := range []int64{-1, c.Size(), c.Size() + 1} {
		if n, err := c.ReadAt(got[:1], off); n != 0 || err != io.EOF {
			t.Errorf("at %d: %d, %v", off, n, err)
		}
	}
}

// An export that is not there, and a server that is not there.
func TestDialErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 512), 0o666); err != nil {
		t.Fatal(err)
	}
	a := serve(t, file)
	a.Export = "other"
	if _, err := Dial(t.Context(), a); err == nil || !strings.Contains(err.Error(), "refuses") {
		t.Errorf("another export: %v", err)
	}
	if _, err := Dial(t.Context(), Unix(file+"none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// script serves one connection by fixed bytes.
func script(t testing.TB, out []byte) (Address, func()) {
	t.Helper()
	dir, err := shortDir()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // it ends with the connection
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn.Write(out)
		conn.(*net.UnixConn).CloseWrite()
		io.Copy(io.Discard, conn)
		conn.Close()
	}()
	return Unix(socket), func() { l.Close(); os.RemoveAll(dir) }
}

func numbers(all ...any) (b []byte) {
	for _, n := range all {
		b, _ = binary.Append(b, binary.BigEndian, n)
	}
	return b
}

var (
	hello  = numbers(uint64(magicServer), uint64(magicOption), uint16(fixedNewstyle|noZeroes))
	export = numbers(uint64(magicAnswer), uint32(optGo), uint32(repInfo), uint32(12), uint16(infoExport), uint64(4), uint16(1))
	ack    = numbers(uint64(magicAnswer), uint32(optGo), uint32(repAck), uint32(0))
)

func join(all ...[]byte) []byte { return bytes.Join(all, nil) }

// A server that lies or breaks off gives an error.
func TestHostile(t *testing.T) {
	t.Parallel()
	reply := numbers(uint32(magicReply), uint32(0), uint64(1))
	for _, c := range []struct {
		name string
		out  []byte
		err  error // nil where the text is enough
	}{
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"text", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), ErrProtocol},
		{"oldstyle", numbers(uint64(magicServer), uint64(0x420281861253), uint16(1)), ErrProtocol},
		{"not fixed", numbers(uint64(magicServer), uint64(magicOption), uint16(0)), ErrProtocol},
		{"no answer", hello, io.ErrUnexpectedEOF},
		{"no size", join(hello, ack), ErrProtocol},
		{"size 0", join(hello, numbers(uint64(magicAnswer), uint32(optGo), uint32(repInfo), uint32(12), uint16(0), uint64(0), uint16(1)), ack), ErrProtocol},
		{"a huge size", join(hello, numbers(uint64(magicAnswer), uint32(optGo), uint32(repInfo), uint32(12), uint16(0), uint64(1<<63), uint16(1)), ack), ErrProtocol},
		{"odd blocks", join(hello, export, numbers(uint64(magicAnswer), uint32(optGo), uint32(repInfo), uint32(14), uint16(3), uint32(3), uint32(4), uint32(5)), ack), ErrProtocol},
		{"a short information", join(hello, numbers(uint64(magicAnswer), uint32(optGo), uint32(repInfo), uint32(1), uint8(0))), ErrProtocol},
		{"a long answer", join(hello, numbers(uint64(magicAnswer), uint32(optGo), uint32(repInfo), uint32(maxAnswer+1))), ErrProtocol},
		{"another option", join(hello, numbers(uint64(magicAnswer), uint32(1), uint32(repAck), uint32(0))), ErrProtocol},
		{"endless", join(hello, bytes.Repeat(export, maxAnswers)), ErrProtocol},
		{"no data", join(hello, export, ack, reply), io.ErrUnexpectedEOF},
		{"another handle", join(hello, export, ack, numbers(uint32(magicReply), uint32(0), uint64(9)), []byte("abcd")), ErrProtocol},
		{"an error", join(hello, export, ack, numbers(uint32(magicReply), uint32(5), uint64(1)), []byte("abcd")), nil},
		{"right", join(hello, export, ack, reply, []byte("abcd")), io.EOF},
	} {
		a, stop := script(t, c.out)
		got := make([]byte, 5)
		n, err := tryRead(t.Context(), a, got)
		stop()
		if err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v, want %v", c.name, got[:n], err, c.err)
		}
		if (c.name == "right") != (string(got[:n]) == "abcd") {
			t.Errorf("%s: %q", c.name, got[:n])
		}
	}
}

func tryRead(ctx context.Context, a Address, p []byte) (int, error) {
	c, err := Dial(ctx, a)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.ReadAt(p, 0)
}

func FuzzServer(f *testing.F) {
	f.Add(join(hello, export, ack, numbers(uint32(magicReply), uint32(0), uint64(1)), []byte("abcd")))
	f.Fuzz(func(t *testing.T, out []byte) {
		a, stop := script(t, out)
		defer stop()
		got := make([]byte, 100)
		if _, err := tryRead(t.Context(), a, got); err == nil && len(out) < 100 {
			t.Error("more bytes than the server has sent")
		}
	})
}

// shortDir makes a directory whose path is short, as that of a socket must be.
func shortDir() (string, error) { return os.MkdirTemp("", "nbd") }
