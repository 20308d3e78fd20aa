package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/scripttest"
	"puavo-image-repository/testdata"
)

// The command lines of before are taken still, but for apply without a digest, which
// --unverified must ask for.
func TestBeforeCommands(t *testing.T) {
	t.Setenv(configVariable, "")
	scripttest.Before(t, "puavo-update-image", "puavo-update-image", command.WrongUsage, func(args []string) bool {
		hasDigest := slices.Contains(args, "--sha512")
		return args[0] == "apply" && slices.Contains(args, "--out") && !hasDigest
	})
}

// A config file of before, with every key that there was, says what it said.
func TestBeforeConfig(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	_, err := configuration.Configure(t.Context(), app, nil, func(name string) (string, bool) {
		return testdata.Path("before/config/puavo-update-image.conf"), name == configVariable
	})
	if err != nil {
		t.Fatal(err)
	}
	flags := slices.Clone(app.Flags)
	for _, c := range app.Commands {
		flags = append(flags, c.Flags...)
	}
	for key, want := range map[string]string{
		"mirror":     "https://images.school.example.org, https://images.example.org",
		"images-dir": "/images", "default-link": "ltsp.img", "stats-file": "/images/image_update.stats", "keep": "2",
		"trust": "/etc/puavo-update-image/root.json", "allow-downgrade": "true", "ca-certificate": "/etc/ssl/certs/school.pem",
		"rate-limit": "4m", "pre-install": "/usr/local/sbin/may-install --image", "post-install": "logger -t images installed",
		"dry-run": "true", "json": "true", "background": "true", "log-format": "json", "quiet": "true", "verbose": "true",
		"base": "/images/old.img", "delta": "/srv/a.rdiff, /srv/b.rdiff", "out": "/images/new.img", "sha512": strings.Repeat("0123456789abcdef", 8),
	} {
		has := func(f cli.Flag) bool { return f.Names()[0] == key }
		if !slices.ContainsFunc(flags, has) {
			t.Errorf("no command has --%s", key)
		}
		for _, f := range flags {
			if got := valueOf(f); has(f) && got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
	}
}

// valueOf returns what a flag is set to, of a list all with commas between them.
func valueOf(f cli.Flag) string {
	switch f := f.(type) {
	case *cli.StringFlag:
		return f.Value
	case *cli.BoolFlag:
		return fmt.Sprint(f.Value)
	case *cli.IntFlag:
		return fmt.Sprint(f.Value)
	case *cli.StringSliceFlag:
		if f.Value != nil {
			return strings.Join(f.Value.Value(), ", ")
		}
	}
	return ""
}
