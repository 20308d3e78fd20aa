package archivecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/cmd/puavo-update-repository/internal/diffcmd"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/archive"
	"puavo-image-repository/imagerepo/imagediff"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta/untrusted"
)

// open opens the archive that an argument names.
func (c call) open(path string, o archive.Options) (*archive.Store, error) {
	var err error
	if memory := command.Own(c.Context, "memory"); memory != "" {
		if o.Memory, err = units.Size(memory); err != nil {
			return nil, command.Usage("--memory: %v", err)
		}
	}
	o.NoSync, o.IgnoreSpace = c.Bool("no-sync"), c.Bool("ignore-space")
	o.Log, o.Progress, o.Stage = c.screen.Log(), c.screen.Progress, c.screen.Working
	return archive.Open(path, o)
}

// making returns the options of what makes deltas.
func (c call) making() (o archive.Options, err error) {
	o.Format, o.MaxChain = archive.Format(command.Own(c.Context, "format")), c.Int("max-chain")
	switch {
	case o.Format != archive.Rdiff && o.Format != archive.Compact:
		return o, command.Usage("--format %s, want rdiff or compact", untrusted.Quote(string(o.Format)))
	case o.MaxChain < 1:
		return o, command.Usage("--max-chain %d, want 1 or more", o.MaxChain)
	}
	return o, nil
}

// print prints a document for programs, or lines for people.
func (c call) print(doc any, text func() error) error {
	switch {
	case c.Bool("json"):
		return command.JSON(c.stdout, doc)
	case c.Bool("quiet"):
		return nil
	}
	return text()
}

// line prints a line for people.
func (c call) line(format string, args ...any) error {
	_, err := fmt.Fprintf(c.stdout, format+"\n", args...)
	return err
}

func (c call) add() error {
	o, err := c.making()
	if err != nil {
		return err
	}
	o.Create = true
	s, err := c.open(c.args[1], o)
	if err != nil {
		return err
	}
	defer s.Close()
	if c.Bool("dry-run") {
		p, err := s.PlanAdd(c.ctx, c.args[0])
		if err != nil {
			return err
		}
		return c.print(p, func() error { return printAdd(c.stdout, p, true) })
	}
	start := time.Now()
	p, err := s.Add(c.ctx, c.args[0])
	c.screen.Done()
	return c.measured(s, start, err, func() error {
		return c.print(p, func() error { return printAdd(c.stdout, p, false) })
	})
}

func (c call) list() error {
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	all, err := s.List(c.args[1:])
	if err != nil {
		return err
	}
	if all == nil {
		all = []archive.Version{}
	}
	return c.print(all, func() error { return printList(c.stdout, all) })
}

func (c call) show() error {
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	path, err := s.Show(c.args[1], c.args[2])
	if err != nil {
		return err
	}
	doc := struct {
		archive.Version
		Path []archive.Version `json:"path"`
	}{path[len(path)-1], path}
	return c.print(doc, func() error { return printVersion(c.stdout, path) })
}

func (c call) restore() error {
	out := c.String("out")
	if out == "" {
		return command.Usage("--out is missing: where to restore it")
	}
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if c.Bool("dry-run") {
		r, err := s.PlanRestore(c.ctx, c.args[1], c.args[2], out, c.Bool("overwrite"))
		if err != nil {
			return err
		}
		return c.print(r, func() error { return printRestore(c.stdout, r) })
	}
	start := time.Now()
	r, err := s.Restore(c.ctx, c.args[1], c.args[2], out, c.Bool("overwrite"))
	c.screen.Done()
	if err != nil {
		return err
	}
	return c.print(r, func() error {
		return c.line("%s: %s, version %s, through %d deltas, %s kept from an earlier run; %v.", untrusted.Show(out), ui.Bytes(r.Size),
			r.Version, r.Deltas, ui.Bytes(r.Resumed), time.Since(start).Round(10*time.Millisecond))
	})
}

func (c call) verify() error {
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	o := archive.VerifyOptions{Deep: c.Bool("deep")}
	if sample := c.String("sample"); sample != "" {
		if o.Sample, err = strconv.ParseFloat(strings.TrimSuffix(sample, "%"), 64); err != nil || !(o.Sample > 0 && o.Sample <= 100) {
			return command.Usage("--sample %s, want a share such as 10%%", untrusted.Quote(sample))
		}
	}
	if c.Bool("rebuild-catalog") {
		if err := c.rebuild(s); err != nil {
			return err
		}
	}
	start := time.Now()
	r, err := s.Verify(c.ctx, o)
	c.screen.Done()
	return c.measured(s, start, err, func() error {
		return c.print(r, func() error { return printReport(c.stdout, r, time.Since(start)) })
	})
}

// rebuild makes catalogs again.
func (c call) rebuild(s *archive.Store) error {
	groups, lost, err := s.Rebuild(c.ctx)
	for _, g := range groups {
		c.screen.Log().Warn("the catalog was rebuilt; notes and protection are lost", "group", g)
	}
	for _, file := range lost {
		c.screen.Log().Warn("no version can be restored from this file", "file", file)
	}
	return err
}

func (c call) protect() error   { return c.setProtected(true) }
func (c call) unprotect() error { return c.setProtected(false) }

func (c call) setProtected(to bool) error {
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Protect(c.ctx, c.args[1], c.args[2], to)
}

func (c call) note() error {
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Note(c.ctx, c.args[1], c.args[2], c.args[3])
}

func (c call) prune() error {
	o, err := c.making()
	if err != nil {
		return err
	}
	policy, grace, err := c.policy()
	if err != nil {
		return err
	}
	groups := plan.Globs(c.StringSlice("group"))
	if err := groups.Check(); err != nil {
		return command.Usage("--group: %v", err)
	}
	s, err := c.open(c.args[0], o)
	if err != nil {
		return err
	}
	defer s.Close()
	if c.Bool("dry-run") {
		p, err := s.PlanPrune(c.ctx, policy, groups, grace)
		if err != nil {
			return err
		}
		return c.print(p, func() error { return printPrune(c.stdout, p) })
	}
	start := time.Now()
	p, err := s.Prune(c.ctx, policy, groups, grace)
	c.screen.Done()
	return c.measured(s, start, err, func() error {
		return c.print(p, func() error {
			return c.line("%s: %d versions of %s in the trash until %s.", untrusted.Show(c.args[0]), p.Remove, ui.Bytes(p.Bytes), p.Due.Local().Format(time.DateTime))
		})
	})
}

// policy returns what the flags keep, and for how long what they do not keep stays.
func (c call) policy() (p archive.Policy, grace time.Duration, err error) {
	for _, rule := range []struct {
		flag string
		n    *int
	}{{"last", &p.Last}, {"hourly", &p.Hourly}, {"daily", &p.Daily}, {"weekly", &p.Weekly}, {"monthly", &p.Monthly}, {"yearly", &p.Yearly}} {
		if *rule.n = c.Int("keep-" + rule.flag); *rule.n < 0 {
			return p, 0, command.Usage("--keep-%s %d, want 0 or more", rule.flag, *rule.n)
		}
	}
	if within := c.String("keep-within"); within != "" {
		if p.Within, err = units.Duration(within); err != nil {
			return p, 0, command.Usage("--keep-within: %v", err)
		}
	}
	if s := c.String("grace"); s != "" && s != "0" {
		if grace, err = units.Duration(s); err != nil {
			return p, 0, command.Usage("--grace: %v", err)
		}
	}
	if err := p.Check(); err != nil {
		return p, 0, command.Usage("%v, such as --keep-last 3", err)
	}
	return p, grace, nil
}

func (c call) gc() error {
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.GC(c.ctx, c.Bool("dry-run"))
	if err != nil {
		return err
	}
	return c.print(r, func() error { return printCollected(c.stdout, r, c.Bool("dry-run")) })
}

func (c call) diff() error {
	s, err := c.open(c.args[0], archive.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	return diffcmd.Print(c.Context, c.stdout, func(report func(imagediff.Change) error) (int, error) {
		return s.Diff(c.ctx, c.args[1], c.args[2], c.args[3], report)
	})
}

// measured writes the metrics file that is asked for, shows the outcome, and returns the error of the run,
// or else that of these.
func (c call) measured(s *archive.Store, start time.Time, err error, show func() error) error {
	var failure error
	if file := command.Own(c.Context, "metrics-file"); file != "" {
		failure = c.writeMetrics(s, file, start, err)
	}
	if err == nil || c.shows(err) {
		failure = cmp.Or(failure, show())
	}
	if err != nil && failure != nil {
		c.screen.Log().Error("no report of this run", "reason", failure)
		return err
	}
	return cmp.Or(err, failure)
}

// Adder returns what puts the images of a build into an archive, nil without one.
func Adder(o imagerepo.Options, store string) func(context.Context) error {
	if store == "" {
		return nil
	}
	return func(ctx context.Context) error { return add(ctx, o, store) }
}

// add puts the images of a build into an archive. Its error is none of those for unusable input,
// which are about the images and the mirror.
func add(ctx context.Context, o imagerepo.Options, store string) error {
	s, err := archive.Open(store, archive.Options{Create: true, Memory: o.Memory, NoSync: o.NoSync, IgnoreSpace: o.IgnoreSpace, Log: o.Log})
	if err == nil {
		defer s.Close()
		_, err = s.Add(ctx, o.ImageDir)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return errors.New(err.Error())
}
