package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta/untrusted"
)

func keysCommand(stdout, stderr io.Writer) *cli.Command {
	k := keysTool{stdout, stderr}
	return &cli.Command{
		Name:      "keys",
		Usage:     "make and change the keys that sign a mirror",
		UsageText: "puavo-update-repository keys COMMAND [options] ...",
		Description: `Keys are kept in a directory of their own, DIR, encrypted by a passphrase. It
   is taken from --passphrase-file, from $PUAVO_KEYS_PASSPHRASE, or from a
   prompt. DIR/1.root.json is for the clients; a build with --sign-keys DIR
   signs.

   A change of keys makes a new root, which the root keys sign. Where these are
   not all in one place, copy DIR/next.root.json from one copy of DIR to the
   other, and let keys sign add those that are there.

   Exit codes: ` + command.ExitCodes,
		Subcommands: []*cli.Command{
			k.command("init", "DIR", "make a keys directory with a key for each role", k.init,
				passphraseFlag(), weakFlag(), expireFlag(trust.Root)),
			k.command("list", "DIR", "print all keys, and which of them are here", k.list,
				&cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print it as JSON"}),
			k.command("rotate", "ROLE DIR", "replace the keys of a role: root, targets, snapshot or timestamp", k.rotate,
				&cli.StringFlag{Name: "key", Category: signing, Usage: "only the key whose `ID` begins so"}, passphraseFlag(), ignoreClockFlag(), expireFlag(trust.Root)),
			k.command("add", "ROLE DIR", "give a role another key", k.add,
				&cli.IntFlag{Name: "threshold", Category: signing, Usage: "have `N` of the keys sign from now on", DefaultText: "as before"}, passphraseFlag(), ignoreClockFlag(), expireFlag(trust.Root)),
			k.command("sign", "DIR", "sign a root that lacks signatures, or one that expires soon, as far as keys are here", k.sign,
				passphraseFlag(), ignoreClockFlag(), expireFlag(trust.Root)),
			k.command("renew", "[DIR MIRROR_DIR]", "sign a mirror again before its timestamp expires, without building it", k.renew,
				append(expireFlags(), passphraseFlag(), ignoreClockFlag(),
					&cli.StringFlag{Name: "sign-keys", Category: signing, Usage: "the keys are in `DIR`, where no argument says so"},
					mirrorFlag(),
					&cli.StringFlag{Name: "metrics-file", Category: command.Output, Usage: "put the new ends of the signatures into the metrics in `FILE`"},
					notifyFlag(),
					&cli.BoolFlag{Name: "no-sync", Category: command.Limits, Usage: "do not flush files to the disk: for RAM disks and tests"})...),
		},
		Action: command.NoCommand,
	}
}

// keysTool is the context of the keys commands.
type keysTool struct{ stdout, stderr io.Writer }

// keysCall is one call of a command for keys.
type keysCall struct {
	*cli.Context
	screen *ui.Screen
	out    io.Writer
	args   []string
}

// command returns a command whose arguments have these names. In brackets they can be left
// out, all together: then they are those of --sign-keys and --mirror-dir.
func (k keysTool) command(name, args, usage string, action func(keysCall) error, flags ...cli.Flag) *cli.Command {
	want := strings.Fields(strings.Trim(args, "[]"))
	return &cli.Command{
		Name: name, Usage: usage,
		UsageText: "puavo-update-repository keys " + name + " [options] " + args,
		Flags:     append(append(flags, settingsFlag()), command.Flags("has no effect")...),
		Action: reporting("keys "+name, k.stderr, func(c *cli.Context, screen *ui.Screen) error {
			call := keysCall{c, screen, k.stdout, c.Args().Slice()}
			if c.NArg() == 0 && strings.HasPrefix(args, "[") && c.String("sign-keys") != "" && c.String("mirror-dir") != "" {
				call.args = []string{c.String("sign-keys"), c.String("mirror-dir")}
			}
			if len(call.args) != len(want) || slices.Contains(call.args, "") {
				return command.Usage("want %s, got %d arguments", strings.Join(want, " and "), c.NArg())
			}
			if want[0] == "ROLE" && !slices.Contains(trust.Roles(), call.args[0]) {
				return command.Usage("no role %q; want %s", call.args[0], strings.Join(trust.Roles(), ", "))
			}
			if c.Bool("quiet") {
				call.out = io.Discard
			}
			return action(call)
		}),
	}
}

// with calls do with the keys of a directory.
func (c keysCall) with(dir string, do func(*trust.Keys) error) error {
	o, err := keyOptions(c.Context, dir, c.screen)
	if err != nil {
		return err
	}
	keys, err := trust.Open(o)
	if err != nil {
		return err
	}
	defer keys.Close()
	return do(keys)
}

func (k keysTool) init(c keysCall) error {
	o, err := keyOptions(c.Context, c.args[0], c.screen)
	if err != nil {
		return err
	}
	if !c.Bool("weak-passphrase") {
		o.Passphrase = strong(o.Passphrase)
	}
	if err := trust.Init(o); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, `%[1]s has a key for each role. Give clients %[1]s/1.root.json, not over the mirror.
Keep a copy of %[1]s and of its passphrase in a safe place, and root.*.key nowhere else.
`, o.Dir)
	return err
}

// keyList is what keys list prints as JSON.
type keyList struct {
	Root    int64           `json:"root"` // the version of the newest
	Expires time.Time       `json:"expires"`
	Keys    []trust.KeyInfo `json:"keys"`
	Next    *trust.Proposal `json:"next,omitempty"` // what waits for signatures
}

func (k keysTool) list(c keysCall) error {
	return c.with(c.args[0], func(keys *trust.Keys) (err error) {
		l := keyList{Next: keys.Pending()}
		l.Root, l.Expires = keys.Root()
		if l.Keys, err = keys.List(); err != nil {
			return err
		}
		if c.Bool("json") {
			return command.JSON(k.stdout, l)
		}
		t := tabwriter.NewWriter(k.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "role\tkey\tsignatures\tstate\tprivate key")
		for _, key := range l.Keys {
			need, where := "-", "elsewhere"
			if key.Threshold > 0 {
				need = fmt.Sprintf("%d needed", key.Threshold)
			}
			if key.Here {
				where = "here"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", key.Role, shortID(key.ID), need, key.State, where)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(k.stdout, "Root %d expires %s.\n", l.Root, date(l.Expires))
		if l.Next != nil {
			return printMissing(k.stdout, c.args[0], *l.Next)
		}
		return nil
	})
}

func (k keysTool) rotate(c keysCall) error {
	return c.change(c.args[1], func(keys *trust.Keys) (trust.Proposal, error) {
		return keys.Rotate(c.args[0], c.String("key"))
	})
}

func (k keysTool) add(c keysCall) error {
	n := c.Int("threshold")
	if c.IsSet("threshold") && n < 1 {
		return command.Usage("--threshold %d, want 1 or more", n)
	}
	return c.change(c.args[1], func(keys *trust.Keys) (trust.Proposal, error) {
		return keys.Add(c.args[0], n)
	})
}

// change makes a new root and prints what it changes.
func (c keysCall) change(dir string, make func(*trust.Keys) (trust.Proposal, error)) error {
	return c.with(dir, func(keys *trust.Keys) error {
		p, err := make(keys)
		if err != nil {
			return err
		}
		if err := printChanges(c.out, p); err != nil {
			return err
		}
		return printMissing(c.out, dir, p)
	})
}

func (k keysTool) sign(c keysCall) error {
	dir := c.args[0]
	return c.with(dir, func(keys *trust.Keys) error {
		if p := keys.Pending(); p != nil { // printed before the passphrase is asked for
			if err := printChanges(c.out, *p); err != nil {
				return err
			}
		}
		p, err := keys.SignRoot()
		if err != nil {
			return err
		}
		if p == nil {
			version, expires := keys.Root()
			_, err := fmt.Fprintf(c.out, "Nothing to sign: root %d is complete, and expires %s.\n", version, date(expires))
			return err
		}
		return printMissing(c.out, dir, *p)
	})
}

func (k keysTool) renew(c keysCall) error {
	return c.with(c.args[0], func(keys *trust.Keys) error {
		if err := keys.Check(c.args[1]); err != nil {
			return err
		}
		if err := keys.Renew(c.Context.Context, c.args[1], c.Bool("no-sync")); err != nil {
			return err
		}
		signed, err := trust.StatusOf(c.args[1], time.Now())
		if err != nil {
			return err
		}
		if file := c.String("metrics-file"); file != "" {
			if err := writeExpiry(c.Context.Context, file, c.args[1], signed); err != nil {
				return err
			}
		}
		return printExpiry(c.out, signed)
	})
}

// printChanges prints what a new root changes.
func printChanges(w io.Writer, p trust.Proposal) error {
	what := "changes no keys"
	if len(p.Changes) > 0 {
		what = ""
		for i, change := range p.Changes {
			if i > 0 {
				what += ", "
			}
			what += untrusted.Show(change)
		}
	}
	_, err := fmt.Fprintf(w, "Root %d: %s.\n", p.Version, what)
	return err
}

// shortID returns how people call a key. The id may come from another machine.
func shortID(id string) string { return untrusted.Show(fmt.Sprintf("%.8s", id)) }

// printMissing prints what to do about a new root.
func printMissing(w io.Writer, dir string, p trust.Proposal) error {
	if len(p.Missing) == 0 {
		_, err := fmt.Fprintf(w, "Root %d is complete, and expires %s. The next build with --sign-keys publishes it, or keys renew; copy %s/%[1]d.root.json to the other copies of that directory first, if there are any.\n", p.Version, date(p.Expires), dir)
		return err
	}
	for _, m := range p.Missing {
		var ids []string
		for _, id := range m.Keys {
			ids = append(ids, shortID(id))
		}
		if _, err := fmt.Fprintf(w, "Root %d lacks %d of the signatures that root %d demands, of these keys: %s\n", p.Version, m.Signatures, m.Of, strings.Join(ids, " ")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "Copy %s/next.root.json to where these keys are, into a copy of %[1]s, and run keys sign there.\n", dir)
	return err
}

// rootOf returns what the page says of the root that signs, nil if its keys cannot be
// listed: signing says why.
func rootOf(keys *trust.Keys) *imagerepo.Root {
	all, err := keys.List()
	if err != nil {
		return nil
	}
	var r imagerepo.Root
	r.Version, r.Expires = keys.Root()
	for _, k := range all {
		if k.Role == trust.Root && k.State == "used" {
			r.Keys, r.Threshold = append(r.Keys, k.ID), k.Threshold
		}
	}
	return &r
}

// printExpiry prints when a mirror's metadata expires.
func printExpiry(w io.Writer, status []trust.RoleStatus) error {
	var all []string
	for _, s := range status {
		all = append(all, fmt.Sprintf("%s version %d until %s", s.Role, s.Version, date(s.Expires)))
	}
	_, err := fmt.Fprintf(w, "signed: %s\n", strings.Join(all, ", "))
	return err
}

func date(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }
