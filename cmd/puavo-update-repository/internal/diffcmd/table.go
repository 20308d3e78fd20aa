package diffcmd

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo/imagediff"
	"puavo-image-repository/meta/untrusted"
)

// table prints a line for each change, as it is found.
type table struct{ w io.Writer }

func (t *table) change(c imagediff.Change) error {
	details := ""
	if c.Kind == imagediff.Changed {
		details = "  " + strings.Join(detailsOf(c), ", ")
	}
	_, err := fmt.Fprintf(t.w, "%-7s  %10s  %10s  %s%s\n", c.Kind, sizeOf(c.Old), sizeOf(c.New), untrusted.Show(c.Path), details)
	return err
}

func (t *table) end(total imagediff.Sum, same int) error { return printTotal(t.w, total, same) }

// sizeOf returns the size of a regular file, and what anything else is.
func sizeOf(f *imagediff.File) string {
	switch {
	case f == nil:
		return "-"
	case f.Type == "file":
		return ui.Bytes(int64(min(f.Size, 1<<62)))
	default:
		return strings.TrimPrefix(f.Type, "character ")
	}
}

// detailsOf returns what changed of a file, and how.
func detailsOf(c imagediff.Change) (all []string) {
	old, now := c.Old, c.New
	for _, what := range c.What {
		var from, to string
		switch what {
		case imagediff.Type:
			from, to = old.Type, now.Type
		case imagediff.Target:
			from, to = untrusted.Quote(old.Target), untrusted.Quote(now.Target)
		case imagediff.Device:
			from, to = old.Device, now.Device
		case imagediff.Mode:
			from, to = old.Mode, now.Mode
		case imagediff.Owner:
			from, to = fmt.Sprintf("%d:%d", old.User, old.Group), fmt.Sprintf("%d:%d", now.User, now.Group)
		default:
			all = append(all, what)
			continue
		}
		all = append(all, what+" "+from+" to "+to)
	}
	return all
}

// sumTable prints a line for each directory in the end.
type sumTable struct {
	w    io.Writer
	sums imagediff.Directories
}

func (t *sumTable) change(c imagediff.Change) error {
	t.sums.Add(c)
	return nil
}

func (t *sumTable) end(total imagediff.Sum, same int) error {
	w := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "added\t\tremoved\t\tchanged\tfrom\tto\t")
	for _, d := range t.sums.All() {
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%d\t%s\t%s\t  %s\n", d.Added, bytes(d.AddedBytes), d.Removed, bytes(d.RemovedBytes), d.Changed, bytes(d.OldBytes), bytes(d.NewBytes), untrusted.Show(d.Path))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printTotal(t.w, total, same)
}

func printTotal(w io.Writer, s imagediff.Sum, same int) error {
	_, err := fmt.Fprintf(w, "%d added of %s, %d removed of %s, %d changed, %s to %s; %d the same.\n",
		s.Added, bytes(s.AddedBytes), s.Removed, bytes(s.RemovedBytes), s.Changed, bytes(s.OldBytes), bytes(s.NewBytes), same)
	return err
}

// bytes returns a number of bytes for people.
func bytes(n uint64) string { return ui.Bytes(int64(min(n, 1<<62))) }
