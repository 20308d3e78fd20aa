package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

func verifyCommand(settings *config.Settings, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check every file of a mirror against its meta and checksum lists",
		UsageText: "puavo-update-repository verify [options] [MIRROR_DIR]",
		Description: `Reads the whole mirror, and changes nothing unless --repair is given. That
   makes damaged files again from the images in the image directory, with the
   options of the last run, and then reads the mirror once more.

   If a build is running, or the lists change during the check, problems are
   checked again for a few seconds. If a problem persists while the build runs,
   a note says so: verify again after the build.

   Exit codes: ` + command.ExitCodes + `;
   1 also means damage. Orphans do not count as damage.`,
		Flags: append(append(command.Category("What to check",
			&cli.BoolFlag{Name: "deep", Usage: "apply every delta and check the image it makes"},
			&cli.BoolFlag{Name: "repair", Usage: "make damaged files again"},
			&cli.StringFlag{Name: "images", Usage: "repair from the images in `DIR`", DefaultText: "those of the last run"},
			mirrorFlag(),
		),
			jobsFlag(),
			memoryFlag(),
			&cli.StringFlag{Name: "sign-keys", Category: signing, Usage: "with --repair, sign the mirror with the keys in `DIR`"},
			passphraseFlag(),
			ignoreClockFlag(),
			&cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print the findings as JSON"},
			command.ProgressFlag(),
			notifyFlag(),
			settingsFlag(),
		), command.Flags("print what is done with each file that is made again")...),
		Action: reporting("verify", stderr, func(c *cli.Context, screen *ui.Screen) error {
			return verify(c, settings, stdout, screen)
		}),
	}
}

// errDamage is wrapped by the error for a damaged mirror.
var errDamage = errors.New("damage")

// outcome is what verify found, and what it repaired.
type outcome struct {
	Found  audit.Report       `json:"found"`
	Repair *imagerepo.Summary `json:"repair,omitempty"`
	Left   *audit.Report      `json:"left,omitempty"` // after a repair
}

func verify(c *cli.Context, settings *config.Settings, stdout io.Writer, screen *ui.Screen) (err error) {
	dir, err := mirrorDir(c)
	if err != nil {
		return err
	}
	for _, flag := range []string{"images", "sign-keys"} {
		if settings.Given(flag) && c.String(flag) != "" && !c.Bool("repair") {
			return command.Usage("--%s is for --repair", flag)
		}
	}
	var keys *trust.Keys
	if c.Bool("repair") {
		if keys, err = signKeys(c, dir, screen); err != nil {
			return err
		}
	}
	if keys != nil {
		defer keys.Close()
	}
	var o outcome
	if o.Found, err = look(c, dir, screen); err != nil {
		return err
	}
	if c.Bool("repair") && o.Found.Damaged() > 0 {
		if o.Repair, err = repair(c, dir, o.Found, keys, screen); err != nil {
			return errors.Join(o.print(c, stdout), fmt.Errorf("repair: %w", err))
		}
		left, err := look(c, dir, screen)
		if err != nil {
			return err
		}
		o.Left = &left
	}
	if err := o.print(c, stdout); err != nil {
		return err
	}
	return o.err(dir)
}

// look verifies the mirror, and its signed metadata.
func look(c *cli.Context, dir string, screen *ui.Screen) (report audit.Report, err error) {
	defer func() { ended(screen, err) }()
	screen.Working("starting", "")
	r, err := audit.Verify(c.Context, audit.Options{
		MirrorDir: dir, Deep: c.Bool("deep"), Jobs: c.Int("jobs"), Progress: screen.Progress, Stage: screen.Working,
		Signed: func(ctx context.Context) ([]audit.Finding, error) { return signedFaults(ctx, dir) },
	})
	if err != nil {
		return r, err
	}
	r.Findings = append(r.Findings, expired(dir, time.Now())...)
	return r, nil
}

// signedFaults returns the faults of the signed metadata.
func signedFaults(ctx context.Context, dir string) (all []audit.Finding, err error) {
	faults, err := trust.Verify(ctx, dir)
	for _, f := range faults {
		problem := audit.Damaged
		if f.Stale {
			problem = audit.Note
		}
		all = append(all, audit.Finding{Path: f.Path, Problem: problem, Detail: f.Detail})
	}
	return all, err
}

// expired returns the signatures that have expired, which is no damage: keys renew
// makes new ones.
func expired(dir string, now time.Time) (all []audit.Finding) {
	signed, _ := trust.StatusOf(dir, now) // signedFaults has reported what does not verify
	for _, s := range signed {
		if s.Expires.Before(now) {
			detail := fmt.Sprintf("%s expired %s: clients that verify it refuse the mirror; run keys renew", s.Role, date(s.Expires))
			all = append(all, audit.Finding{Path: "tuf", Problem: audit.Note, Detail: detail})
		}
	}
	return all
}

// mirrorDir returns the one argument, or what stands for it.
func mirrorDir(c *cli.Context) (string, error) {
	dir := c.Args().First()
	if c.NArg() == 0 {
		dir = c.String("mirror-dir")
	}
	if c.NArg() > 1 || dir == "" {
		return "", command.Usage("want MIRROR_DIR, got %d arguments", c.NArg())
	}
	if c.Int("jobs") < 1 && c.IsSet("jobs") {
		return "", command.Usage("--jobs %d, want 1 or more", c.Int("jobs"))
	}
	return dir, nil
}

// repair runs the builder with the options of the last run, and makes it distrust
// what was found. keys may be nil.
func repair(c *cli.Context, dir string, found audit.Report, keys *trust.Keys, screen *ui.Screen) (_ *imagerepo.Summary, err error) {
	o, err := imagerepo.Remembered(dir)
	if err != nil {
		return nil, err
	}
	if images := c.String("images"); images != "" {
		o.ImageDir = images
	}
	if o.Memory, err = parseMemory(c.String("memory")); err != nil {
		return nil, err
	}
	if keys != nil {
		o.Sign, o.Root = keys.Sign, rootOf(keys)
	}
	o.Jobs, o.Log, o.Progress, o.Stage = c.Int("jobs"), screen.Log(), screen.Progress, screen.Working
	o.ImageRead, o.DeltaMade = lines(screen, c.Bool("verbose"))
	for _, f := range found.Findings {
		// Two documents that disagree say nothing about the file: a build writes
		// them again anyway.
		if f.Damage() && f.Problem != audit.Inconsistent {
			o.Suspect = append(o.Suspect, f.Path)
		}
	}
	o.AllowRemoval = true // losesNothing is stricter
	screen.Working("starting", "")
	defer func() { ended(screen, err) }()
	if err := losesNothing(c.Context, o, found); err != nil {
		return nil, err
	}
	_, s, err := imagerepo.Build(c.Context, o)
	return &s, err
}

// losesNothing returns an error if a build would remove images that are right,
// which a repair must not decide.
func losesNothing(ctx context.Context, o imagerepo.Options, found audit.Report) error {
	plan, err := imagerepo.MakePlan(ctx, o)
	for _, r := range plan.Remove {
		known := slices.ContainsFunc(found.Findings, func(f audit.Finding) bool { return f.Path == r.Path }) // damaged, or leaving
		if _, noImage := meta.ParseOldName(r.Path); noImage == nil && !known {
			return fmt.Errorf("%s is in the mirror but not in %s, so the repair would remove it; give the directory that has all images with --images, or build the mirror again", r.Path, o.ImageDir)
		}
	}
	return err
}

// err returns the error for the damage that is left at the end.
func (o outcome) err(dir string) error {
	switch {
	case o.Left != nil && o.Left.Damaged() > 0:
		return fmt.Errorf("%s: %w remains in %d places after the repair; see the list, and build the mirror again", dir, errDamage, o.Left.Damaged())
	case o.Left == nil && o.Found.Damaged() > 0:
		return fmt.Errorf("%s: %w in %d places; run verify --repair", dir, errDamage, o.Found.Damaged())
	}
	return nil
}

func (o outcome) print(c *cli.Context, w io.Writer) error {
	if c.Bool("json") {
		return command.JSON(w, o)
	}
	last := o.Found
	if err := printFindings(w, o.Found); err != nil {
		return err
	}
	if o.Left != nil {
		last = *o.Left
		if _, err := fmt.Fprintln(w, "After the repair:"); err != nil {
			return err
		}
		if err := printFindings(w, last); err != nil {
			return err
		}
	}
	if c.Bool("quiet") {
		return nil
	}
	applied := ""
	if c.Bool("deep") {
		applied = fmt.Sprintf(", %d deltas applied", last.Deltas)
	}
	_, err := fmt.Fprintf(w, "%d files of %s read%s: %d damaged.\n", last.Files, ui.Bytes(last.Bytes), applied, last.Damaged())
	return err
}

func printFindings(w io.Writer, r audit.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Problem, untrusted.Show(f.Path), untrusted.Show(f.Detail))
	}
	return t.Flush()
}

// jobsFlag and memoryFlag return flags of several commands.
func jobsFlag() cli.Flag {
	return &cli.IntFlag{Name: "jobs", Category: command.Limits, Aliases: []string{"j"}, Value: runtime.NumCPU(), DefaultText: "the number of processors", Usage: "process `N` images at a time"}
}

func memoryFlag() cli.Flag {
	return &cli.StringFlag{Name: "memory", Category: command.Limits, Usage: "use at most `SIZE` of memory, e.g. 2g or 2GiB", DefaultText: "a quarter of that of the machine or control group"}
}
