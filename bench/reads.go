package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/memory"
	"puavo-image-repository/bench/internal/report"
)

// readsOptions are the flags of reads.
type readsOptions struct {
	corpus, dir, tmp string
	largest          int
	limits           []int64 // bytes
	limit, memory    string  // as given
	write            bool
}

func parseReads(args []string, stderr io.Writer) (o readsOptions, err error) {
	flags := flag.NewFlagSet("bench reads", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.corpus, "corpus", "real", "real, large, or a directory of images")
	flags.StringVar(&o.dir, "dir", realDir, "the directory that bench/corpus.sh filled, for real")
	flags.StringVar(&o.tmp, "tmp", "/var/tmp", "work in this directory, which should be on the file system of the images")
	flags.StringVar(&o.limit, "limit", "900m", "the memory of the control group, such as 900m or 1.5g; several with commas")
	flags.StringVar(&o.memory, "memory", "300m", "the --memory of the builder; empty for its own choice")
	flags.IntVar(&o.largest, "largest", 1, "the size of each image of large, in GB")
	flags.BoolVar(&o.write, "write", false, "write bench/READS.md too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.largest < 1 {
		return o, errors.New("want flags alone, and sizes of 1 or more; see bench reads --help")
	}
	for text := range strings.SplitSeq(o.limit, ",") {
		limit, err := parseSize(text)
		if err != nil {
			return o, fmt.Errorf("--limit: %w", err)
		}
		o.limits = append(o.limits, limit)
	}
	return o, nil
}

// parseSize returns a number of bytes: a number with k, m or g behind it, for KiB,
// MiB or GiB.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, errors.New("an empty size; want a number with k, m or g, such as 900m")
	}
	unit := strings.IndexByte("kmg", text[len(text)-1]|0x20)
	n, err := strconv.ParseFloat(text[:len(text)-1], 64)
	if size := n * math.Exp2(float64(10*(unit+1))); unit >= 0 && err == nil && size >= 1 && size < 1<<62 {
		return int64(size), nil
	}
	return 0, fmt.Errorf("%q is no size; want a number with k, m or g, such as 900m", text)
}

// reads measures what a build reads from the disk.
type reads struct {
	ours   builder
	tmp    string
	memory string
	w      io.Writer
}

func runReads(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseReads(args, stderr)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("reads bounds the memory of a build by a control group, which needs root; run it with sudo")
	}
	tmp, err := os.MkdirTemp(o.tmp, "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	dir, err := o.images(ctx, tmp)
	if err != nil {
		return err
	}
	images, pairs, err := imagesOf(dir)
	if err != nil {
		return err
	}
	ours, err := newBuilder(ctx, tmp)
	if err != nil {
		return err
	}
	var b strings.Builder
	r := &reads{ours, tmp, o.memory, io.MultiWriter(stdout, &b)}
	if err := r.preface(o); err != nil {
		return err
	}
	if err := r.compare(ctx, o, dir, images, pairs); err != nil {
		return err
	}
	if o.write {
		return writeReport("READS.md", b.String())
	}
	return nil
}

// images returns the directory of the corpus, which it makes below tmp if need be.
func (o readsOptions) images(ctx context.Context, tmp string) (string, error) {
	switch o.corpus {
	case "real":
		return o.dir, nil
	case "large":
		dir := filepath.Join(tmp, "images")
		return dir, generate.Images{Series: 1, Versions: 3, Size: int64(o.largest) * 1e9}.Write(ctx, dir)
	default:
		return o.corpus, nil
	}
}

// preface writes what the results are of.
func (r *reads) preface(o readsOptions) error {
	size := ""
	if o.corpus == "large" {
		size = fmt.Sprintf(" --largest %d", o.largest)
	}
	fmt.Fprintf(r.w, "# Disk reads\n\n    go -C bench run . reads --corpus %s%s --limit %s --memory %s\n\n", o.corpus, size, o.limit, cmp.Or(o.memory, "''"))
	for _, line := range measure.Machine() {
		fmt.Fprintf(r.w, "- %s\n", line)
	}
	_, err := fmt.Fprint(r.w, `
Each row is a build of a repository from an empty mirror, by puavo-update-repository in a control group that may use no more memory than
the limit, page cache included. None of the images is in the page cache when it begins. "read" is what came from the disk, of mapped files
too, and "passes" is that by the bytes of all images: 1 is each image read once. "memory" is the peak of anonymous memory, "group" that of
all that the kernel counts for the group. Times are seconds, "CPU" by user and system of all processors.
`)
	return err
}

// bounded is what was measured of a build in a control group.
type bounded struct {
	measure.Figures
	limit, peak int64 // bytes
	deltas      map[string]int64
	dropped     int
	err         error // of the build
}

// compare measures all limits over a directory of images, and writes the table.
func (r *reads) compare(ctx context.Context, o readsOptions, dir string, images []string, pairs []pair) error {
	bytes, err := total(images)
	if err != nil {
		return err
	}
	var rows []bounded
	for _, limit := range o.limits {
		if err := memory.Drop(images); err != nil {
			return err
		}
		row, err := r.build(ctx, dir, limit)
		if err != nil {
			return err
		}
		if row.err == nil {
			row.err = complete(row.deltas, pairs, row.dropped)
		}
		rows = append(rows, row)
	}
	ahead, err := memory.ReadAhead(images[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(r.w, "\n## %s\n\n%d images of %s bytes, %d deltas wanted. The disk reads ahead %d KiB.\n\n",
		o.corpus, len(images), report.Group(bytes), len(pairs), ahead>>10)
	return writeReads(r.w, bytes, rows)
}

// build builds a mirror in a control group, and removes both. A build that fails,
// as for want of memory, is a row; err is what keeps the others from being made.
//
// Reads are counted by read_bytes in /proc/PID/io, which the kernel adds up where the
// process asks a disk for pages: for read calls, for faults on mapped files, and for
// what is read ahead of both, since these happen in the process that waits for them.
// The control group of block devices does not do: it has no counter on machines whose
// disk has no policy of its own, and counts twice what goes through stacked devices,
// such as an encrypted disk.
func (r *reads) build(ctx context.Context, dir string, limit int64) (row bounded, err error) {
	mirror, err := fresh(r.tmp, "mirror")
	if err != nil {
		return row, err
	}
	defer os.RemoveAll(mirror)
	group, err := memory.NewGroup(filepath.Base(r.tmp), limit)
	if err != nil {
		return row, err
	}
	row.limit = limit
	var summary outcome
	flags := builderFlags
	if r.memory != "" {
		flags = append([]string{"--memory", r.memory}, flags...)
	}
	row.Figures, summary, row.err = summarized(group.Command(ctx, string(r.ours), append(flags, dir, mirror)...))
	row.dropped, row.peak = summary.Dropped, group.Peak()
	if err := errors.Join(ctx.Err(), group.Remove()); err != nil {
		return row, err
	}
	row.deltas, err = deltaSizes(mirror)
	return row, err
}

// writeReads writes a table of builds from images, whose size is in bytes, and why
// those that failed did.
func writeReads(w io.Writer, images int64, rows []bounded) error {
	t := report.NewWriter(w, "limit MiB", "passes", "read MB", "time s", "CPU s", "memory MB", "group MB", "deltas", "delta MB")
	failed := ""
	for _, r := range rows {
		limit := r.limit >> 20
		if r.err != nil {
			t.Line(limit, "failed", "", "", "", "", "", "", "")
			failed += failure(fmt.Sprintf("%d MiB", limit), r.err)
			continue
		}
		t.Line(limit, report.Hundredths(float64(r.FromDisk)/float64(images)), report.MB(float64(r.FromDisk)), report.Hundredths(r.Seconds),
			report.Hundredths(r.CPU), report.MB(float64(r.Anonymous)), report.MB(float64(r.peak)), len(r.deltas),
			report.Hundredths(float64(sum(r.deltas, r.deltas))/1e6))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, failed)
	return err
}
