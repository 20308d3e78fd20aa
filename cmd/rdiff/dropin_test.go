package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/testdata"
)

// Numbers are read as stock rdiff reads them, of all options that take one.
func TestNumbers(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	values := []string{
		"", " ", "0", "00", "-0", "+0", "16", "+16", " 16", " +16", "\t16", "\n16", "\v16", "\f16", "\r16", "0x10", "0X10", "+0x10", "0xF", "020", " +020",
		"08", "0x", "0xg", "0x1g", "0x 10", "0x+1", "16 ", "16k", "16.0", "1e1", "1_6", "0b11", "0o20", "--16", "+-16", "- 16", "+", "-", "x", "１", "\u00a016",
		"2147483648", "-2147483649", "0x80000000", "99999999999999999999", "-99999999999999999999",
	}
	for _, option := range []string{"-b", "--block-size", "-S", "--sum-size", "-I", "--input-size", "-O", "--output-size"} {
		for _, value := range values {
			args := []string{option, value}
			if strings.HasPrefix(option, "--") {
				args = []string{option + "=" + value}
			}
			sameResult(t, append(args, "signature", "base", "o"))
		}
	}
	// Not so the numbers that make librsync abort, as it cannot allocate so much.
	for _, args := range []string{"-I -1 s base o", "-O -2147483648 s base o", "-b 2147483647 s base o"} {
		if code, _ := stock(t, append([]string{"-f"}, strings.Fields(args)...), nil); code != -1 {
			t.Errorf("%q: stock rdiff ends with %d, no longer by a signal", args, code)
		}
		if code, _, stderr := ours(t, t.Context(), append([]string{"-f"}, strings.Fields(args)...), nil); code != 0 {
			t.Errorf("%q: exit code %d: %s", args, code, stderr)
		}
	}
}

// sameResult runs stock rdiff and this one, which must end with the same exit code and
// write the same file o, or none.
func sameResult(t *testing.T, args []string) {
	t.Helper()
	wantCode, _ := stock(t, args, open(t, os.DevNull))
	want, _ := os.ReadFile("o")
	os.Remove("o")
	code, _, stderr := ours(t, t.Context(), args, open(t, os.DevNull))
	got, _ := os.ReadFile("o")
	os.Remove("o")
	if code != wantCode || code == 0 && !bytes.Equal(got, want) || code != 0 && got != nil {
		t.Errorf("%q: exit code %d, want %d, or another output: %s", args, code, wantCode, stderr)
	}
}

// An empty name is no standard stream.
func TestEmptyNames(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	for _, args := range [][]string{
		{"signature", "", "o"}, {"signature", "base", ""}, {"delta", ""}, {"delta", "sig", ""}, {"delta", "sig", "new", ""},
		{"patch", "", "delta", "o"}, {"patch", "base", ""}, {"", "base", "o"},
	} {
		sameResult(t, args)
	}
}

// errorOf runs stock rdiff and returns its standard error.
func errorOf(t *testing.T, args ...string) string {
	t.Helper()
	testdata.Tool(t, "rdiff")
	var stderr bytes.Buffer
	cmd := exec.Command("rdiff", args...)
	cmd.Stderr = &stderr
	cmd.Run() // TestLikeStock compares the exit codes
	return stderr.String()
}

// What scripts look for in the output is there.
func TestTexts(t *testing.T) {
	inputs(t)
	args := []string{"signature", "base", "sig"}
	_, want, _ := strings.Cut(errorOf(t, args...), "(rs_file_open) ")
	code, _, stderr := ours(t, t.Context(), args, nil)
	if first, _, _ := strings.Cut(stderr, "\n"); code != ioError || want == "" || first+"\n" != "rdiff: "+want {
		t.Errorf("exit code %d: %q, want what stock rdiff says: %q", code, stderr, want)
	}
	_, stockText := stock(t, []string{"--version"}, nil)
	_, text, _ := ours(t, t.Context(), []string{"--version"}, nil)
	lines, stockLines := strings.Split(text, "\n"), strings.Split(stockText, "\n")
	if len(lines) != len(stockLines) {
		t.Fatalf("--version has %d lines, %d of stock rdiff", len(lines), len(stockLines))
	}
	for i, begin := range []string{"rdiff (", "Copyright (C) ", "", "Capabilities: 64 bit files", ""} {
		if !strings.HasPrefix(lines[i], begin) || !strings.HasPrefix(stockLines[i], begin) {
			t.Errorf("--version: line %d is %q, and %q of stock rdiff, want %q", i+1, lines[i], stockLines[i], begin)
		}
	}
	if !strings.Contains(text, "librsync 2.3") || !strings.Contains(text, "Apache-2.0") {
		t.Errorf("--version: %s", text)
	}
}

// What follows the end of a delta is ignored, and not silently; but the info says that
// it is there.
func TestDataAfterTheEnd(t *testing.T) {
	inputs(t)
	_, want, _ := ours(t, t.Context(), []string{"patch", "base", "delta", "-"}, nil)
	for _, c := range []struct {
		line  string
		stdin string
		names string
	}{
		{"patch base delta-trailing", os.DevNull, "delta-trailing"},
		{"-s patch base delta-trailing -", os.DevNull, "delta-trailing"},
		{"patch base", "delta-trailing", "from standard input"},
		{"-v patch base -", "delta-trailing", "from standard input"},
	} {
		code, out, stderr := ours(t, t.Context(), strings.Fields(c.line), open(t, c.stdin))
		warning := "rdiff: warning: the delta " + c.names + " has data after its end, which is ignored\n"
		if code != 0 || out != want || strings.Count(stderr, warning) != 1 {
			t.Errorf("%q: exit code %d, or another target: %s", c.line, code, stderr)
		}
	}
	if code, _, stderr := ours(t, t.Context(), []string{"info", "delta-trailing"}, nil); code != corrupt || !strings.Contains(stderr, "data after the end command") {
		t.Errorf("info: exit code %d: %s", code, stderr)
	}
}

// What is read once is not kept in a file: there is no place for one here.
func TestStreamed(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	base, target := random(3_000_000), append(random(3_000_000)[:1_500_000:1_500_000], random(2_000_000)[100:]...)
	writeFile(t, "base", base)
	stock(t, []string{"-f", "-b", "2048", "signature", "base", "sig"}, nil)
	if err := syscall.Mkfifo("fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	tmp := os.Getenv("TMPDIR")
	t.Setenv("TMPDIR", "none")
	for name, c := range map[string]struct {
		line  string
		stdin []byte
		want  string // of stock rdiff, from the output
	}{
		"standard input":          {"delta sig - o", target, string(target)},
		"standard input, omitted": {"delta sig", target, string(target)},
		"a named pipe":            {"delta sig fifo o", nil, string(target)},
		"with statistics":         {"-s delta sig - o", target, string(target)},
		"nothing":                 {"delta sig - o", []byte{}, ""},
	} {
		if c.stdin == nil {
			go os.WriteFile("fifo", target, 0) // ends with the reading
		}
		code, out, stderr := ours(t, t.Context(), strings.Fields(c.line), piped(t, c.stdin))
		if out != "" {
			writeFile(t, "o", []byte(out))
		}
		if _, got := stock(t, []string{"patch", "base", "o"}, nil); code != 0 || got != c.want {
			t.Errorf("%s: exit code %d, or another target of stock rdiff: %s", name, code, stderr)
		}
		d, _ := os.ReadFile("o")
		if info, _ := delta.Inspect(t.Context(), bytes.NewReader(d)); len(c.want) > 0 && info.CopyBytes < 2_900_000 {
			t.Errorf("%s: %+v", name, info)
		}
		if code, got, stderr := ours(t, t.Context(), []string{"patch", "base"}, piped(t, d)); code != 0 || got != c.want {
			t.Errorf("%s: exit code %d of patch, or another target: %s", name, code, stderr)
		}
		os.Remove("o")
	}
	// Of blocks longer than what is streamed, a file holds what is read.
	ours(t, t.Context(), []string{"-f", "-b", "1048577", "signature", "base", "sig"}, nil)
	if code, _, stderr := ours(t, t.Context(), []string{"delta", "sig", "-", "o"}, piped(t, target)); code != ioError || !strings.Contains(stderr, "none/rdiff-") {
		t.Errorf("long blocks, no place: exit code %d: %s", code, stderr)
	}
	t.Setenv("TMPDIR", tmp)
	if code, _, stderr := ours(t, t.Context(), []string{"delta", "sig", "-", "o"}, piped(t, target)); code != 0 {
		t.Errorf("long blocks: exit code %d: %s", code, stderr)
	}
}

// An output is left as stock rdiff leaves it: content, mode, owner and hard links.
func TestOutputs(t *testing.T) {
	testdata.Tool(t, "rdiff")
	inputs(t)
	base, err := filepath.Abs("base")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		prepare func(dir string) error
		out     string
	}{
		{"new", func(string) error { return nil }, "o"},
		{"a hard link", func(dir string) error { return os.Link(dir+"/old", dir+"/o") }, "o"},
		{"a link to a hard link", func(dir string) error {
			return errors.Join(os.Link(dir+"/old", dir+"/other"), os.Symlink("other", dir+"/o"))
		}, "o"},
		{"a symbolic link", func(dir string) error { return os.Symlink("old", dir+"/o") }, "o"},
		{"a dangling link", func(dir string) error { return os.Symlink("none", dir+"/o") }, "o"},
		{"a dangling link to a directory", func(dir string) error { return os.Symlink("sub/../sub/none", dir+"/o") }, "o"},
		{"a link to no directory", func(dir string) error { return os.Symlink("none/file", dir+"/o") }, "o"},
		{"a link to itself", func(dir string) error { return os.Symlink("o", dir+"/o") }, "o"},
		{"an old file", func(string) error { return nil }, "old"},
		{"an old file of somebody else", func(dir string) error { return os.Chown(dir+"/old", testdata.Nobody, testdata.Nobody) }, "old"},
		{"a directory", func(string) error { return nil }, "sub"},
		{"a long name", func(string) error { return nil }, strings.Repeat("x", 250)},
		{"the longest name", func(string) error { return nil }, strings.Repeat("x", 255)},
		{"a name that is too long", func(string) error { return nil }, strings.Repeat("x", 256)},
	} {
		if strings.Contains(c.name, "somebody else") && os.Geteuid() != 0 {
			continue
		}
		var left [2]string
		var codes [2]int
		for i, run := range []func(args ...string) int{
			func(args ...string) int { code, _ := stock(t, args, nil); return code },
			func(args ...string) int { code, _, _ := ours(t, t.Context(), args, nil); return code },
		} {
			dir := t.TempDir()
			err := errors.Join(os.Mkdir(dir+"/sub", 0o755), os.WriteFile(dir+"/old", make([]byte, 50_000), 0o640), c.prepare(dir))
			if err != nil {
				t.Fatal(err)
			}
			codes[i] = run("-f", "signature", base, filepath.Join(dir, c.out))
			left[i] = listing(t, dir)
		}
		if codes[0] != codes[1] || left[0] != left[1] {
			t.Errorf("%s: exit code %d, left is\n%s\nstock rdiff: %d, left is\n%s", c.name, codes[1], left[1], codes[0], left[0])
		}
	}
}

// listing describes the files in a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		target, _ := os.Readlink(path)
		data, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %v %d:%d %d links %q %x\n", d.Name(), info.Mode(), stat.Uid, stat.Gid, stat.Nlink, target, sha256.Sum256(data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// An output in a directory that is not writable is written if it is there.
func TestDirectoryNotWritable(t *testing.T) {
	inputs(t)
	base, _ := filepath.Abs("base")
	_, want, _ := ours(t, t.Context(), []string{"signature", base}, nil)
	dir := t.TempDir()
	writeFile(t, dir+"/old", make([]byte, 50_000))
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		out  string
		code int
	}{{"/old", 0}, {"/new", ioError}} {
		testdata.Unprivileged(t, dir, func() {
			code, _, stderr := ours(t, t.Context(), []string{"-f", "signature", base, dir + c.out}, nil)
			if code != c.code || c.code != 0 && stderr != "rdiff: write "+dir+c.out+": permission denied\n" {
				t.Errorf("%s: exit code %d: %s", c.out, code, stderr)
			}
		})
	}
	if got, err := os.ReadFile(dir + "/old"); err != nil || string(got) != want {
		t.Errorf("another signature, %v", err)
	}
}

// An output that is an input too is replaced, so that it is read to its end.
func TestOutputIsInput(t *testing.T) {
	for _, line := range []string{"-f patch base delta base", "-f d sig new new", "-f diff base new new", "-f s base base"} {
		inputs(t)
		args := strings.Fields(line)
		out := args[len(args)-1]
		code, want, _ := ours(t, t.Context(), append(slices.Clone(args[:len(args)-1]), "-"), nil)
		if err := os.Link(out, "other"); code != 0 || err != nil {
			t.Fatalf("%q: exit code %d, %v", line, code, err)
		}
		code, _, stderr := ours(t, t.Context(), args, nil)
		if got, _ := os.ReadFile(out); code != 0 || string(got) != want {
			t.Errorf("%q: exit code %d, or another output: %s", line, code, stderr)
		}
	}
}
