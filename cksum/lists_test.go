package cksum

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	zeros = "0000000000000000000000000000000000000000000000000000000000000000"
	mixed = "00ff00000000000000000000000000000000000000000000000000000000000a"
)

func TestParseCKSUMS(t *testing.T) {
	got, err := ParseCKSUMS(strings.NewReader("0 0 b c\n4294967295 9223372036854775807 a\n1 10  é\n"))
	want := []Line{{0, 0, "b c"}, {1<<32 - 1, 1<<63 - 1, "a"}, {1, 10, " é"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestParseSHA256SUMS(t *testing.T) {
	got, err := ParseSHA256SUMS(strings.NewReader(mixed + "  rdiffs/b.rdiff\n" + zeros + "   a  a\n"))
	want := []SHA256Line{{[32]byte{1: 0xff, 31: 0x0a}, "rdiffs/b.rdiff"}, {[32]byte{}, " a  a"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestParseRepeatedLine(t *testing.T) {
	got, err := ParseCKSUMS(strings.NewReader("3 4 b\n1 2 a\n3 4 b\n1 2 a\n"))
	if want := []Line{{3, 4, "b"}, {1, 2, "a"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestParseLongestLine(t *testing.T) {
	for _, prefix := range []string{"1 2 ", zeros + "  "} {
		longest := prefix + strings.Repeat("x", maxLine-len(prefix))
		if _, err := parseEither(longest + "\n"); err != nil {
			t.Errorf("%d bytes: %v", maxLine, err)
		}
		_, err := parseEither(longest + "x\n")
		wantError(t, longest[:8], err, "line 1: longer than 4096 bytes")
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ list, want string }{
		{"\n", "line 1: is not a CRC, a size and a name"},
		{"1 2 a", "line 1: ends without a newline"},
		{"1 2 a\n\n", "line 2: is not a CRC, a size and a name"},
		{"1 2\n", "line 1: is not a CRC, a size and a name"},
		{"1\t2\ta\n", "line 1: is not a CRC, a size and a name"},
		{" 1 2 a\n", `line 1: CRC ""`},
		{"+1 2 a\n", `line 1: CRC "+1" is not a plain decimal below 2^32`},
		{"4294967296 2 a\n", `line 1: CRC "4294967296"`},
		{"1 -2 a\n", `line 1: size "-2" is not a plain decimal below 2^63`},
		{"1 02 a\n", `line 1: size "02"`},
		{"1 0x2 a\n", `line 1: size "0x2"`},
		{"1 9223372036854775808 a\n", `line 1: size "9223372036854775808"`},
		{"1 2 a\n1 2 rdiffs/a\n", `line 2: name "rdiffs/a" has a slash`},
		{"1 2 a\n3 4 b\n5 6 a\n", `line 3: "a" appears twice, as two files`},

		{mixed + "  a", "line 1: ends without a newline"},
		{mixed + " a\n", "line 1: is not a digest, two spaces and a path"},
		{mixed + " *a\n", "line 1: is not a digest, two spaces and a path"},
		{mixed + "  a\n" + mixed + "  b\n" + strings.Repeat("0", 64) + "  a\n", `line 3: "a" appears twice, as two files`},
		{strings.ToUpper(mixed) + "  a\n", "line 1: digest"},
		{mixed[1:] + "  a\n", "line 1: digest"},
		{mixed[2:] + "  a\n", "is not 64 lower-case hexadecimal digits"},
		{mixed + "00  a\n", "line 1: digest"},
		{mixed[1:] + "g  a\n", "line 1: digest"},
		{`\` + mixed + "  a\n", "line 1: digest"},
	} {
		_, err := parseEither(tt.list)
		wantError(t, tt.list, err, tt.want)
	}
}

func TestParseNames(t *testing.T) {
	for _, tt := range []struct{ name, want string }{
		{"", "clean relative path"},
		{".", "clean relative path"},
		{"..", "clean relative path"},
		{"a\xff", "in UTF-8"},
		{"a\x00", "control character"},
		{"a\r", "control character"},
		{"a\x7f", "control character"},
		{"a\u0085", "control character"},
		{`a\b`, "backslash"},
	} {
		_, err := parseEither("1 2 " + tt.name + "\n")
		wantError(t, tt.name, err, tt.want)
		_, err = parseEither(zeros + "  " + tt.name + "\n")
		wantError(t, tt.name, err, tt.want)
	}
	for _, path := range []string{"/a", "a/", "a//b", "../a", "a/..", "a/../b", "./a", "a/./b"} {
		_, err := parseEither(zeros + "  " + path + "\n")
		wantError(t, path, err, "clean relative path")
	}
}

func TestParseReadError(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader("1 2 a\n3 4"), iotest.ErrReader(broken))
	lines, err := ParseCKSUMS(r)
	if lines != nil || !errors.Is(err, broken) {
		t.Errorf("got %v, %v", lines, err)
	}
	wantError(t, "broken reader", err, "line 2")
}

func TestAppend(t *testing.T) {
	lines := []Line{{1, 2, "b"}, {3, 4, "a.img"}, {5, 6, "a"}, {0, 0, "B"}}
	before := slices.Clone(lines)
	got := string(AppendCKSUMS([]byte("# "), lines))
	if want := "# 0 0 B\n5 6 a\n3 4 a.img\n1 2 b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !slices.Equal(lines, before) {
		t.Errorf("the lines are changed: %v", lines)
	}
	got = string(AppendSHA256SUMS(nil, []SHA256Line{{Path: "b/a"}, {Path: "b"}, {[32]byte{1: 0xff, 31: 10}, "a/b"}}))
	if want := mixed + "  a/b\n" + zeros + "  b\n" + zeros + "  b/a\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// parseEither parses a list as SHA256SUMS if it has a long hexadecimal word
// first, else as CKSUMS, and returns the number of lines.
func parseEither(list string) (int, error) {
	if strings.IndexByte(list, ' ') > 32 {
		lines, err := ParseSHA256SUMS(strings.NewReader(list))
		return len(lines), err
	}
	lines, err := ParseCKSUMS(strings.NewReader(list))
	return len(lines), err
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "cksum: line ") || !strings.Contains(err.Error(), want) {
		t.Errorf("%q: got error %v, want one with %q", what, err, want)
	}
}
