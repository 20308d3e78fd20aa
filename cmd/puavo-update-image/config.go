package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
)

const (
	// configFile is read where it is there, unless configVariable names another.
	configFile = "/etc/puavo-update-image.conf"
	// configMax is how many bytes a config file may have.
	configMax = 64 << 10

	variablePrefix = "PUAVO_UPDATE_IMAGE_"
	configVariable = variablePrefix + "CONFIG"
)

// configHelp tells of the configuration in --help.
const configHelp = `Options can be set in ` + configFile + ` as well, by lines such as
   "mirror = https://images.example.org" and "quiet = true", and in the environment
   by variables such as ` + variablePrefix + `MIRROR. The command line comes first,
   then the environment, then the file. ` + configVariable + ` names another
   file, or none if it is empty.`

// configure makes the config file and the environment the defaults of the flags of
// an app and of its commands. It is called before the app runs. The command line
// counts before the environment, that before the file, and that before what the
// app has. Lists are not added to each other. A flag that is set in one of these
// ways is set for cli too, so that its Action is called.
//
// The file is that of the variable PUAVO_UPDATE_IMAGE_CONFIG, which must be there;
// none if the variable is empty; else /etc/puavo-update-image.conf if it is there.
// It has at most 64 KiB and no control characters. Its lines are
//
//	# a comment
//	mirror = https://images.example.org
//	mirror = /srv/images
//	quiet = true
//
// or blank. A key is the name of a flag of the app or of one of its commands, and
// counts for all that have it. Those of lists can be given several times, in the
// order of the list. The value is the rest of the line, white space around it left
// out: there are no quotes, and no comments behind it. A switch is true or false. A
// key without a value is an error, as it says nothing that a missing line does not.
//
// A variable is PUAVO_UPDATE_IMAGE_ and the name of the flag in capitals, with _
// for -. That of a list is split at white space. A switch is true, false, 1 or 0.
// An empty variable makes the file's value count for nothing.
//
// env is os.LookupEnv, or stands for it. The errors, which wrap
// command.ErrUsage, begin with the line or the variable that is wrong.
func configure(app *cli.App, env func(string) (string, bool)) error {
	lines, err := readConfig(env)
	if err != nil {
		return err
	}
	flags := slices.Clone(app.Flags)
	for _, c := range app.Commands {
		flags = append(flags, c.Flags...)
	}
	for i, s := range lines {
		if err := check(s, flags, lines[:i]); err != nil {
			return err
		}
	}
	for _, f := range flags {
		settings, found := fromEnvironment(f, env)
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

// configError is an error of the configuration. It is one of wrong usage.
type configError struct{ error }

func (e configError) Unwrap() []error { return []error{command.ErrUsage, e.error} }

// setting is one value for a flag, as it was written.
type setting struct {
	where      string // the line, as file:number, or the variable
	key, value string // key is the name of the flag
}

func (s setting) wrong(format string, a ...any) error {
	return configError{fmt.Errorf("%s: %s", s.where, fmt.Sprintf(format, a...))}
}

// readConfig returns the lines of the config file, none where there is no file.
func readConfig(env func(string) (string, bool)) ([]setting, error) {
	name, named := env(configVariable)
	if !named {
		return readFile(configFile)
	}
	if name == "" {
		return nil, nil
	}
	lines, err := readFile(name)
	if err == nil && lines == nil {
		err = configError{fmt.Errorf("%s: there is no %s", configVariable, name)}
	}
	return lines, err
}

// readFile returns the lines of a file, nil where it is not there.
func readFile(name string) ([]setting, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, configError{err}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, configMax+1))
	if err != nil {
		return nil, configError{err}
	}
	if len(text) > configMax {
		return nil, configError{fmt.Errorf("%s: a config file has at most %d bytes", name, configMax)}
	}
	return parseConfig(name, string(text))
}

// parseConfig parses a config file of this name. It knows no flags. What it returns
// is not nil, though there may be no lines in it.
func parseConfig(name, text string) ([]setting, error) {
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

// check returns an error for a line that fits none of the flags, or not all of
// those of its name, or not the lines before.
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

// nearest returns the name of a flag that looks like a key, "" if none does.
func nearest(key string, flags []cli.Flag) string {
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

// fromEnvironment returns what the environment sets a flag to, and whether it has
// a variable for it.
func fromEnvironment(f cli.Flag, env func(string) (string, bool)) (settings []setting, found bool) {
	name := nameOf(f)
	variable := variablePrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
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

// nameOf returns the name of a flag that is not an alias.
func nameOf(f cli.Flag) string { return f.Names()[0] }

func isList(f cli.Flag) bool {
	_, list := f.(*cli.StringSliceFlag)
	return list
}

// setter parses the settings of a flag, and returns what sets it to them. Where
// there are none, it stays as it is.
func setter(f cli.Flag, settings []setting) (set func(), err error) {
	var s setting // the one where there can be one
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
