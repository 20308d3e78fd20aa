// Package config reads the options of a command from a config file and from the
// environment. It knows no option by name: the flags of the app are its keys.
//
// The command line overrides the environment, which overrides the file, which overrides
// the app's own default. Lists are not merged.
//
// # The file
//
// It has at most 64 KiB and no control characters. Its lines are
//
//	# a comment
//	mirror = https://images.example.org
//	mirror = /srv/images
//	quiet = true
//
// or blank. A key is the name of a flag of the app or of one of its commands, and
// sets all flags of that name. The key of a list can be repeated; the list keeps the
// order. The value is the rest of the line without the white space around it: quotes
// have no meaning, and no comment can follow. A switch is true or false. A key without
// a value is an error: a missing line says the same.
//
// # The environment
//
// A variable is the prefix, and the name of the flag in capitals with _ for -. The
// variable of a list is split at white space. A switch is true, false, 1 or 0. An
// empty variable cancels the value of the file.
//
// # Which file
//
// A Source has one file of its own, which is read if it exists. A variable names another,
// and so does an option of the command line where Source.Option is set. That file must
// exist; an empty name means no file. Where Source.Dir is set, a name of letters, digits,
// _ and - alone, such as school, is that of a file there, Dir/school.conf; all others are
// paths, ./school too.
package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/meta/untrusted"
)

// maxFile is the largest config file, in bytes.
const maxFile = 64 << 10

// bareName is a name of a file in Source.Dir.
var bareName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Source says where a command has its configuration.
type Source struct {
	File   string // the config file that is read if it exists
	Prefix string // of the variables, such as PUAVO_UPDATE_IMAGE_
	// Option, which may be empty, is the flag that names another file, without dashes. It
	// is no key.
	Option string
	// Dir, which may be empty, is where the files are that a bare name names.
	Dir string
	// Others are variables without the prefix that set flags too, by the flags' names. The
	// variable with the prefix comes first.
	Others map[string]string
	// Without are commands whose flags are no keys: Configure leaves them as they are.
	Without []string
}

// Path returns the path of the file that the option or the variable names, which need not
// exist, or else s.File; "" where they name none.
func (s Source) Path(app *cli.App, args []string, env func(string) (string, bool)) string {
	name, by := s.named(app, args, env)
	if by != "" {
		return s.path(name)
	}
	return s.File
}

// Names returns the bare names of the files in s.Dir, sorted.
func (s Source) Names() (names []string) {
	files, err := filepath.Glob(filepath.Join(s.Dir, "*.conf"))
	if s.Dir == "" || err != nil {
		return nil
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".conf"); bareName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}

// variable returns the name of the variable that names another config file.
func (s Source) variable() string { return s.Prefix + cmp.Or(strings.ToUpper(s.Option), "CONFIG") }

// Help describes the configuration for --help. example is a line of the file.
func (s Source) Help(example string) string {
	key, _, _ := strings.Cut(example, " ")
	text := `Options can also be set in ` + s.File + `, by lines
   such as "` + example + `" and "quiet = true", and by
   environment variables such as ` + s.variableOf(key) + `.
   The command line overrides the environment, which overrides the file.
   `
	if s.Option != "" {
		text += `--` + s.Option + ` or `
	}
	text += s.variable() + ` selects another file;
   if it is empty, no file is read.`
	if s.Dir != "" {
		text += " A bare NAME means\n   " + s.Dir + "/NAME.conf."
	}
	return text
}

// Configure makes the config file and the environment the defaults of the flags of
// an app and of its commands. Call it before the app runs. A flag that it sets counts
// as set, so that cli calls its Action.
//
// The file is the one that the variable Prefix+"CONFIG" names, which must exist; none
// if the variable is empty; without the variable, s.File if it exists.
//
// args are the arguments of the app, of which Configure takes the option that names the
// file. env is os.LookupEnv, or stands for it. Errors wrap command.ErrUsage, and begin with
// the line, as file:number, or the variable that is wrong. Errors for a file that cannot
// be read, and for a flag of an unknown type, do not.
func (s Source) Configure(ctx context.Context, app *cli.App, args []string, env func(string) (string, bool)) (Settings, error) {
	result := Settings{app: app, args: args, option: s.Option, where: make(map[string]string)}
	lines, err := s.lines(ctx, &result, env)
	if err != nil {
		return result, err
	}
	commands := slices.DeleteFunc(slices.Clone(app.Commands), func(c *cli.Command) bool { return slices.Contains(s.Without, c.Name) })
	flags := slices.DeleteFunc(allFlags(app.Flags, commands), func(f cli.Flag) bool { return nameOf(f) == s.Option })
	for i, line := range lines {
		if err := check(line, flags, lines[:i]); err != nil {
			return result, err
		}
	}
	for _, f := range flags {
		settings, found := s.fromEnvironment(f, env)
		if !found {
			settings = of(f, lines)
		}
		set, err := setter(f, settings)
		if err != nil {
			return result, err
		}
		set()
		for _, one := range settings {
			result.where[nameOf(f)] = one.where
		}
	}
	return result, nil
}

// allFlags returns flags, and those of commands and of their commands.
func allFlags(flags []cli.Flag, commands []*cli.Command) []cli.Flag {
	all := slices.Clone(flags)
	for _, c := range commands {
		all = append(all, allFlags(c.Flags, c.Subcommands)...)
	}
	return all
}

// usageError is a fault of the configuration, which is wrong usage.
type usageError struct{ error }

func (e usageError) Unwrap() []error { return []error{command.ErrUsage, e.error} }

// setting is one value for a flag, as it was written.
type setting struct {
	where      string // the line, as file:number, or the variable
	key, value string // key is the name of the flag
}

func (s setting) wrong(format string, a ...any) error {
	return usageError{fmt.Errorf("%s: %s", s.where, fmt.Sprintf(format, a...))}
}

// lines returns the lines of the config file, none without a file, and notes which file
// that is.
func (s Source) lines(ctx context.Context, r *Settings, env func(string) (string, bool)) ([]setting, error) {
	name, by := s.named(r.app, r.args, env)
	if by != "" && name == "" {
		return nil, nil
	}
	file := s.path(cmp.Or(name, s.File))
	lines, err := readFile(ctx, file)
	switch {
	case by == "" && errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case by != "" && errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", by, err)
	}
	r.File = file
	return lines, err
}

// named returns the name that the option or the variable gives to the file, and which of
// them did, "" for neither.
func (s Source) named(app *cli.App, args []string, env func(string) (string, bool)) (name, by string) {
	if s.Option != "" {
		if given := command.Given(app, args, s.Option); len(given) > 0 {
			return given[len(given)-1], "--" + s.Option
		}
	}
	if name, set := env(s.variable()); set {
		return name, s.variable()
	}
	return "", ""
}

// path returns the path of the file of a name.
func (s Source) path(name string) string {
	if s.Dir != "" && bareName.MatchString(name) {
		return filepath.Join(s.Dir, name+".conf")
	}
	return name
}

// readFile returns the lines of a file.
func readFile(ctx context.Context, name string) ([]setting, error) {
	text, err := untrusted.ReadFile(ctx, name, maxFile)
	switch {
	case errors.Is(err, untrusted.ErrTooLarge):
		return nil, usageError{fmt.Errorf("%s: too large for a config file; at most %d bytes are allowed", name, maxFile)}
	case err != nil:
		return nil, fmt.Errorf("the config file: %w; check the path", err)
	}
	return parse(name, string(text))
}

// parse parses a config file of this name, whatever its keys. Without an error the
// result is not nil, even for a file without settings.
func parse(name, text string) ([]setting, error) {
	lines, number := []setting{}, 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		key, value, isPair := strings.Cut(line, "=")
		s := setting{fmt.Sprintf("%s:%d", name, number), strings.TrimSpace(key), strings.TrimSpace(value)}
		switch {
		case strings.ContainsFunc(line, isControl):
			return nil, s.wrong("a control character; this is not a text file")
		case line == "" || line[0] == '#':
			continue
		case !isPair || s.key == "":
			return nil, s.wrong("%.60q, want a line such as quiet = true", line)
		case s.value == "":
			return nil, s.wrong("%.60q has no value; delete the line, or put # in front", s.key)
		}
		lines = append(lines, s)
	}
	return lines, nil
}

func isControl(r rune) bool { return unicode.IsControl(r) && r != '\t' }

// check returns an error for a line with an unknown key, with a value that a flag of
// its name does not take, or that repeats a key of an earlier line that is no list.
func check(s setting, flags []cli.Flag, before []setting) error {
	known := false
	for _, f := range flags {
		if nameOf(f) != s.key {
			continue
		}
		known = true
		if _, err := setter(f, []setting{s}); err != nil {
			return err
		}
		if earlier := of(f, before); len(earlier) > 0 && !isList(f) {
			return s.wrong("%s is already set in %s; set it once", s.key, earlier[0].where)
		}
	}
	if known {
		return nil
	}
	if near := nearest(s.key, flags); near != "" {
		return s.wrong("unknown key %.60q; did you mean %s?", s.key, near)
	}
	return s.wrong("unknown key %.60q; --help lists the options, which are the keys", s.key)
}

// nearest returns the name of the flag that a key resembles, "" if it resembles none, as
// a long one does.
func nearest(key string, flags []cli.Flag) string {
	const most = 64
	if len(key) > most {
		return ""
	}
	var names []cli.Flag // without aliases, which are no keys
	for _, f := range flags {
		names = append(names, &cli.StringFlag{Name: nameOf(f)})
	}
	return strings.TrimLeft(cli.SuggestFlag(names, key, true), "-")
}

// of returns the settings of a flag.
func of(f cli.Flag, all []setting) (its []setting) {
	for _, s := range all {
		if s.key == nameOf(f) {
			its = append(its, s)
		}
	}
	return its
}

// fromEnvironment returns the settings of a flag in the environment, and whether
// its variable is set.
func (s Source) fromEnvironment(f cli.Flag, env func(string) (string, bool)) (settings []setting, found bool) {
	name := nameOf(f)
	variable := s.variableOf(name)
	value, found := env(variable)
	if other := s.Others[name]; !found && other != "" {
		variable = other
		value, found = env(other)
	}
	values := []string{value}
	switch f.(type) {
	case *cli.StringSliceFlag:
		values = strings.Fields(value)
	case *cli.BoolFlag:
		if value == "0" || value == "1" {
			values[0] = strconv.FormatBool(value == "1")
		}
	}
	for _, v := range values {
		if v != "" {
			settings = append(settings, setting{variable, name, v})
		}
	}
	return settings, found
}

// variableOf returns the name of the variable of a flag.
func (s Source) variableOf(flag string) string {
	return s.Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// nameOf returns the name of a flag, not an alias.
func nameOf(f cli.Flag) string { return f.Names()[0] }

func isList(f cli.Flag) bool {
	_, list := f.(*cli.StringSliceFlag)
	return list
}

// setter parses the settings of a flag and returns the function that applies them.
// Without settings, that leaves the flag as it is.
func setter(f cli.Flag, settings []setting) (set func(), err error) {
	var s setting // the last, which is the only one unless the flag is a list
	var all []string
	for _, s = range settings {
		all = append(all, s.value)
	}
	switch f := f.(type) {
	case *cli.StringFlag:
		set = func() { f.Value, f.HasBeenSet = s.value, true }
	case *cli.StringSliceFlag:
		set = func() { f.Value, f.HasBeenSet = cli.NewStringSlice(all...), true }
	case *cli.BoolFlag:
		if s.value != "true" && s.value != "false" {
			err = s.wrong("%s %.60q, want true or false", s.key, s.value)
		}
		set = func() { f.Value, f.HasBeenSet = s.value == "true", true }
	case *cli.IntFlag:
		n, notInt := strconv.Atoi(s.value)
		if notInt != nil {
			err = s.wrong("%s %.60q, want a whole number", s.key, s.value)
		}
		set = func() { f.Value, f.HasBeenSet = n, true }
	case *cli.Float64Flag:
		n, notNumber := strconv.ParseFloat(s.value, 64)
		if notNumber != nil {
			err = s.wrong("%s %.60q, want a number", s.key, s.value)
		}
		set = func() { f.Value, f.HasBeenSet = n, true }
	default:
		return nil, fmt.Errorf("--%s: a flag of type %T cannot be configured", nameOf(f), f)
	}
	if len(settings) == 0 {
		return func() {}, nil
	}
	return set, err
}
