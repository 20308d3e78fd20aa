package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/cmd/internal/scripttest"
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
	"puavo-image-repository/imagerepo"
	policy "puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// configVariable names the config file.
const configVariable = "PUAVO_UPDATE_IMAGE_CONFIG"

func TestMain(m *testing.M) { scripttest.Main(m, "puavo-update-image", main) }

func TestHelp(t *testing.T) {
	t.Setenv(configVariable, "")
	scripttest.Help(t, newApp(io.Discard, io.Discard), "puavo-update-image")
}

func TestManual(t *testing.T) {
	scripttest.Manual(t, newApp(io.Discard, io.Discard), "puavo-update-image")
}

// In the environment of the scripts, MIRROR is a mirror of the test images, which
// they only read, and URL is where it is served. COMPACT and COMPACT_URL are of the same
// mirror with compact deltas. A config file of the host does not count.
func TestScripts(t *testing.T) {
	mirror, smaller := buildMirror(t), filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(smaller, os.DirFS(mirror)); err != nil {
		t.Fatal(err)
	}
	addCompact(t, smaller)
	serve := func(dir string) string {
		server := httptest.NewServer(http.FileServer(http.Dir(dir)))
		t.Cleanup(server.Close)
		return server.URL
	}
	scripttest.Run(t, "MIRROR="+mirror, "URL="+serve(mirror), "COMPACT="+smaller, "COMPACT_URL="+serve(smaller), configVariable+"=")
}

// addCompact adds to a mirror a compact delta for each rdiff delta to the newest image of a
// series, and a full one.
func addCompact(t *testing.T, mirror string) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(mirror, "meta", "*.json"))
	for _, file := range files {
		s, err := meta.ParseSeries([]byte(read(t, file)))
		if err != nil {
			t.Fatal(err)
		}
		newest := s.Newest()
		newest.Compact = append(newest.Compact, makeCompact(t, mirror, meta.Name{}, newest.Name))
		for _, d := range newest.Diffs {
			newest.Compact = append(newest.Compact, makeCompact(t, mirror, d.Base, newest.Name))
		}
		data, err := s.Encode()
		if err == nil {
			err = os.WriteFile(file, data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// makeCompact makes a compact delta in a mirror, without a base for the zero Name.
func makeCompact(t *testing.T, mirror string, base, target meta.Name) meta.Compact {
	t.Helper()
	image := func(n meta.Name) (m compact.Image) {
		if n != (meta.Name{}) {
			m.Bytes = []byte(read(t, filepath.Join(mirror, n.String())))
			m.Blocks = squashfs.Blocks(m.Bytes)
		}
		return m
	}
	var b bytes.Buffer
	info, err := compact.Encode(t.Context(), &b, image(base), image(target), compact.Options{
		Scratch: func() (*os.File, error) { return os.CreateTemp(t.TempDir(), "") },
	})
	if err != nil {
		t.Fatal(err)
	}
	c := meta.Compact{Filename: meta.CompactName(base, target), Base: base, Memory: info.Memory, Coded: info.Coded, Unpacked: info.Unpacked}
	path := filepath.Join(mirror, meta.CompactPath(c.Filename))
	err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, b.Bytes(), 0o666))
	if err == nil {
		c.Sums, err = cksum.Read(t.Context(), &b)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.URLs = []string{"https://images.example.org/" + meta.CompactPath(c.Filename)}
	return c
}

// buildMirror makes a mirror of copies of the test images.
func buildMirror(t *testing.T) string {
	t.Helper()
	images, mirror := t.TempDir(), filepath.Join(t.TempDir(), "mirror")
	for _, image := range testdata.Glob(t, "images/*.img") {
		data, err := os.ReadFile(image)
		if err == nil {
			err = os.WriteFile(filepath.Join(images, filepath.Base(image)), data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{
		ImageDir: images, MirrorDir: mirror, URL: "https://images.example.org", Jobs: 2,
		Policy: policy.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.9},
		Log:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return mirror
}
