package command

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/meta/untrusted"
)

const (
	helpWidth  = 80 // columns of a help text
	helpIndent = 3
	helpText   = 29 // where the texts about options begin, from 0
)

// The categories of flags that commands share.
const (
	Limits = "Limits"
	Output = "Output"
)

// Category puts flags into a category of the help, unless they have one, and returns them.
// The help has the categories in the order of their first flags, and those without one at
// the end, under "Options".
func Category(name string, flags ...cli.Flag) []cli.Flag {
	for _, f := range flags {
		if at := categoryOf(f); at != nil && *at == "" {
			*at = name
		}
	}
	return flags
}

// categoryOf returns where a flag has its category, nil for a type that is not known.
func categoryOf(f cli.Flag) *string {
	switch f := f.(type) {
	case *cli.BoolFlag:
		return &f.Category
	case *cli.StringFlag:
		return &f.Category
	case *cli.StringSliceFlag:
		return &f.Category
	case *cli.IntFlag:
		return &f.Category
	case *cli.Float64Flag:
		return &f.Category
	}
	return nil
}

// HelpCommand returns the command help of a program.
func HelpCommand(program string) *cli.Command {
	return &cli.Command{
		Name: helpName, Usage: "print the help of a command",
		UsageText: program + " help [COMMAND...]",
	}
}

const helpName = "help"

// helpArguments returns the arguments that ask for the help which those of a help command
// ask for. They are arranged.
func helpArguments(app *cli.App, args []string) ([]string, error) {
	commands, topic := app.Commands, []string{}
	for i, arg := range args {
		switch c := commandOf(commands, arg); {
		case arg == "--":
		case c != nil:
			topic, commands = append(topic, arg), c.Subcommands
		case slices.Contains(args[:i], "--"):
			return nil, Usage("no command %q%s", strings.Join(append(topic, arg), " "), didYouMean(arg, commandNames(commands)))
		}
	}
	return append(topic, "--help"), nil
}

// printHelp prints the help of an app or of a command, as cli has it printed.
func printHelp(w io.Writer, _ string, subject any) {
	var h help
	switch s := subject.(type) {
	case *cli.App:
		h = help{s.HelpName, s.Usage, s.UsageText, s.Description, s.VisibleCommands(), s.VisibleFlags()}
	case *cli.Command:
		h = help{s.HelpName, s.Usage, s.UsageText, s.Description, s.Subcommands, s.VisibleFlags()}
	}
	_, _ = io.WriteString(w, h.String()) // as cli's own does
}

// help is what the help of an app or of a command says.
type help struct {
	name, usage, usageText, description string
	commands                            []*cli.Command
	flags                               []cli.Flag
}

func (h help) String() string {
	var b strings.Builder
	b.WriteString(wrap(h.name+" - "+h.usage, 0, helpIndent))
	b.WriteString("\nUsage:\n")
	for line := range strings.Lines(h.usageText) {
		b.WriteString(wrap(strings.TrimSpace(line), helpIndent, 3*helpIndent))
	}
	if h.description != "" {
		fmt.Fprintf(&b, "\n%*s%s\n", helpIndent, "", h.description)
	}
	if len(h.commands) > 0 {
		b.WriteString("\nCommands:\n")
		for _, c := range h.commands {
			b.WriteString(entry(c.Name, c.Usage, h.commandsText()))
		}
	}
	for _, g := range Groups(h.flags) {
		fmt.Fprintf(&b, "\n%s:\n", g.Title)
		for _, f := range g.Flags {
			label, text := Describe(f)
			b.WriteString(entry(label, text, helpText))
		}
	}
	return b.String()
}

// commandsText returns where the texts about commands begin.
func (h help) commandsText() int {
	longest := 0
	for _, c := range h.commands {
		longest = max(longest, len(c.Name))
	}
	return helpIndent + longest + 2
}

// Group is flags of one category.
type Group struct {
	Title string
	Flags []cli.Flag
}

// Groups returns flags by their categories, in the order of the help.
func Groups(flags []cli.Flag) (groups []Group) {
	for _, title := range titles(flags) {
		g := Group{Title: title}
		for _, f := range flags {
			if titleOf(f) == title {
				g.Flags = append(g.Flags, f)
			}
		}
		groups = append(groups, g)
	}
	return groups
}

// Describe returns the names of a flag with the placeholder of its value, such as
// "--jobs N, -j N", and the text about it. That does not say that a switch is off by default.
//
// A usage that begins with its placeholder and a colon, such as "`N`: number of jobs", is for
// a text that does not name the placeholder: here "number of jobs".
func Describe(f cli.Flag) (label, text string) {
	if b, ok := f.(*cli.BoolFlag); ok {
		b.DisableDefaultText = !b.Value
	}
	label, text, _ = strings.Cut(f.String(), "\t")
	label, _, _ = strings.Cut(label, " [ ") // how cli shows that it can be repeated
	if first, rest, found := strings.Cut(text, ": "); found && strings.HasSuffix(label, " "+first) {
		text = rest
	}
	return label, text
}

// titles returns the titles of the categories of flags, in the order of the help.
func titles(flags []cli.Flag) (titles []string) {
	rest := false
	for _, f := range flags {
		switch title := titleOf(f); {
		case title == otherOptions:
			rest = true
		case !slices.Contains(titles, title):
			titles = append(titles, title)
		}
	}
	if rest {
		titles = append(titles, otherOptions)
	}
	return titles
}

const otherOptions = "Options"

// titleOf returns the title of the category of a flag.
func titleOf(f cli.Flag) string {
	if at := categoryOf(f); at != nil && *at != "" {
		return *at
	}
	return otherOptions
}

// entry returns a label and the text about it, which begins in a column, below the label if
// that is too long.
func entry(label, text string, column int) string {
	head := fmt.Sprintf("%*s%s", helpIndent, "", label)
	body := wrap(text, column, column)
	if width := utf8.RuneCountInString(head); width+2 <= column {
		return head + body[width:]
	}
	return wrap(label, helpIndent, 2*helpIndent) + body
}

// wrap breaks a text at its spaces into lines of at most helpWidth columns where it can.
// The first line is indented by first columns, the others by rest.
func wrap(text string, first, rest int) string {
	var b strings.Builder
	column, indent := first, first
	b.WriteString(strings.Repeat(" ", first))
	for word := range strings.FieldsSeq(text) {
		width := utf8.RuneCountInString(word)
		switch {
		case column == indent:
		case column+1+width > helpWidth:
			b.WriteString("\n" + strings.Repeat(" ", rest))
			column, indent = rest, rest
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += width
	}
	return b.String() + "\n"
}

// NoCommand returns the error for a command that has commands of its own and was called
// without one of them.
func NoCommand(c *cli.Context) error {
	names := commandNames(c.Command.Subcommands)
	if c.NArg() == 0 {
		return Usage("want a command of %s: %s", c.Command.Name, strings.Join(names, ", "))
	}
	wrong := c.Args().First()
	return Usage("%s has no command %s%s", c.Command.Name, untrusted.Quote(wrong), didYouMean(wrong, names))
}

// NearCommand returns the command of an app that a word resembles, "" if it resembles none.
func NearCommand(c *cli.Context, word string) string {
	return untrusted.Nearest(word, commandNames(c.App.Commands))
}

func commandNames(commands []*cli.Command) (names []string) {
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}

// didYouMean returns a clause that asks whether one of some words is meant, "" if none is
// near.
func didYouMean(wrong string, words []string) string {
	if near := untrusted.Nearest(wrong, words); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
