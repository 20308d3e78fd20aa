package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"puavo-image-repository/bench/internal/farming"
	"puavo-image-repository/bench/internal/generate"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/meta"
)

// farmOptions are the flags of farm.
type farmOptions struct {
	farming.Options
	simulate, measure, write bool
	gb                       float64 // of each image that is simulated
	mb                       int64   // of each image that is generated
	dir, tmp                 string
	rounds                   int
}

func parseFarm(args []string, stderr io.Writer) (o farmOptions, err error) {
	o.Options = farming.Usual
	flags := flag.NewFlagSet("bench farm", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.simulate, "simulate", false, "only simulate, and start no workers")
	flags.BoolVar(&o.measure, "measure", false, "measure what rdiff deltas of the images in --dir take, in the place of known figures")
	flags.StringVar(&o.dir, "dir", "", "the directory that bench/corpus.sh filled, such as "+realDir+"; without it, workers make deltas of generated images alone")
	flags.Int64Var(&o.mb, "generated", 16, "generate images of about this size for compact deltas, and of 8 times that for rdiff ones, in `MB`")
	flags.Float64Var(&o.gb, "size", 10, "simulate images of this size, in `GB`")
	flags.IntVar(&o.Images, "images", o.Images, "simulate so many images of each series")
	flags.IntVar(&o.Cores, "cores", o.Cores, "simulate builder and workers with so many cores each")
	flags.IntVar(&o.rounds, "rounds", 3, "how many rounds of workers")
	flags.StringVar(&o.tmp, "tmp", "/var/tmp", "work in this directory, on the file system of the images; it takes three times their space")
	flags.BoolVar(&o.write, "write", false, "write bench/FARM.md too")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.mb < 1 || o.rounds < 1 || o.gb <= 0 || o.Images < 2 || o.Cores < 1 {
		return o, errors.New("want flags alone, sizes above 0, 2 images, 1 core and 1 round or more; see bench farm --help")
	}
	if o.measure && o.dir == "" {
		return o, errors.New("--measure needs real images, see --dir")
	}
	o.Size = o.gb * 1e9
	return o, nil
}

// runFarm predicts what a farm brings.
func runFarm(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseFarm(args, stderr)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(o.tmp, "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if tmp, err = filepath.Abs(tmp); err != nil {
		return err
	}
	var b strings.Builder
	out := io.MultiWriter(stdout, &b)
	fmt.Fprintf(out, "# Farms\n\n    go -C bench run . farm %s\n\n", strings.Join(args, " "))
	for _, line := range measure.Machine() {
		fmt.Fprintf(out, "- %s\n", line)
	}
	if !o.simulate {
		err = o.compare(ctx, tmp, out, stderr)
	}
	if err == nil && o.measure {
		err = o.costs(ctx, tmp)
	}
	if err == nil {
		err = farming.Simulate(ctx, o.Options, out)
	}
	if err == nil && o.write {
		err = writeReport("FARM.md", b.String())
	}
	return err
}

// compare has real workers make deltas: compact ones of generated images, and rdiff ones of larger
// ones and of real images, if there are any.
func (o farmOptions) compare(ctx context.Context, tmp string, w, log io.Writer) error {
	worker, err := newBuilder(ctx, tmp)
	if err != nil {
		return err
	}
	const larger = 8 // times, as rdiff deltas take less
	checks := []farming.Check{
		{Name: fmt.Sprintf("compact, generated, %d MB", o.mb), Compact: true, Real: farming.Real{Images: filepath.Join(tmp, "small")}},
		{Name: fmt.Sprintf("rdiff, generated, %d MB", larger*o.mb), Real: farming.Real{Images: filepath.Join(tmp, "large")}},
	}
	for i, mb := range []int64{o.mb, larger * o.mb} {
		if err := (generate.Images{Series: 2, Versions: 3, Size: mb * 1e6, Packs: true}).Write(ctx, checks[i].Images); err != nil {
			return err
		}
	}
	if o.dir != "" {
		checks = append(checks, farming.Check{Name: "rdiff, real", Real: farming.Real{Images: o.dir}})
	}
	for i := range checks {
		c := &checks[i]
		c.Worker, c.Tmp, c.Log = string(worker), tmp, log
		if c.Files, _, err = imagesOf(c.Images); err != nil {
			return err
		}
	}
	return farming.Compare(ctx, checks, o.rounds, seriesOf, w)
}

// seriesOf returns the series of an image by the name of its file.
func seriesOf(path string) string {
	name, err := meta.ParseName(filepath.Base(path))
	if err != nil {
		return ""
	}
	return name.Series()
}

// costs measures the rdiff deltas of the known changes, and what moving an image takes.
func (o *farmOptions) costs(ctx context.Context, tmp string) error {
	pairs, err := realPairs(o.dir)
	if err != nil {
		return err
	}
	small := pairs[1]
	pairs = append(pairs, pair{base: small.target, target: small.base})
	o.Changes = append([]farming.Change(nil), o.Changes...)
	for i, p := range pairs { // in the order of farming.Known
		if o.Changes[i].RDiff, err = farming.MeasureRDiff(ctx, p.base, p.target, tmp); err != nil {
			return err
		}
	}
	o.Moving, err = farming.MeasureMoving(ctx, small.base, true, tmp)
	return cmp.Or(err, ctx.Err())
}
