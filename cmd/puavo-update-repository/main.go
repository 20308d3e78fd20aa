// Command puavo-update-repository makes a repository of OS images: a directory
// with the images, deltas between them and their digests, to be uploaded to any
// static HTTPS host. See its --help and the README.
package main

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo"
)

func main() {
	os.Exit(command.Main(run, imagerepo.ErrInput, imagerepo.ErrConfig))
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) error {
	app := &cli.App{
		Name:      "puavo-update-repository",
		Usage:     "make a repository of OS images for a static HTTPS host",
		UsageText: "puavo-update-repository [options] IMAGE_DIR [MIRROR_DIR]",
		Description: `Puts the images of IMAGE_DIR, deltas between them and their digests into
   MIRROR_DIR (IMAGE_DIR/mirror), which is then to be uploaded. What is there
   and right is kept; files that it did not make are not touched. Images that
   left IMAGE_DIR leave the mirror.

   Example:
      puavo-update-repository -r images.example.org puavo-os-images mirror
   To upload it, what the meta names before the meta, and removals at last:
      rsync -a --exclude /.repo --exclude /meta --exclude /index.json --exclude '/*SUMS' mirror/ host:/srv/images/
      rsync -a --delete-after --exclude /.repo mirror/ host:/srv/images/

   Exit codes: ` + command.ExitCodes,
		Flags:  flags(),
		Action: func(c *cli.Context) error { return build(c, stdout, command.Start(c, stderr)) },
	}
	return command.Run(ctx, app, args, stdout, stderr)
}

func flags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "repository", Aliases: []string{"r"}, EnvVars: []string{"PUAVO_REPOSITORY_URL"}, Usage: "base `URL` of the images, a bare host name means https://HOST"},
		&cli.StringSliceFlag{Name: "config", Usage: "take the series from this `FILE` (can be given several times)"},
		&cli.StringFlag{Name: "puavo-os", Aliases: []string{"p"}, Usage: "take the series from `DIR`/config/images/*.json"},
		&cli.BoolFlag{Name: "no-config", Aliases: []string{"n"}, Usage: "ignore series files, scan IMAGE_DIR"},
		&cli.IntFlag{Name: "targets", Value: 3, Usage: "make deltas to the `N` newest images of a series"},
		&cli.IntFlag{Name: "bases", Usage: "make deltas from the `N` nearest images only", DefaultText: "all"},
		&cli.BoolFlag{Name: "no-downgrades", Usage: "make no deltas to older images"},
		&cli.Float64Flag{Name: "max-delta-ratio", Value: 0.9, Usage: "publish no delta larger than this share `R` of its image"},
		&cli.StringFlag{Name: "effort", Value: string(delta.Default), Usage: "work this `HARD` on small deltas: fast, default or best"},
		&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Value: runtime.NumCPU(), Usage: "work on `N` images at a time"},
		&cli.BoolFlag{Name: "dry-run", Usage: "print what would be done and change nothing"},
		&cli.BoolFlag{Name: "json", Usage: "print plan and summary as JSON"},
		&cli.StringFlag{Name: "metrics-file", Usage: "write metrics of the run to `FILE`, for Prometheus' node exporter"},
	}, command.Flags("print what becomes of each file")...)
}

// build does the main job.
func build(c *cli.Context, stdout io.Writer, screen *ui.Screen) error {
	options, err := parse(c)
	if err != nil {
		return err
	}
	options.Log, options.Progress = screen.Log(), screen.Progress
	if options.URL == "" {
		options.Log.Warn("the urls in the meta are relative, but bootservers need absolute ones; give --repository")
	}
	report := report{w: stdout, json: c.Bool("json"), quiet: c.Bool("quiet")}
	if c.Bool("dry-run") {
		return dryRun(c, options, report)
	}
	start := time.Now()
	summary, err := work(c, options, report, screen)
	if file := c.String("metrics-file"); file != "" {
		m := metrics{Summary: summary, end: time.Now(), duration: time.Since(start), failed: err != nil}
		failure := m.write(file, options.MirrorDir)
		if err == nil {
			return failure
		}
		if failure != nil {
			options.Log.Error("no metrics of this run", "reason", failure)
		}
	}
	return err
}

func dryRun(c *cli.Context, o imagerepo.Options, report report) (err error) {
	if o.Config, err = loadConfig(c); err != nil {
		return err
	}
	plan, err := imagerepo.MakePlan(c.Context, o)
	if err != nil {
		return err
	}
	return report.plan(plan)
}

// work makes the mirror and reports what was done.
func work(c *cli.Context, o imagerepo.Options, report report, screen *ui.Screen) (s imagerepo.Summary, err error) {
	if o.Config, err = loadConfig(c); err != nil {
		return s, err
	}
	plan, s, err := imagerepo.Build(c.Context, o)
	screen.Done()
	if err != nil {
		return s, err
	}
	return s, report.summary(plan, s)
}

// parse makes the options of the arguments, but for the series files.
func parse(c *cli.Context) (imagerepo.Options, error) {
	var o imagerepo.Options
	if n := c.NArg(); n < 1 || n > 2 {
		return o, command.Usage("want IMAGE_DIR and perhaps MIRROR_DIR, got %d arguments", n)
	}
	if slices.Contains(c.Args().Slice(), "") {
		return o, command.Usage("an empty argument is no directory")
	}
	o.ImageDir, o.MirrorDir = c.Args().Get(0), c.Args().Get(1)
	if o.MirrorDir == "" {
		o.MirrorDir = filepath.Join(o.ImageDir, "mirror")
	}
	o.Jobs = c.Int("jobs")
	o.Policy = imagerepo.Policy{
		Targets: c.Int("targets"), Bases: c.Int("bases"),
		Downgrades: !c.Bool("no-downgrades"), MaxRatio: c.Float64("max-delta-ratio"),
	}
	switch p := o.Policy; {
	case o.Jobs < 1:
		return o, command.Usage("--jobs %d, want 1 or more", o.Jobs)
	case p.Targets < 0 || p.Bases < 0:
		return o, command.Usage("--targets and --bases cannot be negative")
	case !(p.MaxRatio > 0) || math.IsInf(p.MaxRatio, 0):
		return o, command.Usage("--max-delta-ratio %v, want more than 0", p.MaxRatio)
	case !c.Bool("no-config") && len(c.StringSlice("config")) > 0 && c.String("puavo-os") != "":
		return o, command.Usage("--config and --puavo-os exclude each other")
	}
	var err error
	if o.Effort, err = delta.ParseEffort(c.String("effort")); err != nil {
		return o, command.Usage("--effort: %v", err)
	}
	o.URL, err = parseURL(c.String("repository"))
	return o, err
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
	if err == nil && u.User != nil {
		return "", command.Usage("--repository has a user or password, which the meta would tell to all")
	}
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" {
		return "", command.Usage("--repository %q is no base of https URLs", s)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func loadConfig(c *cli.Context) (imagerepo.Config, error) {
	switch tree := c.String("puavo-os"); {
	case c.Bool("no-config"):
		return imagerepo.Config{}, nil
	case tree != "":
		return imagerepo.LoadPuavoOS(tree)
	default:
		return imagerepo.LoadConfig(c.StringSlice("config"))
	}
}

// printJSON writes a value as a JSON document for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
