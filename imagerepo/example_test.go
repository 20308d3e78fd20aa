package imagerepo_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/plan"
)

// Make a mirror of a directory of images.
func ExampleBuild() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	images, mirror := filepath.Join(dir, "images"), filepath.Join(dir, "mirror")
	if err := os.CopyFS(images, os.DirFS("../testdata/images")); err != nil {
		log.Fatal(err)
	}
	_, summary, err := imagerepo.Build(context.Background(), imagerepo.Options{
		ImageDir: images, MirrorDir: mirror, URL: "https://images.example.org",
		Policy: plan.Policy{Targets: 1, Downgrades: true, MaxRatio: 0.9},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(summary.Images, "images,", summary.Made, "deltas made")
	for _, d := range summary.Deltas {
		fmt.Println(d.File)
	}
	// Output:
	// 5 images, 3 deltas made
	// puavo-os-amxa-buster-2021-04-13-192449--2022-01-20-173248-amd64.rdiff
	// puavo-os-amxa-buster-2021-04-13-193910--2022-01-20-173248-amd64.rdiff
	// puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.rdiff
}

// See what a build would do.
func ExampleMakePlan() {
	p, err := imagerepo.MakePlan(context.Background(), imagerepo.Options{
		ImageDir: "../testdata/images", MirrorDir: filepath.Join(os.TempDir(), "no-mirror-yet"),
		Policy: plan.Policy{Targets: 1, Bases: 1, MaxRatio: 0.9},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range p.Deltas {
		fmt.Println(d.Action, d.File)
	}
	// Output: make puavo-os-amxa-buster-2022-01-17-120001--2022-01-20-173248-amd64.rdiff
}
