package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/predecessor"
	"puavo-image-repository/bench/internal/publishing"
	"puavo-image-repository/bench/internal/report"
)

// repo compares whole builds.
type repo struct {
	ours    builder
	tmp     string
	rounds  int
	missing []string // tools of the predecessor
	w       io.Writer
}

// repoOptions are the flags of repo.
type repoOptions struct {
	corpus, dir, tmp string
	rounds, largest  int
	write            bool
}

func parseRepo(args []string, stderr io.Writer) (o repoOptions, err error) {
	flags := flag.NewFlagSet("bench repo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.corpus, "corpus", "real", "real, many, large, or a directory of images; several with commas")
	flags.StringVar(&o.dir, "dir", "/var/tmp/corpus", "the directory that bench/corpus.sh filled, for real")
	flags.StringVar(&o.tmp, "tmp", "/var/tmp", "work in this directory, which should be on the file system of the images")
	flags.IntVar(&o.rounds, "rounds", 3, "how many rounds")
	flags.IntVar(&o.largest, "largest", 10, "the size of each image of large, in GB")
	flags.BoolVar(&o.write, "write", false, "write bench/REPOSITORY.md too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.largest < 1 {
		return o, fmt.Errorf("want flags alone, and rounds and sizes of 1 or more; see bench repo --help")
	}
	return o, nil
}

func runRepo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseRepo(args, stderr)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(o.tmp, "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	ours, err := newBuilder(ctx, tmp)
	if err != nil {
		return err
	}
	var b strings.Builder
	r := &repo{ours, tmp, o.rounds, missingTools(predecessor.Tools()), io.MultiWriter(stdout, &b)}
	if err := r.preface(o); err != nil {
		return err
	}
	for corpus := range strings.SplitSeq(o.corpus, ",") {
		if err := r.run(ctx, corpus, o); err != nil {
			return err
		}
	}
	if o.write {
		return writeReport("REPOSITORY.md", b.String())
	}
	return nil
}

// run measures one corpus.
func (r *repo) run(ctx context.Context, corpus string, o repoOptions) error {
	switch corpus {
	case "many":
		return r.alone(ctx, corpus, generate.Images{Series: 10, Versions: 20, Size: 2 << 20})
	case "large":
		once := *r // which takes minutes, long enough to tell
		once.rounds = 1
		return once.alone(ctx, corpus, generate.Images{Series: 1, Versions: 3, Size: int64(o.largest) * 1e9})
	case "real":
		return r.compare(ctx, corpus, o.dir)
	default:
		return r.compare(ctx, corpus, corpus)
	}
}

func missingTools(tools []string) []string {
	return slices.DeleteFunc(tools, func(tool string) bool {
		_, err := exec.LookPath(tool)
		return err == nil
	})
}

// preface writes what the results are of.
func (r *repo) preface(o repoOptions) error {
	size := ""
	if strings.Contains(o.corpus, "large") {
		size = fmt.Sprintf(" --largest %d", o.largest)
	}
	fmt.Fprintf(r.w, "# Whole repositories\n\n    go -C bench run . repo --corpus %s --rounds %d%s\n\n", o.corpus, o.rounds, size)
	for _, line := range measure.Machine() {
		fmt.Fprintf(r.w, "- %s\n", line)
	}
	if len(r.missing) > 0 {
		fmt.Fprintf(r.w, "- not installed: %s; the predecessor is left out\n", strings.Join(r.missing, ", "))
	} else {
		fmt.Fprintf(r.w, "- %s\n", measure.FirstLine("rdiff", "--version"))
	}
	_, err := fmt.Fprintf(r.w, `
Ours is puavo-update-repository %s IMAGES MIRROR, with an empty MIRROR unless
it is said otherwise; it also verifies each delta, flushes what it writes to the disk, and writes the meta. The predecessor is what its rake
file runs, two commands at a time: cksum, sha256sum and sha512sum of each image and delta, and rdiff --block-size=128. Its ruby, its mounts
and its meta are left out.

Times are wall seconds, "CPU" what all processes take of all processors, by user and system, medians of the rounds. "memory" is the peak of anonymous memory, of the predecessor that of the commands that run at
the same time; "resident" is with the files that are mapped. "read" is what read calls gave; what is read of mapped files is not in it.
Ratios are ours to the predecessor's in the same round, of "times" the other way round, and those of sizes of the deltas that both have.
`, strings.Join(builderFlags, " "))
	return err
}

// compare measures both over a directory of images, in turn.
func (r *repo) compare(ctx context.Context, name, dir string) error {
	images, pairs, err := imagesOf(dir)
	if err != nil {
		return err
	}
	var theirs, ours []built
	idle := step{name: "nothing to do"}
	for range r.rounds {
		if len(r.missing) == 0 {
			b, err := r.theirs(ctx, images, pairs)
			if err != nil {
				return fmt.Errorf("predecessor: %w", err)
			}
			theirs = append(theirs, b)
		}
		b, err := r.fromScratch(ctx, dir, pairs)
		if err != nil {
			return err
		}
		ours = append(ours, b)
		f, err := r.ours.idle(ctx, dir, r.mirror())
		if err != nil {
			return err
		}
		idle.add(f, 0, len(b.deltas))
	}
	if err := r.head(name, images, pairs); err != nil {
		return err
	}
	if err := r.writeComparison(theirs, ours); err != nil {
		return err
	}
	return r.finish(ctx, []step{idle}, pairs)
}

// imagesOf returns the images of a directory and the deltas that are wanted.
func imagesOf(dir string) (images []string, pairs []pair, err error) {
	images, err = filepath.Glob(filepath.Join(dir, "*.img"))
	if err != nil || len(images) < 2 {
		return nil, nil, fmt.Errorf("%s has %d images, want two or more; bench/corpus.sh DIR makes some", dir, len(images))
	}
	if pairs, err = wanted(images); err != nil {
		return nil, nil, err
	}
	return images, pairs, files.Warm(images)
}

// theirs builds a repository as the predecessor, and removes it.
func (r *repo) theirs(ctx context.Context, images []string, pairs []pair) (built, error) {
	dir, err := fresh(r.tmp, "predecessor")
	if err != nil {
		return built{}, err
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return built{}, err
	}
	defer os.RemoveAll(dir)
	return buildPredecessor(ctx, images, pairs, dir)
}

// buildPredecessor builds a repository as the predecessor in an empty directory.
func buildPredecessor(ctx context.Context, images []string, pairs []pair, dir string) (built, error) {
	var deltas []predecessor.Delta
	for _, p := range pairs {
		deltas = append(deltas, predecessor.Delta{Name: p.name, Base: p.base, Target: p.target})
	}
	f, err := predecessor.Build(ctx, images, deltas, dir)
	if err != nil {
		return built{}, err
	}
	sizes, err := deltaSizes(dir)
	return built{f, sizes}, err
}

// mirror is where ours builds.
func (r *repo) mirror() string { return filepath.Join(r.tmp, "mirror") }

// fromScratch builds ours' mirror anew.
func (r *repo) fromScratch(ctx context.Context, dir string, pairs []pair) (built, error) {
	mirror, err := fresh(r.tmp, "mirror")
	if err != nil {
		return built{}, err
	}
	f, summary, err := r.ours.build(ctx, dir, mirror)
	if err != nil {
		return built{}, err
	}
	sizes, err := deltaSizes(mirror)
	if err != nil {
		return built{}, err
	}
	return built{f, sizes}, complete(sizes, pairs, summary.Dropped)
}

// head writes what a corpus is.
func (r *repo) head(name string, images []string, pairs []pair) error {
	bytes, err := total(images)
	if err != nil {
		return err
	}
	linked := "Ours links the images into its mirror."
	inMirror, err := os.Stat(filepath.Join(r.mirror(), filepath.Base(images[0])))
	if err != nil {
		return err
	}
	if image, err := os.Stat(images[0]); err != nil || !os.SameFile(image, inMirror) {
		linked = "Ours copies the images into its mirror, which the predecessor does not: --tmp is on another file system."
	}
	_, err = fmt.Fprintf(r.w, "\n## %s\n\n%d images of %s bytes, %d deltas wanted, %d rounds. %s\n",
		name, len(images), report.Group(bytes), len(pairs), r.rounds, linked)
	return err
}

// writeComparison writes the table of both.
func (r *repo) writeComparison(theirs, ours []built) error {
	fmt.Fprintln(r.w)
	t := report.NewWriter(r.w, "builder", "time s", "times faster", "CPU s", "times less", "deltas", "delta MB", "ratio", "memory MB", "ratio", "resident MB")
	among := ours[0].deltas
	seconds := func(b built) float64 { return b.Seconds }
	cpu := func(b built) float64 { return b.CPU }
	size := func(b built) float64 { return float64(sum(b.deltas, among)) }
	memory := func(b built) float64 { return float64(b.Anonymous) }
	resident := func(b built) float64 { return float64(b.Resident) }
	for _, row := range []struct {
		name   string
		builds []built
	}{{"predecessor", theirs}, {"ours", ours}} {
		b := row.builds
		if len(b) == 0 {
			t.Line(row.name, "not installed: "+strings.Join(r.missing, ", "), "", "", "", "", "", "", "", "", "")
			continue
		}
		all := b[0].deltas
		t.Line(row.name, report.Hundredths(measure.Column(b, seconds)), ratio(theirs, b, seconds, report.Tenths),
			report.Hundredths(measure.Column(b, cpu)), ratio(theirs, b, cpu, report.Tenths), len(all), fmt.Sprintf("%.2f", float64(sum(all, all))/1e6),
			ratio(b, theirs, size, report.Thousandths), report.MB(measure.Column(b, memory)), ratio(b, theirs, memory, report.Thousandths), report.MB(measure.Column(b, resident)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(theirs) > 0 && len(among) < len(theirs[0].deltas) {
		fmt.Fprintf(r.w, "\nOurs leaves out %d deltas that are too large a share of their image.\n", len(theirs[0].deltas)-len(among))
	}
	return nil
}

// ratio writes the median of a figure's ratios, of the rounds in which both are
// known.
func ratio(builds, others []built, of func(built) float64, format func(float64) string) string {
	var values []float64
	for i := range min(len(builds), len(others)) {
		if a, b := of(builds[i]), of(others[i]); a > 0 && b > 0 {
			values = append(values, a/b)
		}
	}
	if len(values) == 0 {
		return "-"
	}
	return format(measure.Median(values))
}

// total returns the size of some files.
func total(paths []string) (bytes int64, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return 0, err
		}
		bytes += info.Size()
	}
	return bytes, nil
}

// publishOptions are the flags of publish.
type publishOptions struct {
	corpus, dir, tmp, mirror string
	rounds                   int
	write                    bool
}

func parsePublish(args []string, stderr io.Writer) (o publishOptions, err error) {
	flags := flag.NewFlagSet("bench publish", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.corpus, "corpus", "real", "real, small, or a directory of images")
	flags.StringVar(&o.dir, "dir", realDir, "the directory that bench/corpus.sh filled, for real")
	flags.StringVar(&o.tmp, "tmp", "/var/tmp", "work in this directory, which should be on the file system of the images")
	flags.StringVar(&o.mirror, "mirror", "", "build the mirror in this directory, or use the one that is there, and keep it")
	flags.IntVar(&o.rounds, "rounds", 3, "how many rounds")
	flags.BoolVar(&o.write, "write", false, "write bench/PUBLISH.md too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.rounds < 1 {
		return o, errors.New("want flags alone, and 1 round or more; see bench publish --help")
	}
	return o, nil
}

// runPublish compares publishers.
func runPublish(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parsePublish(args, stderr)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(o.tmp, "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	options, err := o.build(ctx, tmp)
	if err != nil {
		return err
	}
	var b strings.Builder
	out := io.MultiWriter(stdout, &b)
	fmt.Fprintf(out, "# Publishing\n\n    go -C bench run . publish --corpus %s --rounds %d\n\n", o.corpus, o.rounds)
	for _, line := range measure.Machine() {
		fmt.Fprintf(out, "- %s\n", line)
	}
	err = publishing.Measure(ctx, options, out)
	if err == nil && o.write {
		err = writeReport("PUBLISH.md", b.String())
	}
	return err
}

// build builds our command and the mirror.
func (o publishOptions) build(ctx context.Context, tmp string) (p publishing.Options, err error) {
	if tmp, err = filepath.Abs(tmp); err != nil {
		return p, err
	}
	if o.mirror, err = filepath.Abs(cmp.Or(o.mirror, filepath.Join(tmp, "mirror"))); err != nil {
		return p, err
	}
	images, _, err := clientCorpus(ctx, clientOptions{corpus: o.corpus, dir: o.dir}, tmp)
	if err != nil {
		return p, err
	}
	ours, err := newBuilder(ctx, tmp)
	if err != nil {
		return p, err
	}
	_, _, err = ours.build(ctx, images, o.mirror)
	return publishing.Options{Mirror: o.mirror, Publisher: string(ours), Tmp: tmp, Rounds: o.rounds}, err
}
