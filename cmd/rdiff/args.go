package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/delta"
)

// options are what the flags say.
type options struct {
	blockLen, strongLen int
	md4, rollsum        bool
	stats, force        bool
	verbose, json       bool
	effort              delta.Effort
	memory              int64 // 0 if the option was not given
	compact             bool
	help, version       bool // ask for these alone
}

// flag is one flag, and what it does with its value. A switch has none.
type flag struct {
	short    byte // 0 for none
	long     string
	isSwitch bool
	set      func(o *options, value string) error
}

var flags = []flag{
	{'v', "verbose", true, on(func(o *options) *bool { return &o.verbose })},
	{'V', "version", true, on(func(o *options) *bool { return &o.version })},
	{'?', "help", true, on(func(o *options) *bool { return &o.help })},
	{'h', "", true, on(func(o *options) *bool { return &o.help })},
	{'s', "statistics", true, on(func(o *options) *bool { return &o.stats })},
	{0, "stats", true, on(func(o *options) *bool { return &o.stats })},
	{'f', "force", true, on(func(o *options) *bool { return &o.force })},
	{'H', "hash", false, either(func(o *options) *bool { return &o.md4 }, "hash", "blake2", "md4")},
	{'R', "rollsum", false, either(func(o *options) *bool { return &o.rollsum }, "rollsum", "rabinkarp", "rollsum")},
	{'b', "block-size", false, number(func(o *options) *int { return &o.blockLen })},
	{'S', "sum-size", false, number(func(o *options) *int { return &o.strongLen })},
	{'I', "input-size", false, number(func(*options) *int { return new(int) })},
	{'O', "output-size", false, number(func(*options) *int { return new(int) })},
	{0, "effort", false, func(o *options, s string) (err error) {
		if o.effort, err = delta.ParseEffort(s); err != nil {
			return usage("%v", err)
		}
		return nil
	}},
	{0, "memory", false, func(o *options, s string) (err error) {
		if o.memory, err = units.Size(s); err != nil {
			return usage("%v", err)
		}
		return nil
	}},
	{0, "compact", true, on(func(o *options) *bool { return &o.compact })},
	{0, "json", true, on(func(o *options) *bool { return &o.json })},
}

func on(field func(*options) *bool) func(*options, string) error {
	return func(o *options, _ string) error { *field(o) = true; return nil }
}

func either(field func(*options) *bool, what, no, yes string) func(*options, string) error {
	return func(o *options, s string) error {
		if s != no && s != yes {
			return usage("unknown %s algorithm %q, want %s or %s", what, s, no, yes)
		}
		*field(o) = s == yes
		return nil
	}
}

func number(field func(*options) *int) func(*options, string) error {
	return func(o *options, s string) (err error) {
		*field(o), err = parseNumber(s)
		return err
	}
}

// parseNumber reads a number as rdiff does, by strtol(3): after blanks and a sign,
// 0x is before a hexadecimal number and 0 before an octal one. Nothing is 0.
func parseNumber(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	digits := strings.TrimLeft(s, " \t\n\v\f\r")
	sign := int64(1)
	if strings.HasPrefix(digits, "-") {
		sign = -1
	}
	if strings.IndexAny(digits, "+-") == 0 {
		digits = digits[1:]
	}
	base := 10
	if strings.HasPrefix(digits, "0x") || strings.HasPrefix(digits, "0X") {
		base, digits = 16, digits[2:]
	} else if strings.HasPrefix(digits, "0") {
		base = 8
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, usage("invalid numeric value %q", s)
	}
	if signed := sign * int64(n); err == nil && signed == int64(int32(signed)) {
		return int(signed), nil
	}
	return 0, usage("number too large or too small: %q", s)
}

// parse reads arguments as rdiff does: flags anywhere up to a "--", short ones in
// bundles, values in the same argument or the next. It ends at a flag that asks
// for help or the version.
func parse(args []string) (o options, names []string, err error) {
	o = options{effort: delta.Default}
	for len(args) > 0 && err == nil && !o.help && !o.version {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return o, append(names, args...), nil
		case len(arg) < 2 || arg[0] != '-':
			names = append(names, arg)
		case strings.HasPrefix(arg, "--"):
			args, err = o.long(arg, args)
		default:
			args, err = o.bundle(arg, args)
		}
	}
	return o, names, err
}

// long reads a long flag and returns the arguments after it.
func (o *options) long(arg string, args []string) (rest []string, err error) {
	name, value, has := strings.Cut(arg[2:], "=")
	for _, f := range flags {
		switch {
		case f.long != name || name == "":
			continue
		case f.isSwitch && has:
			return nil, usage("--%s takes no value", name)
		case f.isSwitch || has:
			return args, f.set(o, value)
		case len(args) == 0:
			return nil, usage("missing argument: --%s", name)
		}
		return args[1:], f.set(o, args[0])
	}
	return nil, usage("unknown option: --%s", name)
}

// bundle reads a bundle of short flags, of which the last may have a value.
func (o *options) bundle(arg string, args []string) (rest []string, err error) {
	for i := 1; i < len(arg); i++ {
		f := short(arg[i])
		switch {
		case f == nil:
			return nil, usage("unknown option: -%c", arg[i])
		case f.isSwitch:
			if err := f.set(o, ""); err != nil {
				return nil, err
			}
		case i+1 < len(arg):
			return args, f.set(o, strings.TrimPrefix(arg[i+1:], "="))
		case len(args) == 0:
			return nil, usage("missing argument: -%c", arg[i])
		default:
			return args[1:], f.set(o, args[0])
		}
	}
	return args, nil
}

func short(c byte) *flag {
	for i := range flags {
		if flags[i].short == c {
			return &flags[i]
		}
	}
	return nil
}

// errUsage is wrapped by the errors for wrong arguments.
var errUsage = errors.New("wrong usage")

func usage(format string, a ...any) error {
	return fmt.Errorf("%w: %s; try rdiff --help", errUsage, fmt.Sprintf(format, a...))
}
