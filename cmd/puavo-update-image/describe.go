package main

import (
	"context"
	"embed"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/completion"
	"puavo-image-repository/cmd/internal/manpage"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/meta"
)

// manual has the sections of manual pages that are written by hand.
//
//go:embed man/*.md
var manual embed.FS

// describeSelf prints a manual page, or completes a command line, if that is what the arguments
// ask for, and reports whether it is.
func describeSelf(ctx context.Context, app *cli.App, args []string, stdout io.Writer) (asked bool, err error) {
	hand, err := fs.Sub(manual, "man")
	if err != nil {
		return true, err
	}
	if asked, err := manpage.Print(app, hand, args, stdout); asked {
		return true, err
	}
	configure := func(words []string) {
		_, _ = configuration.Configure(ctx, app, words, os.LookupEnv) // what is wrong there, the run itself says
	}
	return completion.Print(app, completion.Values{
		"IMAGE": images, "SERIES": series, "--series": series,
		"--default-link": func(completion.Line) []string { return []string{"ltsp.img"} },
		"--prefer":       func(completion.Line) []string { return []string{client.PreferTime, client.PreferTraffic} },
		"--log-format":   func(completion.Line) []string { return []string{"text", "json"} },
		"SHELL":          func(completion.Line) []string { return completion.Shells() },
		"COMMAND": func(completion.Line) (names []string) {
			for _, c := range app.Commands {
				names = append(names, c.Name)
			}
			return names
		},
	}, args, configure, stdout)
}

// images returns the images in the images directory, and those in mirrors on this machine.
// No mirror is asked over the network: that would take too long.
func images(l completion.Line) (names []string) {
	for _, name := range atHand(l) {
		names = append(names, name.String())
	}
	return names
}

// series returns the series of these images, and those that the mirrors on this machine name.
func series(l completion.Line) (names []string) {
	for _, name := range atHand(l) {
		names = append(names, name.Series())
	}
	for _, mirror := range l.List("mirror") {
		documents, _ := filepath.Glob(filepath.Join(mirror, "meta", "*.json"))
		for _, file := range documents {
			if name, err := meta.ParseSeriesName(strings.TrimSuffix(filepath.Base(file), ".json")); err == nil {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// atHand returns the names of the images on this machine.
func atHand(l completion.Line) (names []meta.Name) {
	for _, dir := range append(l.List("images-dir"), l.List("mirror")...) {
		entries, err := os.ReadDir(dir)
		if dir == "" || err != nil {
			continue
		}
		for _, entry := range entries {
			if name, err := meta.ParseName(entry.Name()); err == nil {
				names = append(names, name)
			}
		}
	}
	return names
}
