package peer

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/testdata"
)

// Each peer that is installed makes a delta that makes the target again.
func TestPeers(t *testing.T) {
	testdata.Tool(t, "rdiff")
	dir := t.TempDir()
	ours := filepath.Join(dir, "ours")
	if err := build.Go(t.Context(), "../../..", "build", "-o", ours, "./cmd/rdiff"); err != nil {
		t.Fatal(err)
	}
	images := testdata.Glob(t, "images/*amxa*.img")
	want, err := os.ReadFile(images[1])
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for i, p := range peers(ours, filepath.Join(dir, "none")) {
		if (i == 0) != (p.Name == Reference) {
			t.Errorf("peer %d is %s", i, p.Name)
		}
		if _, err := exec.LookPath(p.tool); err != nil {
			continue
		}
		f := Files{Base: images[0], Target: images[1], Signature: filepath.Join(dir, "sig"), Delta: filepath.Join(dir, "delta"), Out: filepath.Join(dir, "out")}
		for _, c := range append(p.Diff(f), p.Patch(f)) {
			if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%s: %q: %v\n%s", p.Name, c, err, out)
			}
		}
		if got, err := os.ReadFile(f.Out); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s makes another file; %v", p.Name, err)
		}
		for _, path := range []string{f.Signature, f.Delta, f.Out} {
			os.Remove(path)
		}
		tried++
	}
	if tried < 7 {
		t.Errorf("%d peers, want rdiff's two and our five", tried)
	}
}

func TestBuildErrors(t *testing.T) {
	err := build.Go(t.Context(), t.TempDir(), "build", "./cmd/none")
	if err == nil || !strings.Contains(err.Error(), "build ./cmd/none") || !strings.Contains(err.Error(), "\n") {
		t.Errorf("nothing to build: %v", err)
	}
}
