// Package completion completes the command lines of a program in the shells bash, zsh and
// fish.
//
// The script of a shell, which the command completion prints, asks the program itself:
//
//	PROGRAM __complete WORD...
//
// The words are those of the command line after the program, up to the one that the cursor
// is in or behind, of which they have only what is before the cursor. It may be empty. The
// program prints what that word may become. The first line is "words", or "files" or "dirs"
// where the shell must also offer files or directories. Each other line is a word, and
// after a tab what it means, if there is something to say. Words that do not begin as the
// last one does are left out. A value after --option= has the option before it.
//
// Which values there are is found by the name of the option, as it is in Values, or else by
// the placeholder of the value: that of an option is in its usage, those of arguments are
// at the end of the usage text of the command. A placeholder with DIR in it stands for a
// directory, and one with FILE or .img in it for a file.
package completion

import (
	"embed"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
)

// Argument is the first argument that asks a program to complete the others.
const Argument = "__complete"

// Values are the values of options and of placeholders. A key is the name of an option with
// its dashes, such as --effort, or a placeholder, such as IMAGE.
type Values map[string]func(Line) []string

// Line is a command line that is completed.
type Line struct {
	app   *cli.App
	words []string
}

// List returns the values of an option: those that the line gives, or else the ones that
// are configured, or the default.
func (l Line) List(option string) []string {
	if given := command.Given(l.app, l.words, option); len(given) > 0 {
		return given
	}
	for _, f := range l.app.Flags {
		if f.Names()[0] != option {
			continue
		}
		switch f := f.(type) {
		case *cli.StringFlag:
			return []string{f.Value}
		case *cli.StringSliceFlag:
			if f.Value != nil {
				return f.Value.Value()
			}
		}
	}
	return nil
}

// Value returns the last of the values of an option, "" if it has none.
func (l Line) Value(option string) string {
	if all := l.List(option); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// Print completes a command line, if that is what args ask for, and reports whether it is.
// configure, which may be nil, is given the words before it, and applies what is configured
// to the app; what it fails at is left as it is.
func Print(app *cli.App, values Values, args []string, configure func(words []string), w io.Writer) (asked bool, err error) {
	if len(args) == 0 || args[0] != Argument {
		return false, nil
	}
	words := args[1:]
	if len(words) == 0 {
		words = []string{""}
	}
	if configure != nil {
		configure(words)
	}
	_, err = io.WriteString(w, complete(app, values, words).String())
	return true, err
}

// answer is what a word may become.
type answer struct {
	kind  string // words, files or dirs
	lines []string
}

func (a answer) String() string {
	return strings.Join(append([]string{a.kind}, a.lines...), "\n") + "\n"
}

// add adds a word, and what it means, if it begins as prefix does.
func (a *answer) add(prefix, word, meaning string) {
	if !strings.HasPrefix(word, prefix) || strings.ContainsAny(word, "\t\n") {
		return
	}
	if meaning = strings.Join(strings.Fields(meaning), " "); meaning != "" {
		word += "\t" + meaning
	}
	if !slices.Contains(a.lines, word) {
		a.lines = append(a.lines, word)
	}
}

// complete completes the last of the words.
func complete(app *cli.App, values Values, words []string) answer {
	p := parse(app, words[:len(words)-1])
	last := words[len(words)-1]
	line := Line{app, words[:len(words)-1]}
	name, _, attached := strings.Cut(last, "=")
	a := answer{kind: "words"}
	switch {
	case p.takesValue != nil:
		a.values(values, line, "", last, "--"+p.takesValue.Names()[0], placeholder(p.takesValue))
	case !p.onlyArguments && attached && strings.HasPrefix(last, "-"):
		if f := flagOf(p.flags, name); f != nil {
			a.values(values, line, name+"=", last, "--"+f.Names()[0], placeholder(f))
		}
	case !p.onlyArguments && strings.HasPrefix(last, "-"):
		a.flags(p, last)
	default:
		if p.arguments == 0 && !p.onlyArguments {
			a.commands(p.commands, last)
		}
		for one := range strings.SplitSeq(argument(p.usageText, p.words, p.arguments), "|") {
			a.values(values, line, "", last, one)
		}
	}
	return a
}

// flags adds the flags that are not given yet, or can be repeated.
func (a *answer) flags(p parsed, prefix string) {
	for _, f := range p.flags {
		_, isList := f.(*cli.StringSliceFlag)
		if isList || !slices.Contains(p.given, f.Names()[0]) {
			_, text := command.Describe(f)
			a.add(prefix, "--"+f.Names()[0], text)
		}
	}
	a.add(prefix, "--help", "print the help")
	if p.words == 0 {
		a.add(prefix, "--version", "print the version")
	}
}

func (a *answer) commands(commands []*cli.Command, prefix string) {
	for _, c := range commands {
		if !c.Hidden {
			a.add(prefix, c.Name, c.Usage)
		}
	}
}

// values adds the values of the first of some names that has any. before is put in front
// of each.
func (a *answer) values(values Values, line Line, before, prefix string, names ...string) {
	for _, name := range names {
		if list := values[name]; list != nil {
			for _, value := range list(line) {
				a.add(prefix, before+value, "")
			}
		}
	}
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "--"):
		case strings.Contains(name, "FILE"), strings.HasSuffix(name, ".img"):
			a.kind = "files"
		case strings.Contains(name, "DIR") && a.kind == "words":
			a.kind = "dirs"
		}
	}
}

var quoted = regexp.MustCompile("`([^`]*)`")

// placeholder returns the placeholder of a flag's value.
func placeholder(f cli.Flag) string {
	if d, ok := f.(cli.DocGenerationFlag); ok {
		if m := quoted.FindStringSubmatch(d.GetUsage()); m != nil {
			return m[1]
		}
	}
	return ""
}

// argument returns the placeholder of the argument of this number, from 0, in the first line
// of a usage text, of which the first words are the program's and the commands'. It is "" if
// there is none. The last of a text that ends with ... is repeated.
func argument(usageText string, words, number int) string {
	line, _, _ := strings.Cut(usageText, "\n")
	_, rest, found := strings.Cut(line, "[options]")
	if !found {
		rest = strings.Join(strings.Fields(line)[min(words+1, len(strings.Fields(line))):], " ")
	}
	all := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(rest))
	if n := len(all); n > 0 && number >= n && strings.HasSuffix(all[n-1], "...") {
		number = n - 1
	}
	if number >= len(all) || strings.HasPrefix(all[number], "-") {
		return ""
	}
	return strings.TrimSuffix(all[number], "...")
}

// Name is the name of the command that prints scripts.
const Name = "completion"

//go:embed scripts
var scripts embed.FS

// Command returns the command completion of a program.
func Command(program string, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:      Name,
		Usage:     "print a completion script for bash, zsh or fish",
		UsageText: program + " completion SHELL",
		Action: func(c *cli.Context) error {
			script, err := Script(program, c.Args().First())
			if err != nil || c.NArg() != 1 {
				return command.Usage("want one SHELL: %s", strings.Join(Shells(), ", "))
			}
			_, err = io.WriteString(stdout, script)
			return err
		},
	}
}

// Shells returns the shells that there are scripts for.
func Shells() []string { return []string{"bash", "zsh", "fish"} }

// Script returns the script of a shell for a program, which must be a plain name.
func Script(program, shell string) (string, error) {
	if !slices.Contains(Shells(), shell) {
		return "", fmt.Errorf("no completion for the shell %q", shell)
	}
	text, err := scripts.ReadFile("scripts/" + shell)
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("PROGRAM", program, "FUNCTION", strings.ReplaceAll(program, "-", "_")).Replace(string(text)), nil
}
