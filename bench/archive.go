package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"puavo-image-repository/bench/internal/archiving"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/meta"
)

// runArchive compares stores of many versions.
func runArchive(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o clientOptions
	a := archiving.Options{Log: stderr}
	flags := flag.NewFlagSet("bench archive", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.corpus, "corpus", "real", "real, small, or a directory of images")
	flags.StringVar(&o.dir, "dir", realDir, "the directory that bench/corpus.sh filled, for real")
	flags.StringVar(&o.tmp, "tmp", "/var/tmp", "work in this directory, on the file system of the images; it takes three times their space")
	flags.IntVar(&a.Versions, "versions", 17, "generate `N` versions to restore through chains of deltas")
	flags.Int64Var(&a.Size, "size", 64, "generate versions of about this size, in `MB`")
	write := flags.Bool("write", false, "write bench/ARCHIVE.md too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || a.Versions < 1 || a.Size < 1 {
		return errors.New("want flags alone, and a version of 1 MB or more; see bench archive --help")
	}
	a.Size *= 1e6
	tmp, err := os.MkdirTemp(o.tmp, "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if a.Tmp, err = filepath.Abs(tmp); err != nil {
		return err
	}
	if err := archiveInto(ctx, o, &a); err != nil {
		return err
	}
	var b strings.Builder
	out := io.MultiWriter(stdout, &b)
	fmt.Fprintf(out, "# Archives\n\n    go -C bench run . archive --corpus %s --versions %d --size %d\n\n", o.corpus, a.Versions, a.Size/1e6)
	for _, line := range measure.Machine() {
		fmt.Fprintf(out, "- %s\n", line)
	}
	err = archiving.Measure(ctx, a, out)
	if err == nil && *write {
		err = writeReport("ARCHIVE.md", b.String())
	}
	return err
}

// archiveInto builds our command, and finds the images of the corpus: those of the series that
// has most.
func archiveInto(ctx context.Context, o clientOptions, a *archiving.Options) error {
	dir, _, err := clientCorpus(ctx, o, a.Tmp)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	images, _, err := imagesOf(dir)
	if err != nil {
		return err
	}
	bySeries := make(map[string][]string)
	for _, image := range images { // sorted by series and version
		name, err := meta.ParseName(filepath.Base(image))
		if err != nil {
			return err
		}
		series := append(bySeries[name.Series()], image)
		bySeries[name.Series()] = series
		if len(series) > len(a.Images) {
			a.Images = series
		}
	}
	ours, err := newBuilder(ctx, a.Tmp)
	a.Archiver = string(ours)
	return err
}
