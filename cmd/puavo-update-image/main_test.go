package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/cmd/internal/scripttest"
	"puavo-image-repository/imagerepo"
	policy "puavo-image-repository/imagerepo/plan"
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
// they only read, and URL is where it is served. A config file of the host does not
// count.
func TestScripts(t *testing.T) {
	mirror := buildMirror(t)
	server := httptest.NewServer(http.FileServer(http.Dir(mirror)))
	t.Cleanup(server.Close)
	scripttest.Run(t, "MIRROR="+mirror, "URL="+server.URL, configVariable+"=")
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
