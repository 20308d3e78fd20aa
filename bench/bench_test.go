package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/measure"
)

func TestGroup(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1 000", 1234567: "1 234 567"} {
		if got := group(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// The generated pair is the same each time, and neither equal nor unrelated.
func TestGenerate(t *testing.T) {
	var files [2][2]string
	for i := range files {
		dir := t.TempDir()
		base, target := filepath.Join(dir, "base"), filepath.Join(dir, "target")
		if err := generate(base, target, 8<<20); err != nil {
			t.Fatal(err)
		}
		for j, path := range []string{base, target} {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files[i][j] = string(data)
		}
	}
	if files[0] != files[1] {
		t.Error("two generated pairs differ")
	}
	if b, tgt := files[0][0], files[0][1]; len(b) != 8<<20 || b == tgt || len(tgt) < len(b)/2 {
		t.Errorf("a base of %d bytes, a target of %d", len(b), len(tgt))
	}
}

// A row relates its rounds one by one, and the table names who failed.
func TestTable(t *testing.T) {
	ref := &row{peer: peer{name: "ref"}, bytes: 100, diff: []measure.Figures{{Seconds: 1}, {Seconds: 10}}, patch: []measure.Figures{{Seconds: 1}, {Seconds: 1}}}
	fast := &row{peer: peer{name: "fast"}, bytes: 50, diff: []measure.Figures{{Seconds: 0.5}, {Seconds: 2}}, patch: []measure.Figures{{Seconds: 1}, {Seconds: 1}}}
	bad := &row{peer: peer{name: "bad"}, err: errors.New("out of order")}
	for _, r := range []*row{ref, fast, bad} {
		r.relate(ref)
	}
	if len(fast.time) != 2 || fast.time[0] != 0.5 || fast.time[1] != 0.2 || fast.size[0] != 0.5 {
		t.Errorf("ratios %v, %v", fast.time, fast.size)
	}
	var b strings.Builder
	if err := write(&b, []*row{ref, fast, bad}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fast", "0.350", "2.9", "0.500", "failed: out of order"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestSame(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, b, c, d := write("a", "text"), write("b", "text"), write("c", "texts"), write("d", "test")
	if err := same(a, b); err != nil {
		t.Error(err)
	}
	for _, other := range []string{c, d} {
		if same(a, other) == nil || same(other, a) == nil {
			t.Errorf("%s is the same as %s", a, other)
		}
	}
}
