package generate

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The generated pair is the same each time, and neither equal nor unrelated.
func TestPair(t *testing.T) {
	var files [2][2]string
	for i := range files {
		dir := t.TempDir()
		base, target := filepath.Join(dir, "base"), filepath.Join(dir, "target")
		if err := Pair(base, target, 8<<20); err != nil {
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

// Generated images are the same each time, and a tenth of each is new.
func TestImages(t *testing.T) {
	s := Images{Series: 2, Versions: 2, Size: 8 << 20}
	var all [2][]string
	for i := range all {
		dir := filepath.Join(t.TempDir(), "images")
		if err := s.Write(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		images, err := filepath.Glob(filepath.Join(dir, "puavo-os-series0[01]-2024-01-0[12]-120000-amd64.img"))
		if err != nil || len(images) != 4 {
			t.Fatalf("%q, %v", images, err)
		}
		for _, path := range images {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = append(all[i], filepath.Base(path)+string(data))
		}
	}
	if !slices.Equal(all[0], all[1]) {
		t.Error("two directories differ")
	}
	if n := len(all[0][1]); n < 7<<20 || n > 9<<20 {
		t.Errorf("an image of %d bytes", n)
	}
	if share := kept(all[0][0], all[0][1]); share < 0.85 || share > 0.95 {
		t.Errorf("%.2f of an image is kept", share)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(cancelled, filepath.Join(t.TempDir(), "images")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Images that pack have the same share that is new, and pack to half.
func TestPacks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "images")
	if err := (Images{Series: 1, Versions: 2, Size: 2 << 20, Packs: true}).Write(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, day := range []string{"01", "02"} {
		data, err := os.ReadFile(filepath.Join(dir, "puavo-os-series00-2024-01-"+day+"-120000-amd64.img"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
		var packed bytes.Buffer
		w, _ := flate.NewWriter(&packed, flate.BestCompression) // of a level that there is
		if _, err := w.Write(data); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		if share := float64(packed.Len()) / float64(len(data)); share < 0.5 || share > 0.6 {
			t.Errorf("%s: packed to %.2f", day, share)
		}
	}
	if share := kept(all[0], all[1]); share < 0.8 || share > 0.98 {
		t.Errorf("%.2f of an image is kept", share)
	}
}

// kept returns the share of some pieces of a that are in b.
func kept(a, b string) float64 {
	const piece, step = 64, 16 << 10
	n, found := 0, 0
	for at := 1 << 10; at+piece <= len(a); at += step {
		n++
		if strings.Contains(b, a[at:at+piece]) {
			found++
		}
	}
	return float64(found) / float64(n)
}
