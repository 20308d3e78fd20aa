package cksum

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxLine is the length of the longest line of a list, in bytes without the
// newline.
const maxLine = 4096

// Line is a line of a CKSUMS list.
type Line struct {
	CRC  uint32
	Size int64  // in bytes
	Name string // without a directory
}

// SHA256Line is a line of a SHA256SUMS list.
type SHA256Line struct {
	SHA256 Digest256
	Path   string // slash-separated, relative to the directory of the list
}

// ParseCKSUMS reads a CKSUMS list to its end and returns its lines in the order of
// the list. Anything but the format in the package documentation is an error, which
// names the line by its number, from 1. It wraps an error of r. With an error, it
// returns no lines.
func ParseCKSUMS(r io.Reader) ([]Line, error) {
	return parse(r, parseLine, Line.name)
}

// ParseSHA256SUMS is like [ParseCKSUMS], for a SHA256SUMS list.
func ParseSHA256SUMS(r io.Reader) ([]SHA256Line, error) {
	return parse(r, parseSHA256Line, SHA256Line.name)
}

// AppendCKSUMS appends a CKSUMS list of the lines to b and returns it. It sorts a
// copy of the lines by name. It does not check them: the caller must pass only what
// [ParseCKSUMS] accepts.
func AppendCKSUMS(b []byte, lines []Line) []byte {
	for _, l := range sorted(lines, Line.name) {
		b = fmt.Appendf(b, "%d %d %s\n", l.CRC, l.Size, l.Name)
	}
	return b
}

// AppendSHA256SUMS is like [AppendCKSUMS], for a SHA256SUMS list.
func AppendSHA256SUMS(b []byte, lines []SHA256Line) []byte {
	for _, l := range sorted(lines, SHA256Line.name) {
		b = fmt.Appendf(b, "%s  %s\n", l.SHA256, l.Path)
	}
	return b
}

func (l Line) name() string       { return l.Name }
func (l SHA256Line) name() string { return l.Path }

// sorted returns a copy of lines in the byte order of their names.
func sorted[T any](lines []T, name func(T) string) []T {
	return slices.SortedStableFunc(slices.Values(lines), func(a, b T) int {
		return strings.Compare(name(a), name(b))
	})
}

// parse reads lines to the end of r, each with one, and refuses a name with two
// contents. It returns a repeated line once.
func parse[T comparable](r io.Reader, one func(string) (T, error), name func(T) string) ([]T, error) {
	var lines []T
	seen := make(map[string]T)
	br := bufio.NewReaderSize(r, maxLine+1)
	for number := 1; ; number++ {
		text, err := readLine(br)
		if err == io.EOF {
			return lines, nil
		}
		var l T
		if err == nil {
			l, err = one(text)
		}
		if err != nil {
			return nil, fmt.Errorf("cksum: line %d: %w", number, err)
		}
		switch before, again := seen[name(l)]; {
		case !again:
			seen[name(l)] = l
			lines = append(lines, l)
		case before != l:
			return nil, fmt.Errorf("cksum: line %d: %q appears twice, as two files", number, name(l))
		}
	}
}

// readLine returns the next line without its newline, or io.EOF after the last. The
// buffer of br holds the longest line with its newline.
func readLine(br *bufio.Reader) (string, error) {
	text, err := br.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return "", fmt.Errorf("longer than %d bytes", maxLine)
	case err == io.EOF && len(text) > 0:
		return "", errors.New("ends without a newline")
	case err != nil:
		return "", err
	}
	return string(bytes.TrimSuffix(text, []byte("\n"))), nil
}

func parseLine(text string) (Line, error) {
	fields := strings.SplitN(text, " ", 3)
	if len(fields) != 3 {
		return Line{}, errors.New("is not a CRC, a size and a name")
	}
	crc, err := parseDecimal(fields[0], 32)
	if err != nil {
		return Line{}, fmt.Errorf("CRC %w", err)
	}
	size, err := parseDecimal(fields[1], 63)
	if err != nil {
		return Line{}, fmt.Errorf("size %w", err)
	}
	l := Line{CRC: uint32(crc), Size: int64(size), Name: fields[2]}
	if strings.Contains(l.Name, "/") {
		return Line{}, fmt.Errorf("name %q has a slash", l.Name)
	}
	return l, checkPath(l.Name)
}

func parseSHA256Line(text string) (SHA256Line, error) {
	digest, path, ok := strings.Cut(text, "  ")
	if !ok {
		return SHA256Line{}, errors.New("is not a digest, two spaces and a path")
	}
	l := SHA256Line{Path: path}
	sum, _ := hex.DecodeString(digest)
	copy(l.SHA256[:], sum)
	if hex.EncodeToString(l.SHA256[:]) != digest {
		return SHA256Line{}, fmt.Errorf("digest %q is not 64 lower-case hexadecimal digits", digest)
	}
	return l, checkPath(path)
}

// parseDecimal returns the number whose canonical decimal notation is s, and which
// fits into bitSize bits.
func parseDecimal(s string, bitSize int) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, bitSize)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%q is not a plain decimal below 2^%d", s, bitSize)
	}
	return n, nil
}

func checkPath(path string) error {
	switch {
	case strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Errorf("name %q has a control character", path)
	case strings.Contains(path, `\`):
		return fmt.Errorf("name %q has a backslash", path)
	case path == "." || !fs.ValidPath(path):
		return fmt.Errorf("name %q is not a clean relative path in UTF-8", path)
	}
	return nil
}
