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
		Usage:     "create and change the keys that sign a mirror",
		UsageText: "puavo-update-repository keys COMMAND [options] ...",
		Description: `Keys are stored in a directory DIR, encrypted with a passphrase, which is
   read from --passphrase-file, $PUAVO_KEYS_PASSPHRASE, or a prompt. Give
   clients DIR/1.root.json; build with --sign-keys DIR to sign the mirror.

   Each change of keys makes a new root, which the root keys must sign. If the
   root keys are in several copies of DIR, carry DIR/next.root.json from copy to
   copy, and run keys sign on each.

   Exit codes: ` + command.ExitCodes,
		Subcommands: []*cli.Command{
			k.command("init", "DIR", "create a directory with a key for each role", k.init,
				passphraseFlag(), weakFlag(), expireFlag(trust.Root)),
			k.command("list", "DIR", "list all keys, and show which of them are here", k.list,
				&cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print the list as JSON"}),
			k.command("rotate", "ROLE DIR", "replace the keys of a role: root, targets, snapshot or timestamp", k.rotate,
				&cli.StringFlag{Name: "key", Category: signing, Usage: "replace only the key whose id begins with `ID`"}, passphraseFlag(), ignoreClockFlag(), expireFlag(trust.Root)),
			k.command("add", "ROLE DIR", "add a key to a role", k.add,
				&cli.IntFlag{Name: "threshold", Category: signing, Usage: "require signatures by `N` keys of the role from now on", DefaultText: "unchanged"}, passphraseFlag(), ignoreClockFlag(), expireFlag(trust.Root)),
			k.command("sign", "DIR", "sign a new root, or one that expires soon, with the root keys that are here", k.sign,
				passphraseFlag(), ignoreClockFlag(), expireFlag(trust.Root)),
			k.command("renew", "[DIR MIRROR_DIR]", "sign a mirror again before its timestamp expires, without a build", k.renew,
				append(expireFlags(), passphraseFlag(), ignoreClockFlag(),
					&cli.StringFlag{Name: "sign-keys", Category: signing, Usage: "`DIR`: directory of the keys, if DIR is not given as an argument"},
					mirrorFlag(),
					&cli.StringFlag{Name: "metrics-file", Category: command.Output, Usage: "update the expiry times of the signatures in the metrics `FILE`"},
					notifyFlag(),
					&cli.BoolFlag{Name: "no-sync", Category: command.Limits, Usage: "do not flush files to disk; for RAM disks and tests only"})...),
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
	_, err = fmt.Fprintf(c.out, `%[1]s has a key for each role. Give clients %[1]s/1.root.json, but not through the mirror.
Keep a copy of %[1]s and its passphrase in a safe place; keep root.*.key only there.
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
			_, err := fmt.Fprintf(c.out, "Nothing to sign: root %d is complete and expires %s.\n", version, date(expires))
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
		_, err := fmt.Fprintf(w, "Root %d is complete and expires %s. Copy %s/%[1]d.root.json to any other copies of that directory, then publish it by keys renew or a build with --sign-keys.\n", p.Version, date(p.Expires), dir)
		return err
	}
	for _, m := range p.Missing {
		var ids []string
		for _, id := range m.Keys {
			ids = append(ids, shortID(id))
		}
		if _, err := fmt.Fprintf(w, "Root %d lacks %d of the signatures that root %d requires; these keys can sign: %s\n", p.Version, m.Signatures, m.Of, strings.Join(ids, " ")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "Copy %s/next.root.json into the copy of %[1]s that has these keys, and run keys sign there.\n", dir)
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
