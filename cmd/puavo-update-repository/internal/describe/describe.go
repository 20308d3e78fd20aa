// Package describe generates the manual pages of the builder and completes its command
// lines for shells.
package describe

import (
	"context"
	"embed"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/completion"
	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/cmd/internal/manpage"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/meta"
)

// manual has the sections of manual pages that are written by hand.
//
//go:embed man/*.md
var manual embed.FS

// Print prints a manual page, or completes a command line by the settings of source, if that
// is what the arguments ask for, and reports whether it is.
func Print(ctx context.Context, app *cli.App, source config.Source, args []string, stdout io.Writer) (asked bool, err error) {
	hand, err := fs.Sub(manual, "man")
	if err != nil {
		return true, err
	}
	if asked, err := manpage.Print(app, hand, args, stdout); asked {
		return true, err
	}
	configure := func(words []string) {
		_, _ = source.Configure(ctx, app, words, os.LookupEnv) // what is wrong there, the run itself says
	}
	return completion.Print(app, values(app, source), args, configure, stdout)
}

// values returns the values of options and arguments.
func values(app *cli.App, source config.Source) completion.Values {
	fixed := func(all ...string) func(completion.Line) []string {
		return func(completion.Line) []string { return all }
	}
	return completion.Values{
		"--settings":   func(completion.Line) []string { return source.Names() },
		"--series":     series,
		"SERIES":       series,
		"IMAGE":        images,
		"DEST":         func(l completion.Line) []string { return l.List("publish") },
		"ROLE":         fixed(trust.Roles()...),
		"SHELL":        fixed(completion.Shells()...),
		"--effort":     fixed("fast", "default", "best"),
		"--verify":     fixed("none", "size", "read"),
		"--log-format": fixed("text", "json"),
		"--torrents":   fixed("none", "deltas", "all"),
		"--compact":    fixed("none", "newest", "all"),
		"--deltas":     fixed("all", "none"),
		"--reverify":   fixed("never", "size", "digest"),
		"--format":     fixed("rdiff", "compact"),
		"--timer":      fixed("hourly", "daily", "weekly"),
		"WHERE":        fixed("embedded"),
		"COMMAND": func(completion.Line) (names []string) {
			for _, c := range app.Commands {
				names = append(names, c.Name)
			}
			return names
		},
	}
}

// series returns the series of the mirror.
func series(l completion.Line) (names []string) {
	documents, _ := filepath.Glob(filepath.Join(l.Value("mirror-dir"), "meta", "*.json"))
	for _, file := range documents {
		if name, err := meta.ParseSeriesName(strings.TrimSuffix(filepath.Base(file), ".json")); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// images returns the images in the images directory.
func images(l completion.Line) (names []string) {
	entries, _ := os.ReadDir(l.Value("images-dir"))
	for _, entry := range entries {
		if name, err := meta.ParseName(entry.Name()); err == nil {
			names = append(names, name.String())
		}
	}
	return names
}
