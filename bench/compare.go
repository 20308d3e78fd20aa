package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"puavo-image-repository/bench/internal/measure"
)

// row is what was measured of a peer over a pair.
type row struct {
	peer              peer
	diff, patch       []measure.Figures // a round each
	time, size, apply []float64         // ratios to the reference
	bytes             int64
	err               error
}

// compare runs all peers over a pair, in turn, and writes a table.
func compare(ctx context.Context, w io.Writer, p pair, peers []peer, rounds int, tmp string) error {
	info, err := os.Stat(p.target)
	if err != nil {
		return err
	}
	var rows []*row
	for _, peer := range peers {
		if peer.largest == 0 || info.Size() <= peer.largest {
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
	fmt.Fprintf(w, "\n## %s\n\n%s to %s bytes, %d rounds.\n\n", p.name, group(base.Size()), group(info.Size()), rounds)
	return write(w, rows)
}

// round runs a peer once and checks that what it applies is the target.
func (r *row) round(ctx context.Context, p pair, tmp string) error {
	f := files{p.base, p.target, filepath.Join(tmp, "sig"), filepath.Join(tmp, "delta"), filepath.Join(tmp, "out")}
	for _, path := range []string{f.sig, f.delta, f.out} {
		os.Remove(path)
	}
	diff, err := measure.Commands(ctx, r.peer.diff(f))
	if err != nil {
		return err
	}
	info, err := os.Stat(f.delta)
	if err != nil {
		return err
	}
	patch, err := measure.Commands(ctx, [][]string{r.peer.patch(f)})
	if err != nil {
		return err
	}
	if err := same(f.out, f.target); err != nil {
		return err
	}
	r.bytes, r.diff, r.patch = info.Size(), append(r.diff, diff), append(r.patch, patch)
	return nil
}

// same compares two files.
func same(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	ba, bb := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errA := io.ReadFull(fa, ba)
		m, errB := io.ReadFull(fb, bb)
		if !bytes.Equal(ba[:n], bb[:m]) {
			return fmt.Errorf("what it applies is not the target")
		}
		if errA != nil || errB != nil {
			return nil
		}
	}
}

// relate sets the ratios to the reference, round by round.
func (r *row) relate(ref *row) {
	for i := range min(len(r.diff), len(ref.diff)) {
		r.time = append(r.time, r.diff[i].Seconds/ref.diff[i].Seconds)
		r.apply = append(r.apply, r.patch[i].Seconds/ref.patch[i].Seconds)
		r.size = append(r.size, float64(r.bytes)/float64(ref.bytes))
	}
}

// table is a table in the making, aligned to be read as text too.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table {
	return table{tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)}
}

func (t table) line(cells ...any) {
	for _, c := range cells {
		fmt.Fprintf(t, "\t%v ", c)
	}
	fmt.Fprintln(t, "\t")
}

// write writes the table of a pair.
func write(w io.Writer, rows []*row) error {
	t := newTable(w)
	line := t.line
	line("peer", "time s", "ratio", "times faster", "memory MB", "resident MB", "delta MB", "ratio", "patch s", "ratio", "patch memory MB")
	line("---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:")
	for _, r := range rows {
		if r.err != nil {
			line(r.peer.name, "failed: "+r.err.Error(), "", "", "", "", "", "", "", "", "")
			continue
		}
		seconds := column(r.diff, func(f measure.Figures) float64 { return f.Seconds })
		patch := column(r.patch, func(f measure.Figures) float64 { return f.Seconds })
		line(r.peer.name, f2(seconds), f3(measure.Median(r.time)), f1(1/measure.Median(r.time)),
			mb(column(r.diff, func(f measure.Figures) float64 { return float64(f.Anonymous) })),
			mb(column(r.diff, func(f measure.Figures) float64 { return float64(f.Resident) })),
			fmt.Sprintf("%.2f", float64(r.bytes)/1e6), f3(measure.Median(r.size)), f2(patch), f3(measure.Median(r.apply)),
			mb(column(r.patch, func(f measure.Figures) float64 { return float64(f.Anonymous) })))
	}
	return t.Flush()
}

// column returns the median of one figure over the rounds.
func column[T any](all []T, of func(T) float64) float64 {
	var values []float64
	for _, v := range all {
		values = append(values, of(v))
	}
	return measure.Median(values)
}

func f1(v float64) string { return fmt.Sprintf("%.1f", v) }
func f2(v float64) string { return fmt.Sprintf("%.2f", v) }
func f3(v float64) string { return fmt.Sprintf("%.3f", v) }

// mb writes a number of bytes in MB; of a process that was too short to be looked
// at there is none.
func mb(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v/1e6)
}

// group writes a number with spaces between thousands.
func group(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + " " + s[i:]
	}
	return s
}
