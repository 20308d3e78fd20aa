package archivecmd

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/cmd/internal/textfile"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo/archive"
	"puavo-image-repository/meta/untrusted"
)

// table writes rows whose cells are separated by tabs.
func table(w io.Writer, rows func(t io.Writer)) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rows(t)
	return t.Flush()
}

// printAdd prints what comes, or has come, into the archive.
func printAdd(w io.Writer, p archive.AddPlan, planned bool) error {
	store := untrusted.Show(p.Store)
	if planned {
		err := table(w, func(t io.Writer) {
			for _, a := range p.Add {
				how := p.Way
				if a.Same != "" {
					how = "same as " + a.Same
				} else if a.Inserted {
					how += ", between others"
				}
				fmt.Fprintf(t, "add\t%s\t%s\t%s\t%s\n", ui.Bytes(a.Size), a.Group, a.Version, how)
			}
			for _, why := range p.Refused {
				fmt.Fprintf(t, "refuse\t\t%s\n", untrusted.ShowLines(why))
			}
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s: %d versions to add, %d already there; %s of duplicates are stored once; needs about %s, %s are free.\n",
			store, len(p.Add), p.Kept, ui.Bytes(p.Saved), ui.Bytes(p.Space), ui.Bytes(p.Free))
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %d versions added, %d already there.\n", store, len(p.Add), p.Kept)
	return err
}

// printList prints the versions.
func printList(w io.Writer, all []archive.Version) error {
	var size, stored int64
	err := table(w, func(t io.Writer) {
		fmt.Fprintln(t, "GROUP\tVERSION\tSIZE\tSTORED\tFROM\tADDED\tNOTE")
		for _, v := range all {
			size += v.Size
			stored += v.Stored
			note := untrusted.Show(v.Note)
			if v.Protected {
				note = strings.TrimSpace("protected " + note)
			}
			if !v.Due.IsZero() {
				note = strings.TrimSpace("in the trash until " + v.Due.Local().Format(time.DateTime) + " " + note)
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.Group, v.Version, ui.Bytes(v.Size), ui.Bytes(v.Stored),
				cmp.Or(v.Parent, "whole"), v.Added.Local().Format(time.DateTime), note)
		}
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d versions of %s, stored in %s.\n", len(all), ui.Bytes(size), ui.Bytes(stored))
	return err
}

// printVersion prints a version, and how it is made without this program.
func printVersion(w io.Writer, path []archive.Version) error {
	v := path[len(path)-1]
	err := table(w, func(t io.Writer) {
		fmt.Fprintf(t, "version\t%s of %s\nimage\t%s\nsize\t%d bytes\n", v.Version, v.Group, v.Name, v.Size)
		if v.SHA256 != (cksum.Digest256{}) {
			fmt.Fprintf(t, "sha256\t%s\n", v.SHA256)
		}
		fmt.Fprintf(t, "blake3\t%s\n", v.BLAKE3)
		fmt.Fprintf(t, "stored\t%s, %d bytes, %s\nadded\t%s\n", v.Form, v.Stored, v.File, v.Added.Local().Format(time.DateTime))
		if !v.Modified.IsZero() {
			fmt.Fprintf(t, "modified\t%s\n", v.Modified.Local().Format(time.DateTime))
		}
		if v.Protected {
			fmt.Fprintln(t, "protected\tyes")
		}
		if v.Note != "" {
			fmt.Fprintf(t, "note\t%s\n", untrusted.Show(v.Note))
		}
		if !v.Due.IsZero() {
			fmt.Fprintf(t, "trash\tuntil %s\n", v.Due.Local().Format(time.DateTime))
		}
		for _, file := range v.Attached {
			fmt.Fprintf(t, "attached\t%s\n", untrusted.Show(file))
		}
	})
	if err != nil {
		return err
	}
	return printCommands(w, path)
}

// printCommands prints the commands that restore a version, in the directory of the archive.
func printCommands(w io.Writer, path []archive.Version) error {
	if len(path) == 1 {
		return nil
	}
	base := path[0].File
	fmt.Fprintln(w, "\nWithout this program, in the archive:")
	for _, v := range path[1:] {
		out := filepath.Join("/tmp", v.Version+".img")
		patch := "rdiff patch"
		if v.Form == archive.Compact {
			patch = "puavo-rdiff patch" // that of this project
		}
		if _, err := fmt.Fprintf(w, "   %s %s %s %s\n", patch, base, v.File, out); err != nil {
			return err
		}
		base = out
	}
	return nil
}

// printRestore prints what a restore would do.
func printRestore(w io.Writer, r archive.Restored) error {
	kind := "file"
	if r.Device {
		kind = "device"
	}
	_, err := fmt.Fprintf(w, "%s: the %s gets %s, version %s of %s, through %d deltas; needs %s of memory, and %s on the disk for temporary files, %s in all; %s are free.\n",
		untrusted.Show(r.Out), kind, ui.Bytes(r.Size), r.Version, r.Group, r.Deltas, ui.Bytes(r.Memory), ui.Bytes(r.Temporary), ui.Bytes(r.Space), ui.Bytes(r.Free))
	return err
}

// printReport prints what is wrong.
func printReport(w io.Writer, r archive.Report, took time.Duration) error {
	for _, f := range r.Findings {
		where := f.Group
		if f.Version != "" {
			where += " " + f.Version
		}
		hurt := ""
		if len(f.Hurt) > 1 {
			hurt = fmt.Sprintf("; %d versions cannot be restored because of it", len(f.Hurt))
		}
		if _, err := fmt.Fprintf(w, "%s: %s%s\n", where, untrusted.ShowLines(f.Problem), hurt); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d versions of %d groups verified, %s read, %d problems; %v.\n", r.Versions, r.Groups, ui.Bytes(r.Bytes), len(r.Findings), took.Round(10*time.Millisecond))
	return err
}

// printPrune prints what a policy keeps, and why.
func printPrune(w io.Writer, p archive.PrunePlan) error {
	for _, g := range p.Groups {
		fmt.Fprintf(w, "%s:\n", g.Group)
		err := table(w, func(t io.Writer) {
			for _, c := range g.Versions {
				what := "keep"
				if !c.Kept() {
					what = "remove"
				}
				fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", what, c.Version, ui.Bytes(c.Stored), strings.Join(c.Reasons, ", "))
			}
			for _, v := range g.Rebase {
				fmt.Fprintf(t, "  new delta\t%s\t\t\n", v)
			}
			for _, v := range g.Whole {
				fmt.Fprintf(t, "  store whole\t%s\t\t\n", v)
			}
		})
		if err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d versions of %s go to the trash, until %s; needs about %s, %s are free.\n",
		p.Remove, ui.Bytes(p.Bytes), p.Due.Local().Format(time.DateTime), ui.Bytes(p.Space), ui.Bytes(p.Free))
	return err
}

// printCollected prints what was removed.
func printCollected(w io.Writer, r archive.Collected, planned bool) error {
	removed := "removed"
	if planned {
		removed = "to remove"
	}
	err := table(w, func(t io.Writer) {
		for _, v := range r.Removed {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", removed, ui.Bytes(v.Size), v.Group, v.Version)
		}
		for _, v := range r.Waiting {
			fmt.Fprintf(t, "waits until %s\t%s\t%s\t%s\n", v.Due.Local().Format(time.DateTime), ui.Bytes(v.Size), v.Group, v.Version)
		}
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%d versions of %s %s, %d wait.\n", len(r.Removed), ui.Bytes(r.Bytes), removed, len(r.Waiting))
	return err
}

// shows reports whether what a run did is printed though it failed.
func (call) shows(err error) bool {
	return errors.Is(err, archive.ErrWrong) || errors.Is(err, archive.ErrRefused)
}

// writeMetrics writes the metrics of a run.
func (c call) writeMetrics(s *archive.Store, file string, start time.Time, err error) error {
	store := c.args[len(c.args)-1]
	if c.Command.Name == "backup" {
		store = c.args[0]
	}
	dir, pathErr := filepath.Abs(store)
	if pathErr != nil {
		return fmt.Errorf("metrics file %s: %w", file, pathErr)
	}
	var size, stored int64
	all, _ := s.List(nil) // what is wrong there, the run itself says
	for _, v := range all {
		size += v.Size
		stored += v.Stored
	}
	success := 1.0
	if err != nil {
		success = 0
	}
	var b bytes.Buffer
	add := func(name, help string, value float64) {
		textfile.Gauge(&b, "puavo_archive_"+name, help, value, "archive", dir, "command", c.Command.Name)
	}
	add("last_run_timestamp_seconds", "When the last run ended, since 1970.", float64(time.Now().Unix()))
	add("last_run_success", "Whether the last run succeeded: 1, or 0 if it failed or was interrupted.", success)
	add("last_exit_code", "The exit code of the last run, see --help.", float64(c.ExitCode(c.Context, err)))
	add("duration_seconds", "How long the last run took.", time.Since(start).Round(time.Millisecond).Seconds())
	add("versions", "Versions in the archive, those in the trash too.", float64(len(all)))
	add("version_bytes", "Size of these versions.", float64(size))
	add("stored_bytes", "Size of their files in the archive.", float64(stored))
	return textfile.Write(file, b.Bytes())
}
