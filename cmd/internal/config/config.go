// Package config reads the options of a command from a config file and from the
// environment. It knows no option by name: the flags of the app are its keys.
//
// The command line counts before the environment, that before the file, and that
// before the app's own default. Lists are not added to each other.
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
// a value is an error, as it says nothing that a missing line does not.
//
// # The environment
//
// A variable is the prefix, and the name of the flag in capitals with _ for -. The
// variable of a list is split at white space. A switch is true, false, 1 or 0. An
// empty variable cancels the value of the file.
package config

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// Source says where a command has its configuration.
type Source struct {
	File   string // the config file that is read if it exists
	Prefix string // of the variables, such as PUAVO_UPDATE_IMAGE_
}

// variable returns the name of the variable that names another config file.
func (s Source) variable() string { return s.Prefix + "CONFIG" }

// Help describes the configuration for --help.
func (s Source) Help() string {
	return `Options can be set in ` + s.File + ` as well, by lines such as
   "mirror = https://images.example.org" and "quiet = true", and in the environment
   by variables such as ` + s.Prefix + `MIRROR. The command line comes first,
   then the environment, then the file. ` + s.variable() + ` names another
   file, or none if it is empty.`
}

// Configure makes the config file and the environment the defaults of the flags of
// an app and of its commands. Call it before the app runs. A flag that it sets counts
// as set, so that cli calls its Action.
//
// The file is the one that the variable Prefix+"CONFIG" names, which must exist; none
// if the variable is empty; without the variable, s.File if it exists.
//
// env is os.LookupEnv, or stands for it. Errors wrap command.ErrUsage, and begin with
// the line, as file:number, or the variable that is wrong. Errors for a file that cannot
// be read, and for a flag of an unknown type, do not.
func (s Source) Configure(ctx context.Context, app *cli.App, env func(string) (string, bool)) error {
	lines, err := s.lines(ctx, env)
	if err != nil {
		return err
	}
	flags := slices.Clone(app.Flags)
	for _, c := range app.Commands {
		flags = append(flags, c.Flags...)
	}
	for i, line := range lines {
		if err := check(line, flags, lines[:i]); err != nil {
			return err
		}
	}
	for _, f := range flags {
		settings, found := s.fromEnvironment(f, env)
		if !found {
			settings = of(f, lines)
		}
		set, err := setter(f, settings)
		if err != nil {
			return err
		}
		set()
	}
	return nil
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

// lines returns the lines of the config file, none without a file.
func (s Source) lines(ctx context.Context, env func(string) (string, bool)) ([]setting, error) {
	name, named := env(s.variable())
	if named && name == "" {
		return nil, nil
	}
	lines, err := readFile(ctx, cmp.Or(name, s.File))
	switch {
	case !named && errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case named && errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", s.variable(), err)
	}
	return lines, err
}

// readFile returns the lines of a file.
func readFile(ctx context.Context, name string) ([]setting, error) {
	text, err := untrusted.ReadFile(ctx, name, maxFile)
	switch {
	case errors.Is(err, untrusted.ErrTooLarge):
		return nil, usageError{fmt.Errorf("%s: a config file has at most %d bytes", name, maxFile)}
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
			return nil, s.wrong("a control character; this is no text file")
		case line == "" || line[0] == '#':
			continue
		case !isPair || s.key == "":
			return nil, s.wrong("%.60q, want a line such as quiet = true", line)
		case s.value == "":
			return nil, s.wrong("%.60q has no value; leave the line out, or write # before it", s.key)
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
			return s.wrong("%s is set in %s already; it can be set once", s.key, earlier[0].where)
		}
	}
	if known {
		return nil
	}
	if near := nearest(s.key, flags); near != "" {
		return s.wrong("unknown key %.60q; did you mean %s?", s.key, near)
	}
	return s.wrong("unknown key %.60q; the keys are the options of --help", s.key)
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
	variable := s.Prefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	value, found := env(variable)
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
	default:
		return nil, fmt.Errorf("--%s: a flag of type %T cannot be configured", nameOf(f), f)
	}
	if len(settings) == 0 {
		return func() {}, nil
	}
	return set, err
}
