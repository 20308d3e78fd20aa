package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
}

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

func TestMeasure(t *testing.T) {
	f, err := measure(t.Context(), [][]string{{"sh", "-c", "sleep 0.05"}, {"true"}})
	if err != nil || f.seconds < 0.05 || f.resident == 0 {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := measure(t.Context(), [][]string{{"sh", "-c", "echo bad >&2; false"}}); err == nil || !strings.Contains(err.Error(), "bad") {
		t.Errorf("a command that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measure(ctx, [][]string{{"sleep", "10"}}); err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A row relates its rounds one by one, and the table names who failed.
func TestTable(t *testing.T) {
	ref := &row{peer: peer{name: "ref"}, bytes: 100, diff: []figures{{seconds: 1}, {seconds: 10}}, patch: []figures{{seconds: 1}, {seconds: 1}}}
	fast := &row{peer: peer{name: "fast"}, bytes: 50, diff: []figures{{seconds: 0.5}, {seconds: 2}}, patch: []figures{{seconds: 1}, {seconds: 1}}}
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
