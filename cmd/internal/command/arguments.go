package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/meta/untrusted"
)

// arrange moves flags before positional arguments, since cli takes a flag after
// a positional for a positional too. What follows "--" are positionals, and the
// name of a command begins that command's own arguments; flags before it are the
// command's as well. outer are those that are before it already.
func arrange(known []cli.Flag, commands []*cli.Command, outer, args []string) []string {
	flags, rest := split(known, args, true)
	flags = slices.Concat(outer, flags)
	if len(rest) == 0 || rest[0] == "--" {
		return slices.Concat(flags, rest)
	}
	if c := commandOf(commands, rest[0]); c != nil {
		return slices.Concat(rest[:1], arrange(c.Flags, c.Subcommands, flags, rest[1:]))
	}
	more, positionals := split(known, rest, false)
	return slices.Concat(flags, more, positionals)
}

// split separates flags, with their values, from positionals, which come after a
// "--" if there are any. With leading it stops at the first positional and returns
// the rest unchanged.
//
// A flag that asks for help or the version is returned alone: cli would look for
// help about a positional. So are flags of which the last lacks its value: cli
// would take the "--" for it.
func split(known []cli.Flag, args []string, leading bool) (flags, positionals []string) {
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			positionals = append(positionals, args[1:]...)
			args = nil
		case len(arg) < 2 || arg[0] != '-':
			if leading {
				return flags, args
			}
			positionals = append(positionals, arg)
			args = args[1:]
		case asks(arg):
			return []string{arg}, nil
		default:
			if parts := expand(known, arg); parts != nil {
				args = slices.Concat(parts, args[1:])
				continue
			}
			n := 1 + values(known, arg)
			if n > len(args) {
				return append(flags, arg), nil
			}
			flags = append(flags, args[:n]...)
			args = args[n:]
		}
	}
	if len(positionals) > 0 {
		positionals = append([]string{"--"}, positionals...)
	}
	return flags, positionals
}

// expand returns the flags that are joined in an argument such as -vq, -j4 or -vj4, each of
// one letter and only the last with a value; nil for any other argument. What is the name of
// a flag, or may be meant for one, is none: -repo is not -r epo.
func expand(known []cli.Flag, arg string) (parts []string) {
	name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
	if len(name) < 2 || name[0] == '-' || flagOf(known, name) != nil || asks(arg) || isMeant(known, name) {
		return nil
	}
	for i := 1; i < len(arg); i++ {
		letter := arg[i : i+1]
		f := flagOf(known, letter)
		_, isBool := f.(*cli.BoolFlag)
		switch {
		case isBool || letter == "h":
			parts = append(parts, "-"+letter)
		case f == nil:
			return nil
		case i+1 < len(arg):
			return append(parts, "-"+letter+"="+arg[i+1:])
		default:
			return append(parts, "-"+letter)
		}
	}
	return parts
}

// isMeant reports whether a long flag begins with a word of three letters or more, or
// resembles it.
func isMeant(known []cli.Flag, word string) bool {
	names := longNames(known)
	begins := func(name string) bool { return strings.HasPrefix(name, word) }
	return len(word) > 2 && (slices.ContainsFunc(names, begins) || untrusted.Nearest(word, names) != "")
}

// longNames returns the names of flags that have more than a letter, and what all have.
func longNames(known []cli.Flag) []string {
	names := []string{"help", "version"}
	for _, f := range known {
		for _, name := range f.Names() {
			if len(name) > 1 {
				names = append(names, name)
			}
		}
	}
	return names
}

// checkFlags returns an error for a flag that arranged arguments name and that is none, with
// the one that may be meant.
func checkFlags(known []cli.Flag, commands []*cli.Command, args []string) error {
	wrong, known, _ := walk(known, commands, args)
	if wrong == "" {
		return nil
	}
	name, _, _ := strings.Cut(strings.TrimLeft(wrong, "-"), "=")
	near := untrusted.Nearest(name, longNames(known))
	if near != "" {
		near = "; did you mean --" + near + "?"
	}
	shown, _, _ := strings.Cut(wrong, "=")
	return Usage("unknown option %s%s", untrusted.Show(shown), near)
}

// asks reports whether a flag asks for help or the version.
func asks(arg string) bool {
	return slices.Contains([]string{"help", "h", "version"}, strings.TrimLeft(arg, "-"))
}

// values returns how many arguments after a flag are its value: 0 or 1.
func values(known []cli.Flag, arg string) int {
	f := flagOf(known, strings.TrimLeft(arg, "-"))
	if _, isBool := f.(*cli.BoolFlag); f == nil || isBool {
		return 0
	}
	return 1
}

// Given returns the values that arguments give to a flag, in their order: none where they
// do not name it. That of a switch is "true" unless one is written. The flag is that of the
// command which the arguments name.
func Given(app *cli.App, args []string, flag string) (given []string) {
	known, commands := app.Flags, app.Commands
	args = arrange(known, commands, nil, args)
	for len(args) > 0 && args[0] != "--" {
		arg := args[0]
		args = args[1:]
		if c := commandOf(commands, arg); c != nil {
			known, commands = c.Flags, c.Subcommands
			continue
		}
		name, value, attached := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch {
		case attached:
		case values(known, arg) == 0:
			value = "true"
		case len(args) == 0:
			return given // cli says that it lacks its value
		default:
			value, args = args[0], args[1:]
		}
		if f := flagOf(known, name); f != nil && f.Names()[0] == flag {
			given = append(given, value)
		}
	}
	return given
}

// Named returns the name of the command that arguments name, "" for none.
func Named(app *cli.App, args []string) string {
	args = arrange(app.Flags, app.Commands, nil, args)
	if len(args) == 0 || commandOf(app.Commands, args[0]) == nil {
		return ""
	}
	return args[0]
}

// commandOf returns the command of a name, nil for none.
func commandOf(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// flagOf returns the flag of a name, without dashes; nil for none.
func flagOf(known []cli.Flag, name string) cli.Flag {
	for _, f := range known {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// Settle decides about arguments whose first positional is the name of a command and of a
// directory, as it can be in scripts that are older than the command. directory reports
// whether a path is such a directory. forms report, by the commands' names, whether the
// positionals after the name fit the command; forms[""] reports it for the app, with the name
// among them. Only commands with a form are decided about.
//
// What fits the app alone is returned with ./ before the name, so that it is no command.
// What fits both is an error that wraps ErrUsage. All else is returned as it is.
func Settle(app *cli.App, args []string, directory func(string) bool, forms map[string]func([]string) bool) ([]string, error) {
	before, rest := split(app.Flags, args, true)
	if len(rest) == 0 || forms[rest[0]] == nil || !directory(rest[0]) {
		return args, nil
	}
	name, after := rest[0], rest[1:]
	if !fits(app.Flags, nil, arrange(app.Flags, nil, before, rest), forms[""]) {
		return args, nil
	}
	c := commandOf(app.Commands, name)
	if fits(c.Flags, c.Subcommands, arrange(c.Flags, c.Subcommands, before, after), forms[name]) {
		return nil, Usage("%[1]s is a command, but also a directory with images here: write ./%[1]s for the directory, or run the command elsewhere", name)
	}
	return slices.Concat(before, []string{"./" + name}, after), nil
}

// fits reports whether all flags of arranged arguments are known, and the positionals fit,
// after the names of commands.
func fits(known []cli.Flag, commands []*cli.Command, args []string, form func([]string) bool) bool {
	unknown, _, names := walk(known, commands, args)
	return unknown == "" && form(names)
}

// walk walks over arranged arguments. It returns the first flag that is not known, "" for
// none; the flags that the command they name knows; and the names of commands with the
// positionals after them.
func walk(known []cli.Flag, commands []*cli.Command, args []string) (unknown string, its []cli.Flag, names []string) {
	for len(args) > 0 && args[0] != "--" {
		if c := commandOf(commands, args[0]); c != nil {
			names = append(names, args[0])
			known, commands, args = c.Flags, c.Subcommands, args[1:]
			continue
		}
		name, _, _ := strings.Cut(strings.TrimLeft(args[0], "-"), "=")
		if flagOf(known, name) == nil && !asks(args[0]) {
			return args[0], known, nil
		}
		args = args[min(len(args), 1+values(known, args[0])):]
	}
	return "", known, append(names, args[min(1, len(args)):]...)
}
