package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"puavo-image-repository/bench/internal/archiving"
	"puavo-image-repository/bench/internal/breakeven"
	"puavo-image-repository/bench/internal/build"
	"puavo-image-repository/bench/internal/compacting"
	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/peer"
	"puavo-image-repository/bench/internal/report"
	"puavo-image-repository/meta"
)

// row is what was measured of a peer over a pair.
type row struct {
	peer                   peer.Peer
	diff, patch            []measure.Figures // a round each
	time, cpu, size, apply []float64         // ratios to the reference
	bytes                  int64
	err                    error
}

// compare runs all peers over a pair, in turn, and writes a table.
func compare(ctx context.Context, w io.Writer, p pair, peers []peer.Peer, rounds int, tmp string) error {
	info, err := os.Stat(p.target)
	if err != nil {
		return err
	}
	var rows []*row
	for _, peer := range peers {
		if peer.Largest == 0 || info.Size() <= peer.Largest {
			rows = append(rows, &row{peer: peer})
		}
	}
	for range rounds {
		for _, r := range rows {
			if r.err == nil {
				r.err = r.round(ctx, p, tmp)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	for _, r := range rows {
		r.relate(rows[0])
	}
	base, err := os.Stat(p.base)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n## %s\n\n%s to %s bytes, %d rounds.\n\n", p.name, report.Group(base.Size()), report.Group(info.Size()), rounds)
	return write(w, rows)
}

// round runs a peer once and checks that what it applies is the target.
func (r *row) round(ctx context.Context, p pair, tmp string) error {
	f := peer.Files{Base: p.base, Target: p.target, Signature: filepath.Join(tmp, "sig"), Delta: filepath.Join(tmp, "delta"), Out: filepath.Join(tmp, "out")}
	for _, path := range []string{f.Signature, f.Delta, f.Out} {
		os.Remove(path)
	}
	diff, err := measure.Commands(ctx, r.peer.Diff(f))
	if err != nil {
		return err
	}
	info, err := os.Stat(f.Delta)
	if err != nil {
		return err
	}
	patch, err := measure.Commands(ctx, [][]string{r.peer.Patch(f)})
	if err != nil {
		return err
	}
	if err := files.Same(f.Out, f.Target); err != nil {
		return err
	}
	r.bytes, r.diff, r.patch = info.Size(), append(r.diff, diff), append(r.patch, patch)
	return nil
}

// relate sets the ratios to the reference, round by round.
func (r *row) relate(ref *row) {
	for i := range min(len(r.diff), len(ref.diff)) {
		r.time = append(r.time, r.diff[i].Seconds/ref.diff[i].Seconds)
		r.cpu = append(r.cpu, r.diff[i].CPU/ref.diff[i].CPU)
		r.apply = append(r.apply, r.patch[i].Seconds/ref.patch[i].Seconds)
		r.size = append(r.size, float64(r.bytes)/float64(ref.bytes))
	}
}

// write writes the table of a pair, and why the peers that failed did.
func write(w io.Writer, rows []*row) error {
	failed := ""
	t := report.NewWriter(w, "peer", "time s", "ratio", "times faster", "CPU s", "ratio", "memory MB", "resident MB", "delta MB", "ratio",
		"patch s", "ratio", "patch CPU s", "patch memory MB")
	for _, r := range rows {
		if r.err != nil {
			t.Line(append([]any{r.peer.Name, "failed"}, slices.Repeat([]any{""}, 12)...)...)
			failed += failure(r.peer.Name, r.err)
			continue
		}
		seconds := measure.Column(r.diff, func(f measure.Figures) float64 { return f.Seconds })
		patch := measure.Column(r.patch, func(f measure.Figures) float64 { return f.Seconds })
		t.Line(r.peer.Name, report.Hundredths(seconds), ratioOf(r.time), report.Tenths(1/measure.Median(r.time)),
			report.Hundredths(measure.Column(r.diff, cpu)), ratioOf(r.cpu),
			report.MB(measure.Column(r.diff, anonymous)), report.MB(measure.Column(r.diff, func(f measure.Figures) float64 { return float64(f.Resident) })),
			report.Hundredths(float64(r.bytes)/1e6), ratioOf(r.size),
			report.Hundredths(patch), ratioOf(r.apply), report.Hundredths(measure.Column(r.patch, cpu)), report.MB(measure.Column(r.patch, anonymous)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, failed)
	return err
}

// failure returns a paragraph that tells why a row has no figures, in a line.
func failure(of string, err error) string {
	return fmt.Sprintf("\nFailed, %s: %s\n", of, strings.Join(strings.Fields(err.Error()), " "))
}

// cpu and anonymous return figures for columns.
func cpu(f measure.Figures) float64       { return f.CPU }
func anonymous(f measure.Figures) float64 { return float64(f.Anonymous) }

// ratioOf writes the median of ratios.
func ratioOf(values []float64) string { return report.Thousandths(measure.Median(values)) }

// compactOptions are the options of both comparisons of compact deltas.
type compactOptions struct {
	options
	pairs, tmp string
}

// flags returns the flags of a command that writes a report.
func (o *compactOptions) flags(command, report string, stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("bench "+command, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.corpus, "corpus", "real", "real, repacked, raw, or a directory of images")
	flags.StringVar(&o.dir, "dir", "", "the directory that bench/corpus.sh filled, for real ("+realDir+"), bench/repack.sh, for repacked ("+repackedDir+"), or bench/raw.sh, for raw ("+rawDir+")")
	flags.StringVar(&o.pairs, "pairs", "", "compare only the pairs whose names match this regular expression")
	flags.StringVar(&o.tmp, "tmp", "/var/tmp", "work in this directory, on the file system of the images; it takes several times the space of two images")
	flags.BoolVar(&o.write, "write", false, "write bench/"+report+" too")
	return flags
}

// measure has the pairs measured in a directory of their own, and writes the report.
func (o *compactOptions) measure(report string, stdout io.Writer, measure func(dir string, pairs []compacting.Pair, w io.Writer) error) error {
	names, err := regexp.Compile(o.pairs)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.tmp, "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	pairs, err := compactPairs(o.options, dir, names)
	if err != nil {
		return err
	}
	var text strings.Builder
	err = measure(dir, pairs, io.MultiWriter(stdout, &text))
	if err == nil && o.write {
		err = writeReport(report, text.String())
	}
	return err
}

// runCompact compares compact deltas with others.
func runCompact(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o compactOptions
	flags := o.flags("compact", "COMPACT.md, or, of repacked, REPACKED.md,", stderr)
	flags.StringVar(&o.only, "only", "", "run only the deltas that match this regular expression, and our rdiff")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return o.measure(compactReportOf(o.corpus), stdout, func(dir string, pairs []compacting.Pair, w io.Writer) error {
		return compacting.Measure(ctx, compacting.Options{Corpus: o.corpus, Pairs: pairs, Only: o.only, Tmp: dir, Log: stderr}, w)
	})
}

// runBreakeven measures at which rates compact deltas are faster.
func runBreakeven(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o compactOptions
	b := breakeven.Options{Log: stderr}
	const report = "BREAKEVEN.md"
	flags := o.flags("breakeven", report, stderr)
	rates := flags.String("rates", "2,10,40,100,0", "rates of the line in Mbit/s; 0 is no limit")
	flags.IntVar(&b.Cores, "cores", 0, "how many cores the client may use; 0 is all")
	flags.StringVar(&b.Deltas, "deltas", "/var/tmp/breakeven", "keep the deltas in this directory, and use those that are there")
	err := flags.Parse(args)
	if err != nil {
		return err
	}
	if b.Rates, err = breakeven.ParseRates(*rates); err != nil {
		return err
	}
	return o.measure(report, stdout, func(dir string, pairs []compacting.Pair, w io.Writer) error {
		b.Corpus, b.Tmp = o.corpus, dir
		for _, p := range pairs {
			b.Pairs = append(b.Pairs, breakeven.Pair(p))
		}
		if err := buildInto(ctx, &b); err != nil {
			return err
		}
		return breakeven.Measure(ctx, b, w)
	})
}

// runYear measures what a year of a school takes.
func runYear(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var corpus clientOptions
	b, s := breakeven.Options{Log: stderr}, breakeven.School{}
	flags := flag.NewFlagSet("bench year", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&corpus.corpus, "corpus", "real", "real, small, or a directory of images, which are the releases in turn")
	flags.StringVar(&corpus.dir, "dir", "", "the directory that bench/corpus.sh filled, for real ("+realDir+")")
	flags.IntVar(&s.Releases, "releases", 26, "releases in a year")
	flags.IntVar(&s.Laptops, "laptops", 100, "laptops of the school")
	flags.IntVar(&s.Rate, "rate", 10, "rate of the school's line in Mbit/s")
	flags.StringVar(&b.Deltas, "deltas", "/var/tmp/year", "keep the deltas in this directory, and use those that are there")
	tmp := flags.String("tmp", "/var/tmp", "work in this directory, on the file system of the images")
	write := flags.Bool("write", false, "write bench/YEAR.md too")
	err := flags.Parse(args)
	if err != nil {
		return err
	}
	if b.Tmp, err = os.MkdirTemp(*tmp, "bench-*"); err != nil {
		return err
	}
	defer os.RemoveAll(b.Tmp)
	b.Corpus = corpus.corpus
	images, _, err := clientCorpus(ctx, corpus, b.Tmp)
	if err != nil {
		return err
	}
	if s.Images, _, err = imagesOf(images); err != nil {
		return err
	}
	if err := buildInto(ctx, &b); err != nil {
		return err
	}
	var text strings.Builder
	err = breakeven.Year(ctx, b, s, io.MultiWriter(stdout, &text))
	if err == nil && *write {
		err = writeReport("YEAR.md", text.String())
	}
	return err
}

// buildInto builds the client and rdiff in the directory of the options.
func buildInto(ctx context.Context, b *breakeven.Options) error {
	b.Client, b.Rdiff = filepath.Join(b.Tmp, "puavo-update-image"), filepath.Join(b.Tmp, "rdiff")
	for _, command := range []string{b.Client, b.Rdiff} {
		if err := build.Command(ctx, filepath.Base(command), command); err != nil {
			return err
		}
	}
	return nil
}

// compactReportOf returns the name of the report on compact deltas of a corpus.
func compactReportOf(corpus string) string {
	if corpus == "repacked" {
		return "REPACKED.md"
	}
	return "COMPACT.md"
}

// compactPairs returns the pairs of a corpus for compact deltas, whose names match: of real,
// also the small change the other way round, and the second image alone.
func compactPairs(o options, tmp string, names *regexp.Regexp) (all []compacting.Pair, err error) {
	pairs, err := corpus(o, tmp)
	if err != nil {
		return nil, err
	}
	if o.corpus == "real" {
		small := pairs[1]
		pairs = append(pairs, pair{name: "three applications more", base: small.target, target: small.base}, pair{name: "an image alone", target: small.target})
	}
	for _, p := range pairs {
		if names.MatchString(p.name) {
			all = append(all, compacting.Pair{Name: p.name, Base: p.base, Target: p.target})
		}
	}
	return all, nil
}

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
