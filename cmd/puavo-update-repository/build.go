package main

import (
	"cmp"
	"errors"
	"io"
	"math"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/cmd/puavo-update-repository/internal/archivecmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/compactcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/farmcmd"
	"puavo-image-repository/cmd/puavo-update-repository/internal/publishcmd"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/imagerepo/publish"
)

// The categories of the builder's flags, besides those that commands share.
const (
	whatToBuild = "What to build"
	signing     = "Signing"
)

// flags returns the flags of a build.
func flags() []cli.Flag {
	return slices.Concat(whatFlags(), limitFlags(), farmcmd.Flags(), signFlags(), publishcmd.Flags(), command.Category(command.Output,
		&cli.BoolFlag{Name: "dry-run", Usage: "print what would be done, and change nothing"},
		&cli.BoolFlag{Name: "json", Usage: "print the plan and the summary as JSON"},
		&cli.StringFlag{Name: "metrics-file", Usage: "write metrics to `FILE` for the Prometheus node exporter"},
		command.ProgressFlag(),
		notifyFlag(),
	), command.Flags("print what is done with each file"), []cli.Flag{settingsFlag()})
}

// whatFlags returns the flags that say what is in the mirror.
func whatFlags() []cli.Flag {
	return command.Category(whatToBuild, slices.Concat([]cli.Flag{
		&cli.StringFlag{Name: "images-dir", Usage: "`DIR`: directory of the images, if IMAGE_DIR is not given"},
		mirrorFlag(),
	}, seriesFlags(), keepFlags(), torrentFlags(), compactcmd.Flags(), []cli.Flag{
		&cli.StringSliceFlag{Name: "series", Usage: "build only the series whose names match `GLOB`; the others stay as they are (repeatable)", DefaultText: "all"},
		&cli.BoolFlag{Name: "no-config", Aliases: []string{"n"}, Usage: "ignore series files; find the series by scanning IMAGE_DIR"},
		&cli.IntFlag{Name: "targets", Value: 3, Usage: "make deltas to the newest `N` images of each series"},
		&cli.IntFlag{Name: "bases", Usage: "make deltas only from the nearest `N` images", DefaultText: "all"},
		&cli.BoolFlag{Name: "no-downgrades", Usage: "do not make deltas to older images"},
		&cli.Float64Flag{Name: "max-delta-ratio", Value: 0.9, Usage: "drop deltas larger than `R` times their image, at most 1"},
		&cli.StringFlag{Name: "archive", Usage: "add the images to the archive `STORE` before anything is removed, see archive --help"},
		&cli.StringFlag{Name: "effort", Value: string(delta.Default), Usage: "`EFFORT`: how hard to search for small deltas: fast, default or best"},
		&cli.BoolFlag{Name: "keep-signatures", Usage: "keep rdiff signatures of images that leave IMAGE_DIR, so that deltas from them can still be made; set it before an image leaves"},
		&cli.StringFlag{Name: "grace", Value: "7d", Usage: "wait `TIME` (e.g. 36h, 7d) before deleting files that are no longer referenced; 0 deletes them at once"},
		&cli.BoolFlag{Name: "allow-removal", Usage: "allow this run to remove every image of a series, or more than half of all images"},
		&cli.BoolFlag{Name: "adopt", Usage: "take over all images and deltas in MIRROR_DIR, whoever made them"},
		&cli.BoolFlag{Name: "no-page", Usage: "do not write the web page index.html; remove the one written before"},
		&cli.BoolFlag{Name: "follow-links", Usage: "follow symbolic links out of IMAGE_DIR even to files that other users cannot read"},
		&cli.BoolFlag{Name: "strict", Usage: "stop at the first series that cannot be built"},
	})...)
}

// seriesFlags returns the flags that say where the mirror is served, and what the series are.
func seriesFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "repository", Aliases: []string{"r"}, Usage: "base `URL` of the images; a bare HOST means https://HOST; also set by $PUAVO_REPOSITORY_URL"},
		&cli.StringSliceFlag{Name: "config", Usage: "read the series from `FILE` (repeatable)"},
		&cli.StringFlag{Name: "puavo-os", Aliases: []string{"p"}, Usage: "read the series from `DIR`/config/images/*.json"},
	}
}

// torrentFlags returns the flags that say what has torrents.
func torrentFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "torrents", Value: "none", Usage: "make torrents of `FILES`: none, deltas, or all (images too)"},
		&cli.StringSliceFlag{Name: "tracker", Usage: "name the tracker at `URL` in torrents (repeatable; the first is tried first)", DefaultText: "none"},
		&cli.StringSliceFlag{Name: "torrent-seed", Usage: "name `URL`, where the mirror is served, as a web seed in torrents (repeatable)", DefaultText: "--repository"},
	}
}

// keepFlags returns the flags that say which images are published.
func keepFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "keep-last", Usage: "publish the newest `N` images of each series, and those kept by other --keep options", DefaultText: "all"},
		keepFlag("daily", "day"),
		keepFlag("weekly", "week"),
		keepFlag("monthly", "month"),
		keepFlag("yearly", "year"),
	}
}

// limitFlags returns the flags that say what a build may take.
func limitFlags() []cli.Flag {
	return command.Category(command.Limits,
		jobsFlag(),
		memoryFlag(),
		&cli.BoolFlag{Name: "no-sync", Usage: "do not flush files to disk; for RAM disks and tests only"},
		&cli.BoolFlag{Name: "ignore-space", Usage: "start even if free space is probably insufficient"},
	)
}

// signFlags returns the flags that say how a mirror is signed.
func signFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "sign-keys", Category: signing, Usage: "sign the mirror with the keys in `DIR`; see keys --help"},
		passphraseFlag(),
		ignoreClockFlag(),
		&cli.BoolFlag{Name: "best-before", Category: signing, Usage: "write a file BEST-BEFORE-YYYY-MM-DD with the day the timestamp expires; systemd-sysupdate refuses the mirror from then on"},
	}, expireFlags()...)
}

// keepFlag returns the flag for the images that are kept of each of some periods.
func keepFlag(name, period string) cli.Flag {
	return &cli.IntFlag{Name: "keep-" + name, Usage: "publish the newest image of each " + period + ", for the latest `N` " + period + "s with images", DefaultText: "all"}
}

// retention returns which images the flags keep.
func retention(c *cli.Context) (plan.Retention, error) {
	var r plan.Retention
	asked := false
	for _, rule := range []struct {
		flag string
		n    *int
	}{{"keep-last", &r.Last}, {"keep-daily", &r.Daily}, {"keep-weekly", &r.Weekly}, {"keep-monthly", &r.Monthly}, {"keep-yearly", &r.Yearly}} {
		*rule.n = c.Int(rule.flag)
		asked = asked || c.IsSet(rule.flag)
		if *rule.n < 0 {
			return r, command.Usage("--%s %d, want 0 or more", rule.flag, *rule.n)
		}
	}
	if asked && r == (plan.Retention{}) {
		return r, command.Usage("the --keep options keep no image; leave them out to keep all")
	}
	return r, nil
}

// build makes the mirror, and the metrics.
func build(c *cli.Context, settings *config.Settings, stdout io.Writer, screen *ui.Screen) error {
	options, err := parse(c, settings)
	if err != nil {
		return err
	}
	options.Log, options.Progress, options.Stage = screen.Log(), screen.Progress, screen.Working
	options.ImageRead, options.DeltaMade = lines(screen, c.Bool("verbose"))
	options.Archive = archivecmd.Adder(options, c.String("archive"))
	if options.URL == "" {
		options.Log.Warn("the URLs in the meta are relative, but bootservers need absolute ones; give --repository")
	}
	compact, err := compactcmd.New(c, options)
	if err != nil {
		return err
	}
	report := report{w: stdout, json: c.Bool("json"), quiet: c.Bool("quiet"), shared: screen.Shares(stdout)}
	if c.Bool("dry-run") {
		return dryRun(c, options, compact, report)
	}
	to, destinations, err := publishTo(c, options)
	if err != nil {
		return err
	}
	keys, err := signKeys(c, options.MirrorDir, screen)
	if err != nil {
		return err
	}
	if keys != nil {
		defer keys.Close()
		options.Sign, options.Root, to.Sign = keys.Sign, rootOf(keys), keys
	}
	workers, err := farmcmd.Open(c, options.MirrorDir, options.NoSync, options.Log)
	if err != nil {
		return err
	}
	if workers != nil {
		options.Farm = workers
		defer workers.Close()
	}
	start := time.Now()
	summary, made, err := work(c, options, compact, report, screen, func() (publishcmd.Outcomes, error) {
		return publishcmd.ToAll(c.Context, to, destinations, screen)
	})
	m := metrics{Summary: summary, compact: made, farm: workers.State(), end: time.Now(), duration: time.Since(start), signed: signedUntil(options, summary.Changed)}
	return m.record(c, options, err)
}

// publishTo returns where a build publishes the mirror, and how.
func publishTo(c *cli.Context, o imagerepo.Options) (to publish.Options, destinations []string, err error) {
	to = publish.Options{
		MirrorDir: o.MirrorDir, Jobs: o.Jobs, Grace: o.Policy.Grace, AllowRemoval: o.AllowRemoval, NoSync: o.NoSync,
		Apart: []string{o.ImageDir, c.String("sign-keys")},
	}
	destinations = c.StringSlice("publish")
	return to, destinations, publishcmd.Complete(c, &to, destinations)
}

func dryRun(c *cli.Context, o imagerepo.Options, compact compactcmd.Maker, report report) (err error) {
	if o.Config, err = loadConfig(c); err != nil {
		return err
	}
	plan, err := imagerepo.MakePlan(c.Context, o)
	if failed, ok := errors.AsType[*imagerepo.SeriesError](err); err != nil && !(ok && failed.Built > 0) {
		return err
	}
	compacts, failure := compact.Plan(c.Context, plan)
	if failure != nil {
		return errors.Join(failure, err)
	}
	return errors.Join(report.plan(plan, compacts), err)
}

// work makes the mirror, publishes it, makes compact deltas, publishes these, and reports what
// was done. Where some series could not be built, the others are published.
func work(c *cli.Context, o imagerepo.Options, compact compactcmd.Maker, report report, screen *ui.Screen, send func() (publishcmd.Outcomes, error)) (s imagerepo.Summary, made *compactcmd.Outcome, err error) {
	if o.Config, err = loadConfig(c); err != nil {
		return s, nil, err
	}
	screen.Working("starting", "")
	plan, s, err := imagerepo.Build(c.Context, o)
	ended(screen, err)
	if failed, ok := errors.AsType[*imagerepo.SeriesError](err); err != nil && !(ok && failed.Built > 0) && !errors.Is(err, imagerepo.ErrArchive) {
		return s, nil, err
	}
	sent, failure := send()
	made, compactErr := compact.Run(c.Context, o, screen)
	if made != nil {
		ended(screen, compactErr)
	}
	if made.AddTo(&s) {
		again, err := send()
		sent, failure = append(sent, again...), errors.Join(failure, err)
	}
	return s, made, errors.Join(report.summary(plan, s, made, sent), failure, compactErr, err)
}

// ended removes the bar, and writes for programs how the work has ended.
func ended(screen *ui.Screen, err error) {
	screen.Done()
	if err != nil {
		screen.Working("error", "")
	} else {
		screen.Working("finished", "")
	}
}

// parse returns the options of the arguments, without the series files.
func parse(c *cli.Context, settings *config.Settings) (imagerepo.Options, error) {
	var o imagerepo.Options
	var err error
	if o.ImageDir, o.MirrorDir, err = directories(c, settings); err != nil {
		return o, err
	}
	o.Jobs, o.Series = c.Int("jobs"), c.StringSlice("series")
	if err := o.Series.Check(); err != nil {
		return o, command.Usage("--series: %v", err)
	}
	o.Policy = plan.Policy{
		Targets: c.Int("targets"), Bases: c.Int("bases"),
		Downgrades: !c.Bool("no-downgrades"), MaxRatio: c.Float64("max-delta-ratio"),
		KeepSignatures: c.Bool("keep-signatures"),
	}
	o.AllowRemoval, o.Strict, o.FollowLinks = c.Bool("allow-removal"), c.Bool("strict"), c.Bool("follow-links")
	o.NoPage, o.BestBefore = c.Bool("no-page"), c.Bool("best-before")
	o.Adopt, o.NoSync, o.IgnoreSpace = c.Bool("adopt"), c.Bool("no-sync"), c.Bool("ignore-space")
	switch p := o.Policy; {
	case o.Jobs < 1:
		return o, command.Usage("--jobs %d, want 1 or more", o.Jobs)
	case p.Targets < 0 || p.Bases < 0:
		return o, command.Usage("--targets and --bases cannot be negative")
	case !c.Bool("no-config") && len(c.StringSlice("config")) > 0 && c.String("puavo-os") != "":
		return o, command.Usage("give --config or --puavo-os, not both")
	}
	if err := cmp.Or(checkRatio(o.Policy.MaxRatio), checkSigning(c), farmcmd.Check(c)); err != nil {
		return o, err
	}
	if o.Policy.Keep, err = retention(c); err != nil {
		return o, err
	}
	if o.Policy.Compact, err = compactcmd.Policy(c); err != nil {
		return o, err
	}
	if grace := c.String("grace"); grace != "" && grace != "0" {
		if o.Policy.Grace, err = units.Duration(grace); err != nil {
			return o, command.Usage("--grace: %v", err)
		}
	}
	if o.Memory, err = parseMemory(c.String("memory")); err != nil {
		return o, err
	}
	if o.Effort, err = delta.ParseEffort(c.String("effort")); err != nil {
		return o, command.Usage("--effort: %v", err)
	}
	if o.URL, err = parseURL(c.String("repository")); err != nil {
		return o, err
	}
	o.Torrents, err = torrents(c, o)
	return o, err
}

// torrents returns what the flags say of torrents.
func torrents(c *cli.Context, o imagerepo.Options) (t plan.Torrents, err error) {
	if t.Of, err = plan.ParseTorrentsOf(c.String("torrents")); err != nil {
		return t, command.Usage("--torrents %v", err)
	}
	t.Trackers = c.StringSlice("tracker")
	for _, seed := range c.StringSlice("torrent-seed") {
		t.Seeds = append(t.Seeds, strings.TrimRight(seed, "/"))
	}
	if o.Torrents = t; o.CheckTorrents() != nil {
		return t, command.Usage("--torrents %s: %v", t.Of, o.CheckTorrents())
	}
	return t, nil
}

// directories returns the image directory and the mirror. Where the first is an argument,
// settings do not decide about either: a mirror of other images may be there.
func directories(c *cli.Context, settings *config.Settings) (images, mirror string, err error) {
	images, mirror = c.Args().Get(0), c.Args().Get(1)
	switch n := c.NArg(); {
	case n > 2 || n == 0 && c.String("images-dir") == "":
		return "", "", command.Usage("want IMAGE_DIR and optionally MIRROR_DIR, got %d arguments", n)
	case slices.Contains(c.Args().Slice(), ""):
		return "", "", command.Usage("an argument is empty; give a directory")
	case n > 0 && settings.Given("images-dir") || n > 1 && settings.Given("mirror-dir"):
		return "", "", command.Usage("a directory is given both as an argument and as an option; leave one out")
	case n == 0:
		images, mirror = c.String("images-dir"), c.String("mirror-dir")
	case n == 1 && settings.Given("mirror-dir"):
		mirror = c.String("mirror-dir")
	}
	return images, cmp.Or(mirror, filepath.Join(images, "mirror")), nil
}

// checkRatio refuses a share of an image that is none. Whoever gives more than 1 most
// likely means percent.
func checkRatio(r float64) error {
	switch {
	case !(r > 0) || math.IsInf(r, 0):
		return command.Usage("--max-delta-ratio %v, want more than 0", r)
	case r >= 2 && r <= 100:
		return command.Usage("--max-delta-ratio %v, want at most 1 (did you mean %v?)", r, r/100)
	case r > 1:
		return command.Usage("--max-delta-ratio %v, want at most 1", r)
	}
	return nil
}

// parseMemory returns a number of bytes that suffices for a run, 0 for an empty
// value.
func parseMemory(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.Size(s)
	if err != nil {
		return 0, command.Usage("--memory: %v", err)
	}
	if least := imagerepo.MinMemory(); n < least {
		return 0, command.Usage("--memory %s is too little; a run needs %s or more", s, ui.Bytes(least))
	}
	return n, nil
}

// parseURL returns the base of all urls without a final slash.
func parseURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err == nil && u.User != nil || err != nil && strings.Contains(s, "@") { // a password is not shown
		return "", command.Usage("--repository has a user name or password, which the meta would publish; leave it out")
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" {
		return "", command.Usage("--repository %q, want a URL such as https://images.example.org", s)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func loadConfig(c *cli.Context) (plan.Config, error) {
	switch tree := c.String("puavo-os"); {
	case c.Bool("no-config"):
		return plan.Config{}, nil
	case tree != "":
		return plan.LoadPuavoOS(c.Context, tree)
	default:
		return plan.LoadConfig(c.Context, c.StringSlice("config"))
	}
}
