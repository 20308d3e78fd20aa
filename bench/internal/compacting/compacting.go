// Package compacting compares compact deltas with other deltas.
package compacting

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/peer"
	"puavo-image-repository/bench/internal/report"
)

// Pair is a base and a target. A base of "" is none.
type Pair struct{ Name, Base, Target string }

// Options say what is measured.
type Options struct {
	Corpus string // its name
	Pairs  []Pair
	Only   string    // a regular expression of the peers
	Tmp    string    // a directory
	Log    io.Writer // gets a line of each delta, as a pair takes hours

	peers []peer.Peer
}

// Measure writes a table for each pair. Each peer makes and applies a delta once: sizes do
// not vary, and what is said of time is the CPU's.
func Measure(ctx context.Context, o Options, w io.Writer) error {
	only, err := regexp.Compile(o.Only)
	if err != nil {
		return err
	}
	peers, missing, err := peer.FindCompact(ctx, o.Tmp)
	if err != nil {
		return err
	}
	o.peers = slices.DeleteFunc(peers, func(p peer.Peer) bool { return p.Name != peer.Ours && !only.MatchString(p.Name) })
	o.heading(w, missing)
	for _, p := range o.Pairs {
		if p.Base == "" {
			p.Base = filepath.Join(o.Tmp, "nothing")
			if err := os.WriteFile(p.Base, nil, 0o666); err != nil {
				return err
			}
		}
		if err := o.pair(ctx, p, w); err != nil {
			return err
		}
	}
	return nil
}

// heading writes what the results are of.
func (o Options) heading(w io.Writer, missing []string) {
	fmt.Fprintf(w, "# Compact deltas\n\n    go -C bench run . compact --corpus %s\n\n", o.Corpus)
	for _, line := range measure.Machine() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	for _, p := range o.peers {
		if len(p.Version) > 0 {
			fmt.Fprintf(w, "- %s\n", measure.FirstLine(p.Version...))
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(w, "- not installed: %s\n", strings.Join(missing, ", "))
	}
	fmt.Fprintln(w, "\nRatios are to the first row. Memory is the peak of anonymous memory.")
}

// pair compares the peers over a pair.
func (o Options) pair(ctx context.Context, p Pair, w io.Writer) error {
	base, err := os.Stat(p.Base)
	if err != nil {
		return err
	}
	target, err := os.Stat(p.Target)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n## %s\n\n%s to %s bytes.\n\n", p.Name, report.Group(base.Size()), report.Group(target.Size()))
	t := report.NewWriter(w, "delta", "MB", "ratio", "make CPU s", "make memory MB", "apply CPU s", "apply memory MB")
	var reference int64
	for _, x := range o.peers {
		if base.Size() == 0 && !x.Full || x.Largest > 0 && target.Size() > x.Largest {
			continue
		}
		r, err := o.run(ctx, p, x)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s, %s: %w", p.Name, x.Name, err)
		}
		if x.Name == peer.Ours {
			reference = r.bytes
		}
		fmt.Fprintf(o.Log, "%s, %s: %d bytes, made in %.1f s, applied in %.1f\n", p.Name, x.Name, r.bytes, r.make.CPU, r.apply.CPU)
		t.Line(x.Name, report.Hundredths(float64(r.bytes)/1e6), ratio(r.bytes, reference), report.Hundredths(r.make.CPU),
			report.MB(float64(r.make.Anonymous)), report.Hundredths(r.apply.CPU), report.MB(float64(r.apply.Anonymous)))
	}
	return t.Flush()
}

// ratio returns the ratio to the reference, which peers before it do not have.
func ratio(n, reference int64) string {
	if reference == 0 {
		return "-"
	}
	return report.Thousandths(float64(n) / float64(reference))
}

type result struct {
	bytes       int64
	make, apply measure.Figures
}

// run makes and applies a delta, and compares what that makes with the target.
func (o Options) run(ctx context.Context, p Pair, x peer.Peer) (r result, err error) {
	path := func(name string) string { return filepath.Join(o.Tmp, name) }
	f := peer.Files{Base: p.Base, Target: p.Target, Signature: path("sig"), Delta: path("delta"), Out: path("out")}
	for _, name := range []string{f.Signature, f.Delta, f.Out} {
		defer os.Remove(name)
	}
	if r.make, err = measure.Commands(ctx, x.Diff(f)); err != nil {
		return r, err
	}
	info, err := os.Stat(f.Delta)
	if err != nil {
		return r, err
	}
	r.bytes = info.Size()
	if r.apply, err = measure.Commands(ctx, [][]string{x.Patch(f)}); err != nil {
		return r, err
	}
	return r, files.Same(f.Out, f.Target)
}
