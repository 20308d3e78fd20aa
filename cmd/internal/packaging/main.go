// Command packaging makes the Debian packages of this project, in a checkout:
//
//	go run ./cmd/internal/packaging --out DIR [--version V]
//
// They are puavo-image-repository and puavo-image-client, each for amd64 and arm64. What one
// installs, besides what is built, is in the folder packaging of its command:
//
//	nfpm.yaml             what goes where, for nfpm, which writes the package
//	changelog             in Debian's format; its first entry has the version
//	units, examples       of systemd, of settings and of web servers
//	postinst, prerm, ...  scripts that dpkg runs
//	lintian-overrides     findings of lintian that are intended
//
// The same checkout and Go give the same bytes: nothing in a package has the time of the
// build or the name of a machine. The time in it is that of the changelog's first entry.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// run makes the packages and prints their SHA-256 sums.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("packaging", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", "", "put the packages into `DIR`")
	version := flags.String("version", "", "make version `V`, not that of the changelogs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || flags.NArg() > 0 {
		return fmt.Errorf("want --out DIR and no arguments")
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "packaging")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	b := builder{root: ".", stage: stage, out: *out, version: *version, log: stderr}
	sums, err := b.all(ctx)
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, sums)
	return err
}
