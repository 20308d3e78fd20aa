package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// content returns a Content that promises some bytes, and whose file has others.
func content(t *testing.T, promised, has string) Content {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(has), 0o666); err != nil {
		t.Fatal(err)
	}
	open := func() (*os.File, error) { return os.Open(path) }
	return Content{Name: "a.img", Size: int64(len(promised)), SHA256: sha256.Sum256([]byte(promised)), Open: open}
}

// All bytes are handed out in pieces. If the file is wrong, the last are not.
func TestSource(t *testing.T) {
	for _, c := range []struct {
		name, promised, has string
		want                error
		pieces              string
	}{
		{"whole pieces", "abcdef", "abcdef", nil, "abc|def|"},
		{"a rest", "abcdefg", "abcdefg", nil, "abc|def|g|"},
		{"less than a piece", "a", "a", nil, "a|"},
		{"empty", "", "", nil, ""},
		{"other bytes at the beginning", "abcdef", "xbcdef", ErrChanged, "xbc|"},
		{"another last byte", "abcdefg", "abcdefx", ErrChanged, "abc|def|"},
		{"shorter, in a piece", "abcdef", "abcde", ErrChanged, "abc|"},
		{"shorter by pieces", "abcdef", "abc", ErrChanged, "abc|"},
		{"longer", "abcdef", "abcdefg", ErrChanged, "abc|"},
		{"empty, promised more", "a", "", ErrChanged, ""},
		{"promised empty", "", "a", ErrChanged, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := content(t, c.promised, c.has).Source()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var got bytes.Buffer
			err = s.Each(t.Context(), 3, func(at int64, piece []byte) error {
				if before := len(strings.ReplaceAll(got.String(), "|", "")); at != int64(before) {
					t.Errorf("%q is at %d, want %d", piece, at, before)
				}
				got.Write(piece)
				return got.WriteByte('|')
			})
			if !errors.Is(err, c.want) || c.want == nil && err != nil || got.String() != c.pieces {
				t.Errorf("%v, want %v; pieces %s, want %s", err, c.want, &got, c.pieces)
			}
			if err != nil && !strings.Contains(err.Error(), "a.img") {
				t.Errorf("the file is not named: %v", err)
			}
		})
	}
}

// The error is the reason why reading ended.
func TestSourceFailures(t *testing.T) {
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	good := content(t, "abcdef", "abcdef")
	for _, c := range []struct {
		name   string
		ctx    context.Context
		change func(*Content)
		do     error
		want   error
	}{
		{"do fails", t.Context(), func(*Content) {}, broken, broken},
		{"cancelled", cancelled, func(*Content) {}, nil, context.Canceled},
		{"no file", t.Context(), func(c *Content) { c.Open = func() (*os.File, error) { return nil, fs.ErrNotExist } }, nil, fs.ErrNotExist},
		{"a directory", t.Context(), func(c *Content) { c.Open = func() (*os.File, error) { return os.Open(t.TempDir()) } }, nil, errAny},
		{"no digest", t.Context(), func(c *Content) { clear(c.SHA256[:]) }, nil, errAny},
		{"no size", t.Context(), func(c *Content) { c.Size = -1 }, nil, errAny},
	} {
		t.Run(c.name, func(t *testing.T) {
			content := good
			c.change(&content)
			s, err := content.Source()
			if err == nil {
				defer s.Close()
				err = s.Each(c.ctx, 3, func(int64, []byte) error { return c.do })
			}
			if err == nil || c.want != errAny && !errors.Is(err, c.want) || errors.Is(err, ErrChanged) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

var errAny = errors.New("any")

// At the end, the error stays io.EOF.
func TestSourceEnd(t *testing.T) {
	s, err := content(t, "ab", "ab").Source()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	buf := make([]byte, 2)
	for i, want := range []struct {
		n   int
		err error
	}{{2, nil}, {0, io.EOF}, {0, io.EOF}} {
		if n, err := s.Next(t.Context(), buf); n != want.n || err != want.err {
			t.Errorf("call %d: %d, %v", i, n, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a.img": true, "rdiffs/a.rdiff": true, ".published.json": true, ".publish-lock.json": true, "a/b/c": true, "a..b": true,
		"": false, ".": false, "..": false, "../a": false, "a/../b": false, "/a": false, "a/": false, "a//b": false, "./a": false,
		".publish": false, ".publish/a": false, ".publish-x/a": false, ".repo/lock": false, "a/.b": false, ".ssh": false, "a/.publish": false,
		"a\x00": false, `a\b`: false, "\xff": false,
	} {
		if err := CheckName(name); (err == nil) != ok || err != nil && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Report works without Done, and does not call it with 0 bytes.
func TestReport(t *testing.T) {
	var got int64
	c := Content{Done: func(n int64, sent bool) { got += n }}
	c.Report(3, true)
	c.Done = func(int64, bool) { t.Error("called for nothing") }
	c.Report(0, true)
	Content{}.Report(3, true)
	if got != 3 {
		t.Error(got)
	}
}

// What is accepted is below the destination, and not aside.
func FuzzCheckName(f *testing.F) {
	for _, seed := range []string{"a.img", "rdiffs/a.rdiff", "../a", "/a", ".publish/a", ".published.json", "a\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) != nil {
			return
		}
		joined := filepath.Join("/destination", name)
		if joined != "/destination/"+name || strings.HasPrefix(name+"/", Aside+"/") {
			t.Errorf("%q is accepted", name)
		}
	})
}

// Payload has a name of its own aside, by its content and its name.
func TestStaged(t *testing.T) {
	a, b := content(t, "x", "x"), content(t, "y", "y")
	c := a
	c.Name = "b.img"
	if a.Staged() == b.Staged() || a.Staged() == c.Staged() || filepath.Dir(a.Staged()) != Aside || CheckName(a.Staged()) == nil {
		t.Errorf("%s, %s, %s", a.Staged(), b.Staged(), c.Staged())
	}
	for _, row := range []struct {
		name string
		age  time.Duration
		left bool
	}{
		{a.Staged(), 0, false}, {a.Staged(), 1000 * time.Hour, false}, {c.Staged(), 0, true},
		{Temporary(), time.Minute, false}, {Temporary(), 2 * time.Hour, true}, {Aside + "/foreign", 0, true},
	} {
		if got := IsLeft(row.name, row.age, []Content{b, a}); got != row.left {
			t.Errorf("%s, %v old: %v", row.name, row.age, got)
		}
	}
}
