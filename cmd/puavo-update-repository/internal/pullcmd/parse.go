package pullcmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/imagerepo/pull"
	"puavo-image-repository/meta/untrusted"
)

// parse returns the options of the arguments.
func parse(c *cli.Context, t Tools) (o pull.Options, err error) {
	if o.Sources, o.Dir, err = places(c); err != nil {
		return o, err
	}
	o.Trust, o.CACertificate = c.StringSlice("trust"), c.String("ca-certificate")
	o.AllowRemoval, o.NoRebuild, o.NoSync, o.Jobs = c.Bool("allow-removal"), !c.Bool("rebuild"), c.Bool("no-sync"), c.Int("jobs")
	o.MakeDeltas = c.Bool("make-deltas")
	switch {
	case o.Jobs < 1:
		return o, command.Usage("--jobs %d, want 1 or more", o.Jobs)
	case len(o.Trust) > 1 && len(o.Trust) != len(o.Sources):
		return o, command.Usage("--trust names %d roots for %d repositories, want one for all, or one for each", len(o.Trust), len(o.Sources))
	}
	if t.Sets("images") && !c.IsSet("pull-images") {
		return o, command.Usage("the settings have images, which is a directory for verify --repair; for the number of images, write pull-images")
	}
	if o.Policy, err = policy(c); err != nil {
		return o, err
	}
	for _, size := range []struct {
		flag string
		to   *int64
	}{{"max-size", &o.MaxSize}, {"reserve", &o.Reserve}, {"rate-limit", &o.RateLimit}} {
		if s := c.String(size.flag); s != "" {
			if *size.to, err = units.Size(s); err != nil {
				return o, command.Usage("--%s: %v", size.flag, err)
			}
		}
	}
	if grace := c.String("grace"); grace != "" && grace != "0" {
		if o.Grace, err = units.Duration(grace); err != nil {
			return o, command.Usage("--grace: %v", err)
		}
	}
	if o.Verify, o.ReadEvery, err = parseReverify(c.String("reverify")); err != nil {
		return o, err
	}
	o.URL, err = t.ParseURL(c.String("repository"))
	return o, err
}

// places returns the sources and the directory.
func places(c *cli.Context) (sources []string, dir string, err error) {
	sources, dir = c.StringSlice("from"), c.String("mirror-dir")
	switch args := c.Args().Slice(); {
	case slices.Contains(args, ""):
		return nil, "", command.Usage("an empty argument is no repository and no directory")
	case len(args) >= 2:
		sources, dir = args[:len(args)-1], args[len(args)-1]
	case len(args) == 1 && strings.Contains(args[0], "://"):
		sources = args
	case len(args) == 1:
		dir = args[0]
	}
	switch {
	case len(sources) == 0 || dir == "":
		return nil, "", command.Usage("want a URL or more, and DIR, got %d arguments", c.NArg())
	case strings.Contains(dir, "://"):
		return nil, "", command.Usage("%s is no directory; give that of the copy last", untrusted.Quote(dir))
	}
	return sources, dir, nil
}

// policy returns what is chosen.
func policy(c *cli.Context) (p pull.Policy, err error) {
	p.Series, p.Images = c.StringSlice("series"), c.Int("pull-images")
	if err := p.Series.Check(); err != nil {
		return p, command.Usage("--series: %v", err)
	}
	if c.IsSet("pull-images") && p.Images < 1 {
		return p, command.Usage("--images %d, want 1 or more", p.Images)
	}
	switch deltas := c.String("deltas"); deltas {
	case "all":
		p.Deltas = pull.All
	case "none":
	default:
		if p.Deltas, err = strconv.Atoi(deltas); err != nil || p.Deltas < 1 {
			return p, command.Usage("--deltas %s, want all, none, or a number from 1 on", untrusted.Quote(deltas))
		}
	}
	if p.Since, err = parseSince(c.String("since")); err != nil {
		return p, err
	}
	p.Uses, err = readUses(c.Context, c.String("keep-list"))
	return p, err
}

// parseSince returns the version, or the beginning of one, for a date.
func parseSince(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02-150405"} {
		if _, err := time.Parse(layout, s); err == nil {
			return s, nil
		}
	}
	return "", command.Usage("--since %s, want a date such as 2024-01-31, or a version", untrusted.Quote(s))
}

// maxUses bounds a keep-list, in bytes.
const maxUses = 64 << 20

// readUses reads a keep-list; without a file there is none.
func readUses(ctx context.Context, file string) (pull.Uses, error) {
	if file == "" {
		return nil, nil
	}
	data, err := untrusted.ReadFile(ctx, file, maxUses)
	if err != nil {
		return nil, fmt.Errorf("the keep-list: %w", err)
	}
	uses, err := pull.ParseUses(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrKeepList, file, err)
	}
	return uses, nil
}

// ErrKeepList is wrapped by the error for a keep-list that is malformed.
var ErrKeepList = errors.New("no keep-list")

// parseReverify returns how files are looked at.
func parseReverify(s string) (pull.Verify, time.Duration, error) {
	switch s {
	case "never":
		return pull.ByName, 0, nil
	case "size":
		return pull.BySize, 0, nil
	case "digest":
		return pull.ByReading, 0, nil
	}
	age, err := units.Duration(s)
	if err != nil {
		return "", 0, command.Usage("--reverify %s, want never, size, digest, or a time such as 30d", untrusted.Quote(s))
	}
	return pull.BySize, age, nil
}
