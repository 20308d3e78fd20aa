package serve_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/imagerepo/serve"
	"puavo-image-repository/testdata"
)

// built returns a mirror of the fixtures, and a server of it.
func built(t *testing.T) (dir, url string) {
	t.Helper()
	dir = t.TempDir()
	_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{
		ImageDir: testdata.Path("images"), MirrorDir: dir, NoSync: true, Jobs: 2, Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.9},
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := serve.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		serve.Run(ctx, l, h, nil)
	}()
	t.Cleanup(func() { cancel(); <-done; h.Close() })
	return dir, "http://" + l.Addr().String()
}

// The client updates from the server, by a delta.
func TestClient(t *testing.T) {
	mirror, url := built(t)
	images := t.TempDir()
	const older, newer = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img", "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	data, err := os.ReadFile(filepath.Join(mirror, older))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(images, older), data, 0o666); err != nil {
		t.Fatal(err)
	}
	result, err := client.Update(t.Context(), client.Options{Mirrors: []string{url}, Dir: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", result)
	got, err := os.ReadFile(filepath.Join(images, newer))
	if err != nil {
		t.Fatal(err)
	}
	if want, err := os.ReadFile(filepath.Join(mirror, newer)); err != nil || string(got) != string(want) {
		t.Errorf("another image, %v", err)
	}
}
