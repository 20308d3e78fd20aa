// Command bench compares this project with its peers, over a corpus of pairs of
// images. It is a module of its own. Run it at the top of the repository:
//
//	go -C bench run . [flags]
//
// It works in the folder bench: relative paths in flags start there.
//
// Each peer runs as a process of its own, all of them in turn, several rounds; a
// ratio is that of two runs of one round, so that it holds when the machine's
// speed drifts, and what is printed are medians. Memory is the peak of what a
// process holds resident, and of the part of it that is not files in the page
// cache. Peers that are not installed are left out, and named.
//
// Corpora:
//
//	small   made from testdata and a fixed seed, needs no tools
//	real    DIR/*.img as bench/corpus.sh DIR makes them, see --dir
//	raw     DIR/*.img as bench/raw.sh DIR makes them, see --dir: an ext4 and an ISO
//	        image, a table of records, a sparse disk; images that are no squashfs
//	growth  generated pairs of 1 GB to --largest GB, for time and memory by size;
//	        our default effort alone, which is its own reference
//	DIR     your own images: each is diffed to from the one before it
//
// The table is printed. With --write it is written to bench/RESULTS.md, that of raw
// to bench/RAW.md, and that of growth to bench/GROWTH.md.
//
// # Whole repositories
//
//	go -C bench run . repo [flags]
//
// compares building a repository of a directory of images with what the
// predecessor's rake file runs for the same images and deltas, rdiff and digests,
// in turn, several rounds. After that the mirror is updated with nothing to do,
// and checked with sha256sum and rdiff.
//
// Corpora, of which --corpus may name several, with commas:
//
//	real    DIR/*.img, see --dir
//	many    200 generated images of 2 MiB in 10 series; ours alone, and how it
//	        adds one more image
//	large   3 generated images of --largest GB; ours alone
//	DIR     your own images
//
// With --write the results are written to bench/REPOSITORY.md.
//
// # Disk reads
//
//	go -C bench run . reads [flags]
//
// builds a repository in a control group of memory, of --limit, with none of the images
// in the page cache, and tells how often it reads the images from the disk. It needs
// root, and images on a file system of a disk. Where memory is smaller than the images,
// that is what takes the time.
//
// Corpora:
//
//	real    DIR/*.img, see --dir
//	large   3 generated images of --largest GB
//	DIR     your own images
//
// With --write the results are written to bench/READS.md.
//
// # Clients
//
//	go -C bench run . client [flags]
//
// compares an update of one image by puavo-update-image with what the installed
// client runs for it, bench/installed.sh, from a local nginx, in turn, several
// rounds, each time from what is in the page cache. Ours runs with a base that it
// knows nothing of, and with one that an earlier run has seen.
//
// Corpora:
//
//	real    DIR/*.img, see --dir
//	small   2 generated images of 64 MiB
//	DIR     your own images: each is made from the one before it
//
// With --write the results are written to bench/CLIENT.md.
//
// # Publishing
//
//	go -C bench run . publish [flags]
//
// builds a mirror of a directory of images, and compares how puavo-update-repository
// publish sends it to sshd and to versitygw on this machine with rsync and rclone, in
// turn, several rounds. After that each of them is killed half-way and started again, and
// what it sends again is counted. Servers and tools that are not installed are left out,
// and named. It takes twice the space of the mirror, see --tmp, and as much again for
// images that cannot be linked into it.
//
// Corpora:
//
//	real    DIR/*.img, see --dir
//	small   2 generated images of 64 MiB
//	DIR     your own images
//
// With --write the results are written to bench/PUBLISH.md.
//
// # Archives
//
//	go -C bench run . archive [flags]
//
// stores several versions of an image by puavo-update-repository archive, with rdiff and with
// compact deltas, by restic, desync, and casync: bytes, time and memory of adding and restoring.
// Generated versions show what a restore through many deltas takes. Tools that are not
// installed are named in the report.
//
// Corpora:
//
//	real    DIR/*.img, see --dir
//	small   two generated images of 64 MB
//	DIR     your own images, of which the series with the most versions is taken
//
// With --write the results are written to bench/ARCHIVE.md.
//
// # Compact deltas
//
//	go -C bench run . compact [flags]
//
// compares compact deltas with rdiff deltas, ours and those with zstd over them, xdelta3
// and zstd: bytes, CPU time and memory of making and applying. Each runs once.
//
// Corpora:
//
//	real      DIR/*.img, see --dir: there and back again, and the second image alone
//	repacked  DIR/*.img as bench/repack.sh DIR makes them of real, see --dir
//	raw       DIR/*.img as bench/raw.sh DIR makes them, see --dir
//	DIR       your own images: each is made from the one before it
//
// With --write the results are written to bench/COMPACT.md, of repacked to
// bench/REPACKED.md.
//
//	go -C bench run . breakeven [flags]
//
// updates by puavo-update-image over rdiff deltas and over compact ones of the same
// corpora, from a local nginx at several rates, and shows which of them the client chooses.
// The deltas are made first, which takes hours, and kept in the directory of --deltas.
//
// With --write the results are written to bench/BREAKEVEN.md.
//
//	go -C bench run . year [flags]
//
// counts what the updates of a school in a year take of its line and of its laptops: with
// deltas of rdiff -b 128, with ours, and with compact ones. With --write the results are
// written to bench/YEAR.md.
//
// # Farms
//
//	go -C bench run . farm [flags]
//
// predicts how much faster deltas are made with 1 to 256 workers, from what each takes on a
// core, and where that ends: at the link, at the builder or at the workers. Before that it has
// 1 and 2 worker processes make deltas of generated images, and of those in --dir, and
// compares how long they take with what it predicts. With --simulate it starts no workers,
// and takes seconds.
//
// With --write the results are written to bench/FARM.md.
//
// # Pictures
//
//	go -C bench run . draw
//
// draws the pictures of the reports again, from the figures in their tables, without
// measuring: bench/pictures/NAME-light.svg and -dark.svg. With --write that is done
// after each of the above.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/peer"
	"puavo-image-repository/bench/internal/pictures"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	corpus, dir, only string
	rounds            int
	write             bool
	growth            int
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && commands[args[0]] != nil {
		return commands[args[0]](ctx, args[1:], stdout, stderr)
	}
	return runPairs(ctx, args, stdout, stderr)
}

// commands are the subcommands; without one, pairs are compared.
var commands = map[string]func(ctx context.Context, args []string, stdout, stderr io.Writer) error{
	"compact":   runCompact,
	"breakeven": runBreakeven,
	"year":      runYear,
	"repo":      runRepo,
	"client":    runClient,
	"reads":     runReads,
	"publish":   runPublish,
	"farm":      runFarm,
	"archive":   runArchive,
	"draw":      runDraw,
}

// runDraw draws the pictures of the reports in the folder bench again.
func runDraw(_ context.Context, args []string, stdout, _ io.Writer) error {
	if len(args) > 0 {
		return errors.New("draw takes no arguments: it reads the reports in the folder bench")
	}
	written, err := pictures.Draw(".")
	for _, path := range written {
		fmt.Fprintln(stdout, path)
	}
	return err
}

// writeReport writes a report into the folder bench, and draws its pictures.
func writeReport(name, text string) error {
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		return err
	}
	_, err := pictures.Draw(".")
	return err
}

// runPairs compares the peers.
func runPairs(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.corpus, "corpus", "small", "small, real, raw, growth, or a directory of images")
	flags.StringVar(&o.dir, "dir", "", "the directory that bench/corpus.sh filled, for real ("+realDir+"), or bench/raw.sh, for raw ("+rawDir+")")
	flags.StringVar(&o.only, "only", "", "run only the peers that match this regular expression, and rdiff -b 128")
	flags.IntVar(&o.rounds, "rounds", 3, "how many rounds")
	flags.IntVar(&o.growth, "largest", 16, "the largest pair of growth, in GB")
	flags.BoolVar(&o.write, "write", false, "write bench/RESULTS.md too, of raw RAW.md, of growth GROWTH.md")
	if err := flags.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("/var/tmp", "bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	pairs, err := corpus(o, tmp)
	if err != nil {
		return err
	}
	peers, missing, err := peer.Find(ctx, tmp, only, stderr)
	if err != nil {
		return err
	}
	if o.corpus == "growth" {
		peers, missing = slices.DeleteFunc(peers, func(p peer.Peer) bool { return p.Name != "ours, default" }), nil
	}
	var b strings.Builder
	out := io.MultiWriter(stdout, &b)
	if err := heading(out, o, peers, missing); err != nil {
		return err
	}
	for _, p := range pairs {
		if err := p.prepare(); err != nil {
			return err
		}
		if err := compare(ctx, out, p, peers, o.rounds, tmp); err != nil {
			return err
		}
		p.remove()
	}
	if o.write {
		return writeReport(reportOf(o.corpus), b.String())
	}
	return nil
}

// reportOf returns the name of the report of a corpus.
func reportOf(corpus string) string {
	switch corpus {
	case "raw":
		return "RAW.md"
	case "growth":
		return "GROWTH.md"
	default:
		return "RESULTS.md"
	}
}

// heading writes what the results are of.
func heading(w io.Writer, o options, peers []peer.Peer, missing []string) error {
	fmt.Fprintf(w, "# Results\n\n    go -C bench run . --corpus %s --rounds %d\n\n", o.corpus, o.rounds)
	for _, line := range measure.Machine() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	seen := make(map[string]bool)
	for _, p := range peers {
		if len(p.Version) > 0 && !seen[p.Version[0]] {
			seen[p.Version[0]] = true
			fmt.Fprintf(w, "- %s\n", measure.FirstLine(p.Version...))
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(w, "- not installed: %s\n", strings.Join(missing, ", "))
	}
	_, err := fmt.Fprintln(w, `
Times are wall seconds of signature and delta together, "CPU" what these take of all processors, by user and system, medians; "memory"
is the peak of anonymous memory, "resident" with the files that are mapped or cached for the process. Ratios are to the first row in the same round: below 1 is less than it takes.`)
	return err
}
