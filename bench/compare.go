package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/bench/internal/files"
	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/peer"
	"puavo-image-repository/bench/internal/report"
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
