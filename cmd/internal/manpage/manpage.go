// Package manpage makes the manual pages of a program from the same texts as its help.
//
// A program has one page, and one for each of its commands that has options. The page
// PROGRAM-COMMAND describes PROGRAM COMMAND, and the commands below that. These sections are
// made of the app, in this order:
//
//	NAME, SYNOPSIS, DESCRIPTION, COMMANDS, OPTIONS or one section for each category of options
//
// What comes after them is written by hand, as Markdown in a file PAGE.md: FILES,
// ENVIRONMENT and so on, each below a heading of the first level. Sections that a page does
// not have by hand follow: EXIT STATUS and EXAMPLES, if the description has paragraphs that
// begin with "Exit codes:" or "Example:", and SEE ALSO.
//
// The descriptions are those of package command: paragraphs, of which lines that are
// indented more than the others are an example.
package manpage

import (
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/version"
)

// Argument is the first argument that asks a program for its pages, see Print.
const Argument = "__man"

// project is what the pages name as their source.
const project = "puavo-image-repository"

// Print writes a page to w, if that is what args ask for, and reports whether it is:
//
//	__man         the names of all pages, one a line
//	__man NAME    the page of that name, as roff
//
// hand has a file NAME.md with the sections that are written by hand, for each page that has
// any. A file for no page is an error, as is a NAME that is none, which wraps command.ErrUsage.
func Print(app *cli.App, hand fs.FS, args []string, w io.Writer) (asked bool, err error) {
	if len(args) == 0 || args[0] != Argument {
		return false, nil
	}
	pages, err := withHand(pagesOf(app), hand)
	if err != nil {
		return true, err
	}
	if len(args) == 1 {
		for _, p := range pages {
			if _, err := fmt.Fprintln(w, p.name); err != nil {
				return true, err
			}
		}
		return true, nil
	}
	i := slices.IndexFunc(pages, func(p page) bool { return p.name == args[1] })
	if i < 0 {
		return true, command.Usage("no manual page %q", args[1])
	}
	_, err = w.Write(Render(pages[i].name, version.String(), pages[i].markdown()))
	return true, err
}

// Render returns a page of section 1 as roff. version is that of the program, and markdown
// are the sections, from NAME on. The page has no date, so that the same version gives the
// same bytes.
func Render(name, version, markdown string) []byte {
	title := fmt.Sprintf("# %s 1 \"\" \"%s %s\" \"User commands\"\n\n", strings.ToUpper(name), project, version)
	roff := md2man.Render([]byte(title + markdown))
	return minus(leftAligned.ReplaceAll(roff, []byte("$1\n.nh\n.ad l\n")))
}

// leftAligned finds where it is said how lines end: after the title, which resets it.
var leftAligned = regexp.MustCompile(`(?m)^\.nh\n(\.TH .*)\n`)

// literal is what readers may copy: text in bold that begins with a dash, and examples.
var literal = regexp.MustCompile(`\\fB-[^\\]*|(?s:\n\.EX\n.*?\n\.EE\n)`)

// minus writes the dashes of options and examples as such: roff takes "-" for a hyphen.
func minus(roff []byte) []byte {
	return literal.ReplaceAllFunc(roff, func(text []byte) []byte {
		return []byte(strings.ReplaceAll(string(text), "-", `\-`))
	})
}

// page is a page before it is written.
type page struct {
	name        string   // of the page
	words       []string // the program and the names of commands
	usage       string
	usageText   string
	description string
	commands    []*cli.Command
	flags       []cli.Flag
	hand        string   // sections by hand
	others      []string // the names of the other pages
}

// pagesOf returns all pages of an app, the program's first.
func pagesOf(app *cli.App) []page {
	pages := []page{{
		name: app.Name, words: []string{app.Name}, usage: app.Usage, usageText: app.UsageText, description: app.Description,
		commands: visible(app.Commands), flags: slices.Concat(app.Flags, helpFlags()),
	}}
	for _, c := range visible(app.Commands) {
		if hasPage(c) {
			pages = append(pages, page{
				name: app.Name + "-" + c.Name, words: []string{app.Name, c.Name}, usage: c.Usage, usageText: c.UsageText,
				description: c.Description, commands: visible(c.Subcommands), flags: c.Flags,
			})
		}
	}
	for i := range pages {
		for _, p := range pages {
			if p.name != pages[i].name {
				pages[i].others = append(pages[i].others, p.name)
			}
		}
	}
	return pages
}

// withHand returns the pages with their sections by hand.
func withHand(pages []page, hand fs.FS) ([]page, error) {
	files, err := fs.Glob(hand, "*.md")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		i := slices.IndexFunc(pages, func(p page) bool { return p.name+".md" == file })
		if i < 0 {
			return nil, fmt.Errorf("%s is for no manual page", file)
		}
		text, err := fs.ReadFile(hand, file)
		if err != nil {
			return nil, err
		}
		pages[i].hand = string(text)
	}
	return pages, nil
}

// hasPage reports whether a command has a page of its own: options, or commands.
func hasPage(c *cli.Command) bool { return len(c.Flags) > 0 || len(c.Subcommands) > 0 }

// visible returns the commands that the help has.
func visible(commands []*cli.Command) []*cli.Command {
	return slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool { return c.Hidden })
}

// helpFlags returns the flags that each program has without naming them.
func helpFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "print the help; after a command, the help of that command"},
		&cli.BoolFlag{Name: "version", Usage: "print the version"},
	}
}

// markdown returns the page.
func (p page) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# NAME\n%s - %s\n\n", p.name, mark(p.usage))
	fmt.Fprintf(&b, "# SYNOPSIS\n%s\n", synopsis(p.usageText))
	text, examples, exitCodes := prose(p.description)
	if text != "" {
		fmt.Fprintf(&b, "# DESCRIPTION\n%s\n", text)
	}
	b.WriteString(p.commandsText())
	for _, g := range command.Groups(p.flags) {
		fmt.Fprintf(&b, "# %s\n%s", strings.ToUpper(g.Title), options(g.Flags))
	}
	if p.hand != "" {
		b.WriteString(p.hand + "\n")
	}
	if exitCodes != "" && !p.has("EXIT STATUS") {
		fmt.Fprintf(&b, "# EXIT STATUS\n%s\n\n", exitCodes)
	}
	if examples != "" && !p.has("EXAMPLES") {
		fmt.Fprintf(&b, "# EXAMPLES\n%s", examples)
	}
	b.WriteString(p.seeAlso())
	return b.String()
}

// has reports whether a page has a section by hand.
func (p page) has(section string) bool { return strings.Contains("\n"+p.hand, "\n# "+section+"\n") }

// commandsText returns the section about the commands below this one: on the program's page
// a list, on that of a command all about them.
func (p page) commandsText() string {
	if len(p.commands) == 0 {
		return ""
	}
	if len(p.words) > 1 {
		return p.inFull()
	}
	var b strings.Builder
	b.WriteString("# COMMANDS\n")
	for _, c := range p.commands {
		fmt.Fprintf(&b, "**%s**\n: %s", c.Name, sentence(mark(c.Usage)))
		if hasPage(c) {
			fmt.Fprintf(&b, " See **%s-%s**(1).", p.name, c.Name)
		}
		b.WriteString("\n\n")
	}
	return b.String()
}

// inFull returns the section about the commands, and one about the options that all of them
// have.
func (p page) inFull() string {
	var b strings.Builder
	b.WriteString("# COMMANDS\n")
	shared := commonFlags(p.commands)
	for _, c := range p.commands {
		text, _, _ := prose(c.Description)
		fmt.Fprintf(&b, "### %s\n%s\n\n%s", synopsisOf(c.UsageText), sentence(mark(c.Usage)), text)
		b.WriteString(options(slices.DeleteFunc(slices.Clone(c.Flags), func(f cli.Flag) bool { return contains(shared, f) })))
	}
	if len(shared) > 0 {
		fmt.Fprintf(&b, "# OPTIONS OF ALL COMMANDS\n%s", options(shared))
	}
	return b.String()
}

// commonFlags returns the flags that several commands all have, with the same text.
func commonFlags(commands []*cli.Command) []cli.Flag {
	if len(commands) < 2 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(commands[0].Flags), func(f cli.Flag) bool {
		return slices.ContainsFunc(commands, func(c *cli.Command) bool { return !contains(c.Flags, f) })
	})
}

// contains reports whether there is a flag of the same names and text.
func contains(flags []cli.Flag, f cli.Flag) bool {
	return slices.ContainsFunc(flags, func(other cli.Flag) bool { return f.String() == other.String() })
}

// options returns a list of options.
func options(flags []cli.Flag) string {
	var b strings.Builder
	for _, f := range flags {
		label, text := command.Describe(f)
		fmt.Fprintf(&b, "%s\n: %s\n\n", synopsisOf(label), sentence(mark(text, placeholders(label)...)))
	}
	return b.String()
}

// seeAlso returns the section that names the other pages.
func (p page) seeAlso() string {
	if len(p.others) == 0 || p.has("SEE ALSO") {
		return ""
	}
	return "# SEE ALSO\n**" + strings.Join(p.others, "**(1), **") + "**(1)\n"
}
