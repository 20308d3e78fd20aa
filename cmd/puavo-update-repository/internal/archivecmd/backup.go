package archivecmd

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/imagerepo/archive"
	"puavo-image-repository/meta/untrusted"
)

// backup returns the command backup.
func (t tool) backup() *cli.Command {
	c := t.command("backup", "STORE GUEST DISK...", "put the disks of a virtual machine into an archive", call.backup,
		limits(), planned(), reports(t.Tools), making(), []cli.Flag{
			&cli.StringFlag{Name: "at", Usage: "name the version `TIME`, such as 2024-01-31-120000, in UTC", DefaultText: "now"},
			&cli.StringSliceFlag{Name: "attach", Usage: "keep a copy of `FILE` with the version (can be given several times)"},
			&cli.StringFlag{Name: "rate-limit", Category: command.Limits, Usage: "read at most `SIZE` per second of the disks, e.g. 40m"},
			&cli.BoolFlag{Name: "ignore-space", Category: command.Limits, Usage: "begin even if the free space will probably not suffice"},
		})
	c.Description = `DISK is [NAME=]PATH of a raw file, a block device or a file that ends in
   .qcow2; [NAME=]qcow2:PATH or raw:PATH whatever its name; or an NBD export,
   [NAME=]nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH. Each becomes
   a version of the group GUEST/NAME.

   If the disk has a dirty bitmap named puavo-VERSION, after the newest version
   in the archive, only what it says has changed is read. Otherwise all is read.
   Who starts the backup creates the bitmap for the next one, see the manual.

   Example, with the guest switched off:
      V=$(date -u +%Y-%m-%d-%H%M%S)
      qemu-img bitmap --add web.qcow2 puavo-$V
      puavo-update-repository archive backup --at $V /srv/archive web web.qcow2

   Exit codes: ` + command.ExitCodes
	return c
}

func (c call) backup() error {
	o, err := c.making()
	if err != nil {
		return err
	}
	if o.Format != archive.Rdiff {
		return command.Usage("--format %s: disks are always stored as rdiff", untrusted.Quote(string(o.Format)))
	}
	b := archive.BackupOptions{Guest: c.args[1], Disks: c.args[2:], Attach: c.StringSlice("attach"), Version: c.String("at")}
	if limit := c.String("rate-limit"); limit != "" {
		if b.Rate, err = units.Size(limit); err != nil {
			return command.Usage("--rate-limit: %v", err)
		}
	}
	o.Create = true
	s, err := c.open(c.args[0], o)
	if err != nil {
		return err
	}
	defer s.Close()
	if c.Bool("dry-run") {
		p, err := s.PlanBackup(c.ctx, b)
		if err != nil {
			return err
		}
		return c.print(p, func() error { return printBackup(c.stdout, p, true) })
	}
	start := time.Now()
	p, err := s.Backup(c.ctx, b)
	c.screen.Done()
	return c.measured(s, start, err, func() error {
		return c.print(p, func() error { return printBackup(c.stdout, p, false) })
	})
}

// printBackup prints what is read of each disk, or was.
func printBackup(w io.Writer, p archive.BackupPlan, planned bool) error {
	err := table(w, func(t io.Writer) {
		for _, d := range p.Disks {
			how := "changes since " + d.Parent
			if d.Full != "" {
				how = "all: " + untrusted.Show(d.Full)
			}
			fmt.Fprintf(t, "%s\t%s\tread %s\t%s\t%s\n", d.Group, ui.Bytes(d.Size), ui.Bytes(d.Read), way(d), how)
		}
	})
	if err != nil {
		return err
	}
	if !planned {
		_, err = fmt.Fprintf(w, "%s: version %s of %s.\n", untrusted.Show(p.Store), p.Version, p.Guest)
		return err
	}
	_, err = fmt.Fprintf(w, "Version %s: needs up to %s of disk space, of %s free.\n", p.Version, ui.Bytes(p.Space), ui.Bytes(p.Free))
	return err
}

// way says how the version before comes into the new one.
func way(d archive.BackupDisk) string {
	switch d.Way {
	case "copy":
		return "copies the version before: the archive's file system has no reflinks"
	case "reflink":
		return "shares the version before"
	}
	return "whole copy"
}
