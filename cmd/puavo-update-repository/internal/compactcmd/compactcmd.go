// Package compactcmd is the option --compact of a build: it makes compact deltas of the mirror
// when that is built, see package compactdelta.
package compactcmd

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/compactdelta"
	"puavo-image-repository/imagerepo/plan"
)

// Flags returns the flags that say which compact deltas a mirror has.
func Flags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "compact", Value: "none", Usage: "`WHICH` compact deltas to publish, for puavo-update-image: none; newest: to the newest image of each series from its older ones; all: one for each delta. They are made after the rest is published, and need free space of several times an image"},
		&cli.BoolFlag{Name: "compact-full", Usage: "also publish the newest image of each series as a compact delta without a base, for first installs"},
		&cli.StringFlag{Name: "compact-time", Value: "2h", Usage: "make compact deltas for at most `TIME`, and leave the rest to the next run; 0: no limit"},
	}
}

// Policy returns which compact deltas the flags ask for.
func Policy(c *cli.Context) (p plan.Compact, err error) {
	p.Full = c.Bool("compact-full")
	if p.Mode, err = plan.ParseCompactMode(c.String("compact")); err != nil {
		return p, command.Usage("--compact %v", err)
	}
	_, err = limit(c)
	return p, err
}

// limit returns how long compact deltas are made, 0 for no limit.
func limit(c *cli.Context) (time.Duration, error) {
	s := c.String("compact-time")
	if s == "" || s == "0" {
		return 0, nil
	}
	d, err := units.Duration(s)
	if err != nil {
		return 0, command.Usage("--compact-time: %v", err)
	}
	return d, nil
}

// Maker makes the compact deltas of a mirror that was built.
type Maker struct {
	options compactdelta.Options
	wanted  bool
}

// New returns what makes compact deltas for a build with these options, which Policy has
// checked.
func New(c *cli.Context, b imagerepo.Options) (m Maker, err error) {
	m.wanted = b.Policy.Compact != plan.Compact{}
	m.options = compactdelta.Options{
		MirrorDir: b.MirrorDir, URL: b.URL, Policy: b.Policy, Series: b.Series, Torrents: b.Torrents, Effort: b.Effort,
		NoPage: b.NoPage, BestBefore: b.BestBefore, Memory: b.Memory, NoSync: b.NoSync, IgnoreSpace: b.IgnoreSpace, Log: b.Log,
	}
	if least := compactdelta.MinMemory(); m.wanted && b.Memory != 0 && b.Memory < least {
		return m, command.Usage("--memory %s is too little for --compact, which needs %s or more", c.String("memory"), ui.Bytes(least))
	}
	m.options.Time, err = limit(c)
	return m, err
}

// Plan returns what will be done after a build, nil if no compact deltas are wanted.
func (m Maker) Plan(ctx context.Context, build plan.Plan) (*compactdelta.Plan, error) {
	if !m.wanted {
		return nil, nil
	}
	p, err := compactdelta.MakePlan(ctx, m.options, build)
	return &p, err
}

// Outcome is what was done.
type Outcome struct {
	Plan    compactdelta.Plan    `json:"plan"`
	Summary compactdelta.Summary `json:"summary"`
}

// Run makes the compact deltas of a mirror that was built with these options, and shows that on
// the screen. It returns nil if none are wanted.
func (m Maker) Run(ctx context.Context, b imagerepo.Options, screen *ui.Screen) (*Outcome, error) {
	if !m.wanted {
		return nil, nil
	}
	o := m.options
	o.Sign, o.Root, o.Farm, o.Progress, o.Stage = b.Sign, b.Root, b.Farm, screen.Progress, screen.Working
	o.Done = func(r compactdelta.Result) {
		if r.Action == plan.Make {
			screen.Did("made", "compact delta", r.File, "size", ui.Bytes(r.Size), "share", percent(r))
		}
	}
	p, s, err := compactdelta.Run(ctx, o)
	screen.Done()
	return &Outcome{p, s}, err
}

func percent(r compactdelta.Result) string { return fmt.Sprintf("%.1f %%", 100*r.Share()) }

// PrintPlan prints what would be done.
func PrintPlan(w io.Writer, p *compactdelta.Plan) error {
	if p == nil {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	n := 0
	for _, d := range p.Deltas {
		if d.Need != nil {
			n++
			fmt.Fprintf(t, "make compact\tfor %s\t%s\n", ui.Bytes(d.Rival), d.File)
		}
	}
	if err := t.Flush(); err != nil || n == 0 {
		return err
	}
	e, limit := p.Estimate, ""
	if e.Limit > 0 {
		limit = fmt.Sprintf(", at most %v of it in a run", seconds(e.Limit, time.Second))
	}
	_, err := fmt.Fprintf(w, "Compact deltas, afterwards: about %v%s; take up to %s of memory, and, until they are made, up to %s of the %s that are free.\n",
		seconds(e.Seconds, time.Second), limit, ui.Bytes(e.Memory), ui.Bytes(e.Scratch), ui.Bytes(e.Free))
	return err
}

// Print prints what was done. Shared says that what was made has a line in the same place
// already.
func (o *Outcome) Print(w io.Writer, shared bool) error {
	if o == nil || len(o.Summary.Deltas) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, r := range o.Summary.Deltas {
		switch {
		case r.Action == plan.Omit || shared && r.Action == plan.Make:
		case r.Action == plan.Make:
			fmt.Fprintf(t, "made\t%s\t%s\t  %s\n", ui.Bytes(r.Size), percent(r), r.File)
		default:
			fmt.Fprintf(t, "dropped\t%s\t%s\t  %s\n", ui.Bytes(r.Size), percent(r), r.File)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range o.Summary.Deltas {
		if r.Action != plan.Omit {
			continue
		}
		if _, err := fmt.Fprintf(w, "left %s: %s\n", r.File, r.Reason); err != nil {
			return err
		}
	}
	s := o.Summary
	_, err := fmt.Fprintf(w, "Compact deltas: %d made of %s, %d kept, %d dropped, %d left for another run; %v.\n",
		s.Made, ui.Bytes(s.Bytes), s.Kept, s.Dropped, s.Left, seconds(s.Seconds, 10*time.Millisecond))
	return err
}

// AddTo adds what was made to what the build has published, and reports whether anything was.
func (o *Outcome) AddTo(s *imagerepo.Summary) (changed bool) {
	if o == nil {
		return false
	}
	s.Compact += o.Summary.Made
	s.CompactBytes += o.Summary.Bytes
	s.Changed = s.Changed || o.Summary.Changed
	return o.Summary.Changed
}

func seconds(s float64, round time.Duration) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(round)
}
