package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cmd/internal/scripttest"
	"puavo-image-repository/testdata"
)

func TestMain(m *testing.M) { scripttest.Main(m, "our-rdiff", main) }

func TestScripts(t *testing.T) { scripttest.Run(t) }

// ours runs this command in the current directory.
func ours(t *testing.T, ctx context.Context, args []string, stdin *os.File) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(ctx, args, stdin, &out, &errs)
	return code, out.String(), errs.String()
}

// stock runs the installed rdiff in the current directory.
func stock(t *testing.T, args []string, stdin *os.File) (code int, stdout string) {
	t.Helper()
	testdata.Tool(t, "rdiff")
	cmd := exec.Command("rdiff", args...)
	cmd.Stdin = stdin
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// random returns n bytes that are the same in every run.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// inputs makes the files of TestLikeStock in a new current directory.
func inputs(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	base := random(100_000)
	writeFile(t, "base", base)
	writeFile(t, "new", append(base[:50_000:50_000], append([]byte("inserted"), base[50_000:]...)...))
	writeFile(t, "empty", nil)
	stock(t, []string{"-b", "128", "signature", "base", "sig"}, nil)
	stock(t, []string{"delta", "sig", "new", "delta"}, nil)
	sig, _ := os.ReadFile("sig")
	delta, _ := os.ReadFile("delta")
	writeFile(t, "sig-cut", sig[:len(sig)-3])
	writeFile(t, "sig-header-cut", sig[:7])
	writeFile(t, "sig-block-0", append([]byte("rs\x01\x47\x00\x00\x00\x00"), sig[8:]...))
	writeFile(t, "sig-strong-99", append([]byte("rs\x01\x47\x00\x00\x00\x80\x00\x00\x00\x63"), sig[12:]...))
	writeFile(t, "sig-other-magic", append([]byte("rs\x01\x57"), sig[4:]...))
	writeFile(t, "delta-cut", delta[:len(delta)-1])
	writeFile(t, "delta-magic-cut", delta[:3])
	writeFile(t, "delta-trailing", append(delta, delta...))
	writeFile(t, "delta-opcode", []byte("rs\x02\x36\x55\x00"))
	writeFile(t, "delta-length-0", []byte("rs\x02\x36\x41\x00\x00"))
	writeFile(t, "delta-beyond", []byte("rs\x02\x36\x47\x00\x00\x0f\x42\x40\x00"))
}

// Stock rdiff and this one end with the same exit code, and write the same
// signatures and targets, for the same arguments.
func TestLikeStock(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	for _, line := range []string{
		"", "--help", "-h", "-?", "-V", "--version", "--foo", "-x", "-b", "--hash", "--block 128 s base o", "--force=1 s base o",
		"signature base o", "s base o", "sig base o -b128", "sigs base o", "-b 0x80 s base o", "-b=128 s base o", "-fb128 s base o",
		"--block-size=128 s base o", "--block-size 128 s base o", "-b abc s base o", "-b 1k s base o", "-b 99999999999 s base o",
		"-S 17 -H md4 s base o", "-S 33 s base o", "-S -2 s base o", "-S -1 s base o", "-S 3 s base o", "-H foo s base o", "-R foo s base o",
		"-H md4 -R rollsum s base o", "-H blake2 -R rabinkarp s base o", "-R rollsum s base -", "-I 100 -O 100 s base o",
		"s base", "s base -", "s", "s - o", "s base o x", "s base sig", "-f s base sig", "s base /dev/null", "-f s base /dev/null",
		"s nofile o", "s . o", "s base nodir/o", "-- s base -", "-z s base o", "s empty o", "--stats s base o", "-s s base o",
		"delta", "delta sig new delta", "delta nofile new o", "delta sig nofile o", "delta sig new nodir/o", "delta sig new a b",
		"d empty new o", "d sig-cut new o", "d sig-header-cut new o", "d sig-block-0 new o", "d sig-strong-99 new o",
		"d sig-other-magic new o", "delta sig empty o", "-s delta sig new o",
		"patch", "patch base delta o", "patch base delta -", "patch base delta", "p base empty o", "p base delta-cut o", "p base delta-magic-cut o",
		"p base sig o", "p base delta-opcode o", "p base delta-length-0 o", "p base delta-beyond o", "p empty delta o", "p nofile delta o",
		"p base nofile o", "p base delta sig", "p base - o", "-s p base delta o", "p base delta-trailing o", "-s p base delta-trailing -",
	} {
		args := strings.Fields(line)
		wantCode, wantOut := stock(t, args, open(t, os.DevNull))
		want, _ := os.ReadFile("o")
		os.Remove("o")
		code, out, stderr := ours(t, t.Context(), args, open(t, os.DevNull))
		got, _ := os.ReadFile("o")
		os.Remove("o")
		if code != wantCode || code != 0 && !strings.HasPrefix(stderr, "rdiff: ") {
			t.Errorf("%q: exit code %d, want %d: %s", line, code, wantCode, stderr)
		}
		if isDelta(want) || isDelta([]byte(wantOut)) || slices.Contains([]string{"--help", "-h", "-?", "-V", "--version"}, line) {
			continue // deltas and texts are other ones
		}
		if wantCode == 0 && (!bytes.Equal(got, want) || out != wantOut) {
			t.Errorf("%q: another output", line)
		}
		if wantCode != 0 && got != nil {
			t.Errorf("%q: %d bytes of output are left", line, len(got))
		}
	}
	if left, _ := filepath.Glob(".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// Where we do not do as stock rdiff does.
func TestUnlikeStock(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	sig, _ := os.ReadFile("sig")
	writeFile(t, "sig-trailing", append(sig, 'x'))
	writeFile(t, "sig-md4-20", append([]byte("rs\x01\x46\x00\x00\x00\x80\x00\x00\x00\x14"), make([]byte, 24)...))
	writeFile(t, "sig-strong-0", []byte("rs\x01\x47\x00\x00\x00\x80\x00\x00\x00\x00"))
	for _, c := range []struct {
		line        string
		stock, ours int
		why         string
	}{
		{"delta sig-trailing new o", 0, inputEnded, "nor is a part of a weak sum"},
		{"delta sig-md4-20 new o", paramError, corrupt, "the file is wrong, not the arguments"},
		{"delta sig-strong-0 new o", 0, corrupt, "librsync takes its longest sums for none"},
		{"-b -1 s base o", -1, paramError, "librsync aborts"},
	} {
		args := strings.Fields(c.line)
		if code, _ := stock(t, args, nil); code != c.stock {
			t.Errorf("%q: stock rdiff ends with %d, want %d", c.line, code, c.stock)
		}
		os.Remove("o")
		if code, _, stderr := ours(t, t.Context(), args, nil); code != c.ours {
			t.Errorf("%q: exit code %d, want %d, as %s: %s", c.line, code, c.ours, c.why, stderr)
		}
	}
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// piped returns a pipe from which data is read.
func piped(t *testing.T, data []byte) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { w.Write(data); w.Close() }() // ends with the reading
	t.Cleanup(func() { r.Close() })
	return r
}

// Standard input may be a file, read from its start or not, or a pipe.
func TestStandardInput(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	base, err := os.ReadFile("base")
	if err != nil {
		t.Fatal(err)
	}
	pipe := func() *os.File { return piped(t, base) }
	later := open(t, "base")
	later.Seek(50_000, io.SeekStart)
	for name, c := range map[string]struct {
		args  string
		stdin *os.File
		want  []byte
	}{
		"file":              {"d sig - o", open(t, "base"), base},
		"file, not started": {"d sig - o", later, base[50_000:]},
		"pipe":              {"d sig - o", pipe(), base},
		"pipe to diff":      {"diff base - o", pipe(), base},
		"pipe as base":      {"diff - new o", pipe(), nil},
	} {
		code, _, stderr := ours(t, t.Context(), strings.Fields(c.args), c.stdin)
		if code != 0 {
			t.Fatalf("%s: exit code %d: %s", name, code, stderr)
		}
		want := c.want
		if want == nil {
			want, _ = os.ReadFile("new")
		}
		if _, out := stock(t, []string{"patch", "base", "o"}, nil); out != string(want) {
			t.Errorf("%s: stock rdiff makes another target", name)
		}
		if code, out, _ := ours(t, t.Context(), []string{"patch", "-", "o"}, pipe()); code != 0 || out != string(want) {
			t.Errorf("%s: we make another target, exit code %d", name, code)
		}
		os.Remove("o")
	}
	// A pipe has no size to choose a block length by.
	_, sig, _ := ours(t, t.Context(), []string{"s"}, pipe())
	if _, want := stock(t, []string{"s"}, pipe()); sig != want {
		t.Error("of a pipe: another signature")
	}
}

func TestCancelled(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, line := range []string{"s base o", "d sig new o", "p base delta o", "diff base new o", "info delta"} {
		code, out, _ := ours(t, cancelled, strings.Fields(line), nil)
		if _, err := os.Stat("o"); code != interrupted || out != "" || err == nil {
			t.Errorf("%q: exit code %d, %d bytes of output", line, code, len(out))
		}
	}
	if left, _ := filepath.Glob(".*"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// On a full disk the old output stays and nothing is left.
func TestFullDisk(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	dir := testdata.SmallDisk(t, 64<<10)
	out := filepath.Join(dir, "o")
	writeFile(t, out, []byte("old"))
	for _, line := range []string{"-b 16 -f s base ", "-f p base delta ", "-f d empty-sig new ", "-f diff empty new "} {
		ours(t, t.Context(), []string{"-f", "s", "empty", "empty-sig"}, nil)
		if code, _, stderr := ours(t, t.Context(), strings.Fields(line+out), nil); code != ioError || !strings.Contains(stderr, "no space") {
			t.Errorf("%q: exit code %d: %s", line, code, stderr)
		}
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
		if b, _ := os.ReadFile(out); string(b) != "old" || len(names)+len(hidden) != 1 {
			t.Errorf("%q: the old output is another, or left are %q", line, append(names, hidden...))
		}
	}
}
