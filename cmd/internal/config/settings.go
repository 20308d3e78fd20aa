package config

import (
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
)

// Settings are what Configure found: which file it read, and what each flag was set by. The
// zero Settings set nothing.
type Settings struct {
	// File is the config file that was read, "" for none.
	File string

	app    *cli.App
	args   []string
	option string
	where  map[string]string // by the flag's name
}

// Setting is what holds for an option.
type Setting struct {
	Key string `json:"key"` // the name of the flag
	// Value is a string, a bool, a number, or an array of strings, as the flag is.
	Value any `json:"value"`
	// Source is "default", "command line", a variable, or a line of the file, as
	// file:number. Of a list in the file it is the last line.
	Source string `json:"source"`
}

// Sets reports whether the file or the environment sets a flag.
func (s Settings) Sets(flag string) bool { return s.where[flag] != "" }

// Given reports whether the command line names a flag.
func (s Settings) Given(flag string) bool {
	return s.app != nil && len(command.Given(s.app, s.args, flag)) > 0
}

// All returns what holds for the flags of c, and then for those of other commands that the
// file or the environment sets, each sorted as they are there. A password in a URL is
// hidden.
func (s Settings) All(c *cli.Context) []Setting {
	var all []Setting
	seen := map[string]bool{s.option: true, "help": true}
	for _, f := range c.Command.Flags {
		name := nameOf(f)
		if seen[name] {
			continue
		}
		seen[name] = true
		all = append(all, Setting{name, shown(c.Value(name)), s.source(name)})
	}
	for _, f := range allFlags(s.app.Flags, s.app.Commands) {
		if name := nameOf(f); !seen[name] && s.Sets(name) {
			seen[name] = true
			all = append(all, Setting{name, shown(valueOf(f)), s.where[name]})
		}
	}
	return all
}

// source returns where the value of a flag comes from.
func (s Settings) source(flag string) string {
	switch {
	case s.Given(flag):
		return "command line"
	case s.Sets(flag):
		return s.where[flag]
	default:
		return "default"
	}
}

// valueOf returns the value of a flag that no command line sets.
func valueOf(f cli.Flag) any {
	switch f := f.(type) {
	case *cli.StringFlag:
		return f.Value
	case *cli.BoolFlag:
		return f.Value
	case *cli.IntFlag:
		return f.Value
	case *cli.Float64Flag:
		return f.Value
	case *cli.StringSliceFlag:
		return *f.Value
	}
	return nil
}

// shown returns a value as it is shown.
func shown(value any) any {
	switch v := value.(type) {
	case cli.StringSlice:
		all := []string{} // not null
		for _, one := range v.Value() {
			all = append(all, hidden(one))
		}
		return all
	case string:
		return hidden(v)
	}
	return value
}

// hidden returns a text without the password of a URL.
func hidden(text string) string {
	if !strings.Contains(text, "@") {
		return text
	}
	address := text
	if !strings.Contains(text, "//") {
		address = "//" + text
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "(not shown)"
	case u.User == nil:
		return text
	}
	u.User = url.User("xxxxx")
	return strings.TrimPrefix(u.String(), address[:len(address)-len(text)])
}
