package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/ui"
	"puavo-image-repository/cmd/internal/units"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta/untrusted"
)

const (
	passphraseEnv = "PUAVO_KEYS_PASSPHRASE"
	maxPassphrase = 4096 // bytes
	minPassphrase = 12   // characters, of a new one
)

func passphraseFlag() cli.Flag {
	return &cli.StringFlag{Name: "passphrase-file", Category: signing, Usage: "read the passphrase of the keys from `FILE`, a single line", DefaultText: "$" + passphraseEnv + ", or a prompt"}
}

func weakFlag() cli.Flag {
	return &cli.BoolFlag{Name: "weak-passphrase", Category: signing, Usage: fmt.Sprintf("allow a passphrase shorter than %d characters", minPassphrase)}
}

func ignoreClockFlag() cli.Flag {
	return &cli.BoolFlag{Name: "ignore-clock", Category: signing, Usage: "sign even if the clock is more than an hour behind the last signature"}
}

// expireFlags returns the flags for the lifetimes of signatures that each run makes.
func expireFlags() (flags []cli.Flag) {
	for _, role := range []string{trust.Root, trust.Targets, trust.Snapshot, trust.Timestamp} {
		flags = append(flags, expireFlag(role))
	}
	return flags
}

func expireFlag(role string) cli.Flag {
	usage := "`TIME`: validity of signatures by the " + role + " role"
	if role == trust.Root {
		usage = "`TIME`: validity of a new root; its last third brings warnings"
	}
	days := fmt.Sprintf("%dd", trust.DefaultLifetime(role)/(24*time.Hour))
	return &cli.StringFlag{Name: "expire-" + role, Category: signing, Value: days, Usage: usage}
}

// checkSigning refuses options of a build that say how to sign, where nothing says with
// which keys: whoever gives them believes that the mirror is signed.
func checkSigning(c *cli.Context) error {
	if c.String("sign-keys") != "" {
		return nil
	}
	if c.Bool("best-before") {
		return command.Usage("--best-before is for a signed mirror; give --sign-keys too")
	}
	for _, f := range append(expireFlags(), passphraseFlag()) {
		if name := f.Names()[0]; c.IsSet(name) && c.String(name) != "" {
			return command.Usage("--%s is for signing; give --sign-keys too", name)
		}
	}
	return nil
}

// keyOptions returns the options for the keys in a directory.
func keyOptions(c *cli.Context, dir string, screen *ui.Screen) (o trust.Options, err error) {
	o = trust.Options{
		Dir: dir, Log: screen.Log(), Lifetimes: make(map[string]time.Duration),
		Passphrase:  func(fresh bool) ([]byte, error) { return passphrase(c, fresh) },
		IgnoreClock: c.Bool("ignore-clock"),
	}
	for _, role := range trust.Roles() {
		if o.Lifetimes[role], err = units.Duration(c.String("expire-" + role)); err != nil {
			return o, command.Usage("--expire-%s: %v", role, err)
		}
	}
	return o, nil
}

// signKeys opens the keys that --sign-keys names, and checks that they can sign a
// mirror before other work begins. Without the option it returns nil.
func signKeys(c *cli.Context, mirrorDir string, screen *ui.Screen) (*trust.Keys, error) {
	dir := c.String("sign-keys")
	if dir == "" {
		return nil, nil
	}
	o, err := keyOptions(c, dir, screen)
	if err != nil {
		return nil, err
	}
	keys, err := trust.Open(o)
	if err != nil {
		return nil, err
	}
	if err := keys.Check(mirrorDir); err != nil {
		keys.Close()
		return nil, err
	}
	return keys, nil
}

// passphrase returns the passphrase of the keys. It asks twice for a fresh one.
func passphrase(c *cli.Context, fresh bool) ([]byte, error) {
	if file := c.String("passphrase-file"); file != "" {
		return readPassphrase(c.Context, file)
	}
	return askPassphrase(c, fresh)
}

// askPassphrase returns the passphrase that no file has.
func askPassphrase(c *cli.Context, fresh bool) ([]byte, error) {
	if p := os.Getenv(passphraseEnv); p != "" {
		return []byte(p), nil
	}
	p, err := ui.Passphrase(c.Context, "passphrase of the keys", fresh)
	if errors.Is(err, ui.ErrNoTerminal) {
		return nil, fmt.Errorf("cannot ask for the passphrase of the keys: %w; set $%s, or give --passphrase-file", err, passphraseEnv)
	}
	return p, err
}

// newPassphrase returns the passphrase of keys that init makes, or of those that a timer is
// to use: that of a file, or another one where file is "".
func newPassphrase(c *cli.Context, file string, fresh bool) ([]byte, error) {
	ask := func(fresh bool) ([]byte, error) {
		if file != "" {
			return readPassphrase(c.Context, file)
		}
		return askPassphrase(c, fresh)
	}
	if fresh && !c.Bool("weak-passphrase") {
		ask = strong(ask)
	}
	return ask(fresh)
}

// strong returns a function that returns what ask returns, and refuses a passphrase that
// is too short to keep private keys from whoever gets a copy of them.
func strong(ask func(fresh bool) ([]byte, error)) func(fresh bool) ([]byte, error) {
	return func(fresh bool) ([]byte, error) {
		p, err := ask(fresh)
		if n := utf8.RuneCount(p); err == nil && n > 0 && n < minPassphrase {
			clear(p)
			return nil, fmt.Errorf("the passphrase has %d characters, want %d or more: choose a longer one, such as five words, or allow it with --weak-passphrase", n, minPassphrase)
		}
		return p, err
	}
}

// readPassphrase returns the passphrase that is the only line of a file.
func readPassphrase(ctx context.Context, file string) ([]byte, error) {
	p, err := untrusted.ReadFile(ctx, file, maxPassphrase+2) // with the end of the line
	if err != nil && !errors.Is(err, untrusted.ErrTooLarge) {
		return nil, fmt.Errorf("the passphrase: %w", err)
	}
	p = bytes.TrimSuffix(bytes.TrimSuffix(p, []byte("\n")), []byte("\r"))
	if len(p) == 0 || len(p) > maxPassphrase || bytes.ContainsAny(p, "\n") {
		return nil, fmt.Errorf("the passphrase: %s must contain one line of 1 to %d bytes", file, maxPassphrase)
	}
	return p, nil
}
