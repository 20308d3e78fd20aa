package client_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/plan"
)

const (
	oldImage = "puavo-os-amxa-buster-2022-01-17-120001-amd64.img"
	newImage = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	theDelta = "puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.rdiff"
)

// example makes a mirror, and an images directory with one old image.
func example() (mirror, images string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	source := filepath.Join(dir, "source")
	mirror, images = filepath.Join(dir, "mirror"), filepath.Join(dir, "images")
	if err := os.CopyFS(source, os.DirFS("../../testdata/images")); err != nil {
		log.Fatal(err)
	}
	_, _, err = imagerepo.Build(context.Background(), imagerepo.Options{
		ImageDir: source, MirrorDir: mirror,
		Policy: plan.Policy{Targets: 3, MaxRatio: 0.9},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := os.Mkdir(images, 0o777); err != nil {
		log.Fatal(err)
	}
	if err := os.Link(filepath.Join(source, oldImage), filepath.Join(images, oldImage)); err != nil {
		log.Fatal(err)
	}
	return mirror, images, func() { os.RemoveAll(dir) }
}

// Bring a directory of images up to date.
func ExampleUpdate() {
	mirror, images, remove := example()
	defer remove()
	result, err := client.Update(context.Background(), client.Options{
		Mirrors: []string{mirror}, Dir: images, DefaultLink: "ltsp.img", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Image, "from", result.Route)
	// Output: puavo-os-amxa-buster-2022-01-20-173248-amd64.img from the delta from puavo-os-amxa-buster-2022-01-17-120001-amd64.img
}

// Make an image from an old one and a delta, without a mirror.
func ExampleApply() {
	mirror, images, remove := example()
	defer remove()
	made := filepath.Join(images, newImage)
	err := client.Apply(context.Background(), client.ApplyOptions{
		Base:   filepath.Join(images, oldImage),
		Deltas: []string{filepath.Join(mirror, "rdiffs", theDelta)},
		Out:    made,
	})
	if err != nil {
		log.Fatal(err)
	}
	info, err := os.Stat(made)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("made", info.Size(), "bytes")
	// Output: made 360448 bytes
}
