package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// plan prints how the image would be made.
func plan(c *cli.Context, con console) error {
	o, err := options(c, con)
	if err != nil {
		return err
	}
	p, err := client.NewPlan(c.Context, o)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return command.JSON(con.out, p)
	}
	_, err = io.WriteString(con.out, planText(p)) // quiet, too: it is all that is wanted
	return err
}

func planText(p client.Plan) string {
	var b strings.Builder
	if p.Disabled {
		b.WriteString("Updates are disabled by DISABLE_IMAGE_UPDATES. Without it:\n")
	}
	if p.Held != nil {
		b.WriteString(heldText(p.Held) + "Without the hold:\n")
	}
	switch {
	case p.UpToDate:
		b.WriteString("Everything is up to date.\n")
	case len(p.Candidates) == 0:
		fmt.Fprintf(&b, "%s is complete, and would be put to use.\n", p.Image)
	default:
		fmt.Fprintf(&b, "%s from %s (%s of disk space free):\n%s", p.Image, p.Mirror, ui.Bytes(p.Available), waysText(p))
	}
	return b.String()
}

// waysText is the table of the candidates of a plan, with the rate that their times are of.
func waysText(p client.Plan) string {
	if len(p.Candidates) == 0 {
		return ""
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "fetch\ttime\tdisk\t\n")
	for _, candidate := range p.Candidates {
		fmt.Fprintf(w, "%s\t%s\t%s\t  %s%s\n", ui.Bytes(candidate.Fetch), seconds(candidate.Seconds), ui.Bytes(candidate.Disk), candidate, fromOther(p, candidate))
	}
	w.Flush()
	rate := fmt.Sprintf("Times are for %s/s", ui.Bytes(p.Rate))
	if !p.RateKnown {
		rate += ", a guess: no download was measured yet"
	}
	return b.String() + rate + ".\n"
}

// seconds writes how long something takes, to the second.
func seconds(n float64) string {
	const most = 1e6 // a thousand hours
	return time.Duration(math.Ceil(min(n, most)) * float64(time.Second)).String()
}

// heldText says since when updates are held, and what is missed.
func heldText(h *client.Held) string {
	if h.Damage != "" {
		return "Updates are held: " + h.Damage + ".\n"
	}
	text := fmt.Sprintf("Updates are held at %s%s", h.Image, since(h.Since))
	switch n := len(h.Missed); n {
	case 0:
	case 1:
		text += fmt.Sprintf("; %s is not installed", h.Missed[0])
	default:
		text += fmt.Sprintf("; %d newer images, up to %s, are not installed", n, h.Missed[n-1])
	}
	if (h.From != meta.Name{}) {
		return fmt.Sprintf("%s. An image newer than %s, or unhold, ends the hold.\n", text, h.From)
	}
	return text + ". Only unhold ends the hold.\n"
}

// since says since when something is, as far as that is known.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " since " + t.Local().Format(time.DateTime)
}

// fromOther says where the files of a candidate come from, if not from the mirror of
// the plan.
func fromOther(p client.Plan, c client.Candidate) string {
	var others []string
	for _, f := range c.Files {
		if f.Mirror != p.Mirror && !slices.Contains(others, f.Mirror) {
			others = append(others, f.Mirror)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return ", from " + strings.Join(others, ", ")
}

// checkForUpdate prints whether there is an update, and returns upToDate if not.
func checkForUpdate(c *cli.Context, con console) error {
	o, err := options(c, con)
	if err != nil {
		return err
	}
	p, err := client.Check(c.Context, o)
	if err != nil {
		return err
	}
	text, code := p.Image.String()+" is available.\n"+waysText(p), error(nil)
	switch {
	case p.Disabled:
		text, code = fmt.Sprintf("Updates are disabled by DISABLE_IMAGE_UPDATES in %s.\n", o.Dir), upToDate
	case p.Held != nil:
		text, code = heldText(p.Held), upToDate
	case p.UpToDate:
		text, code = fmt.Sprintf("%s is up to date.\n", o.Dir), upToDate
	}
	if err := con.print(c, p, text); err != nil {
		return err
	}
	return code
}

// list prints the images.
func list(c *cli.Context, con console) error {
	return show(c, con, client.List)
}

// verify reads the images and prints which of them are wrong.
func verify(c *cli.Context, con console) error {
	return show(c, con, client.Verify)
}

// show prints images, and returns an error if one of them is wrong.
func show(c *cli.Context, con console, images func(context.Context, client.Options) ([]client.Listed, error)) error {
	if c.NArg() > 0 {
		return command.Usage("unknown argument %q", c.Args().First())
	}
	o, err := options(c, con)
	if err != nil {
		return err
	}
	all, err := images(c.Context, o)
	con.screen.Done()
	if err != nil {
		return err
	}
	if err := con.print(c, all, listText(all)); err != nil {
		return err
	}
	for _, l := range all {
		if l.State == client.Wrong {
			return fmt.Errorf("%s in %s differs from the mirror's image; run update with this name to make it again", l.Name, o.Dir)
		}
	}
	return nil
}

func listText(all []client.Listed) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	series := ""
	for _, l := range all {
		if l.Series != series {
			series = l.Series
			fmt.Fprintf(w, "%s\n", series)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", l.Name, ui.Bytes(l.Size), strings.Join(words(l), ", "))
	}
	w.Flush()
	return b.String()
}

// words returns the properties of an image.
func words(l client.Listed) (words []string) {
	for _, word := range []struct {
		name  string
		holds bool
	}{
		{"present", l.Local}, {"offered", l.Offered}, {"default", l.Default}, {string(l.State), l.State != client.Unknown},
		{"held" + since(l.HeldSince), l.Held}, {"missed", l.Missed},
	} {
		if word.holds {
			words = append(words, word.name)
		}
	}
	return words
}
