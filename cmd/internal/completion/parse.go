package completion

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// parsed is what the words before the one that is completed say.
type parsed struct {
	words         int // how many of them are names of commands
	usageText     string
	commands      []*cli.Command // those that can come
	flags         []cli.Flag     // those that can be given
	given         []string       // the names of those that are
	takesValue    cli.Flag       // the one whose value comes; nil if none
	arguments     int            // how many there are
	onlyArguments bool           // after a "--"
}

// parse parses words.
func parse(app *cli.App, words []string) parsed {
	p := parsed{usageText: app.UsageText, commands: app.Commands, flags: app.Flags}
	for _, word := range words {
		switch {
		case p.takesValue != nil:
			p.takesValue = nil
		case p.onlyArguments:
			p.arguments++
		case word == "--":
			p.onlyArguments = true
		case len(word) > 1 && word[0] == '-':
			p.flag(word)
		default:
			p.word(word)
		}
	}
	return p
}

// flag notes a flag that is given.
func (p *parsed) flag(word string) {
	name, _, attached := strings.Cut(word, "=")
	f := flagOf(p.flags, name)
	if f == nil {
		return
	}
	p.given = append(p.given, f.Names()[0])
	if _, isSwitch := f.(*cli.BoolFlag); !isSwitch && !attached {
		p.takesValue = f
	}
}

// word notes the name of a command, or an argument.
func (p *parsed) word(word string) {
	i := slices.IndexFunc(p.commands, func(c *cli.Command) bool { return c.HasName(word) })
	if p.arguments > 0 || i < 0 {
		p.arguments++
		return
	}
	c := p.commands[i]
	p.words++
	p.usageText, p.commands, p.flags = c.UsageText, c.Subcommands, c.Flags
}

// flagOf returns the flag of a word such as --jobs or -j, nil for none.
func flagOf(flags []cli.Flag, word string) cli.Flag {
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), strings.TrimLeft(word, "-")) })
	if i < 0 {
		return nil
	}
	return flags[i]
}
