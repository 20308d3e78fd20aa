package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// checkout is a builder of this checkout that makes nothing.
func checkout(t *testing.T) builder {
	t.Helper()
	return builder{root: "../../..", stage: t.TempDir(), log: t.Output()}
}

// Every module that a program links, on any architecture, is in the copyright file, with the
// text of its licence.
func TestCopyright(t *testing.T) {
	b := checkout(t)
	for _, p := range packages {
		text, err := b.copyright(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range p.commands {
			for _, path := range linked(t, b, command) {
				if !strings.Contains(text, "\nFiles: "+path+"/*\nCopyright:\n ") {
					t.Errorf("%s does not name %s", p.name, path)
				}
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^Files: .*\nCopyright:.*\n(?: .*\n)*License: (.*)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(text, "\nLicense: "+m[1]+"\n ") {
				t.Errorf("%s has no text of the licence %s", p.name, m[1])
			}
		}
		if !strings.Contains(text, "\nFiles: std/*\n") || !strings.Contains(text, "Neither the name of Google") {
			t.Errorf("%s says nothing of Go's own library", p.name)
		}
		if again, err := b.copyright(t.Context(), p); err != nil || again != text {
			t.Errorf("%s: another text the second time: %v", p.name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.copyright(ctx, packages[0]); err == nil {
		t.Error("a cancelled one succeeds")
	}
}

// linked returns the modules that a program links: by what it says itself, or in short by the
// go command.
func linked(t *testing.T, b builder, command string) (paths []string) {
	t.Helper()
	if testing.Short() {
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./cmd/"+command)
		list.Dir = b.root
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	file := filepath.Join(t.TempDir(), command)
	if err := b.build(t.Context(), command, "1.2.3", "amd64", file); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "version", "-m", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "dep" {
			paths = append(paths, fields[1])
		}
	}
	if len(paths) == 0 {
		t.Fatalf("%s links nothing", command)
	}
	return paths
}

func TestLicences(t *testing.T) {
	texts := newTexts()
	const mit = "Permission is hereby granted, free of charge, to any person obtaining a copy"
	const bsd = "Redistribution and use in source and binary forms,\nwith"
	for _, c := range []struct{ text, want string }{
		{"Apache License\n  Version 2.0, January 2004", "Apache-2.0"},
		{"MIT License\n\nCopyright (c) 2020 A\n\n" + mit, "Expat"},
		{"Copyright (c) 2021 B. All rights reserved.\n" + mit, "Expat"},
		{mit + " of C", "Expat~2"},
		{mit + " of D", "Expat~3"},
		{bsd, "BSD-2-Clause"},
		{bsd + " to endorse or\npromote products", "BSD-3-Clause"},
		{mit + bsd, "Expat-and-BSD-2-Clause"},
		{"GNU General Public License", ""},
		{"", ""},
	} {
		got, err := texts.add(c.text)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %s, %v; want %s", c.text, got, err, c.want)
		}
	}
	const whole = "One\n\n  Apache License\n Version 2.0, January 2004\nx\naccepting any such warranty or additional liability.\n\nEND OF TERMS AND CONDITIONS\n\nAPPENDIX: y\nlimitations under the License.\n\nTwo"
	if got := apache.ReplaceAllString(whole, "-"); got != "One-\n\nTwo" {
		t.Errorf("%q is left of a text with the Apache License", got)
	}
}

func TestChangelog(t *testing.T) {
	const good = "xy (1.0~rc1) stable; urgency=low\n\n  * One.\n\n -- A B <a@b>  Fri, 27 Nov 2026 22:00:00 +0100\n\nx (0.9) stable; urgency=low\n\n -- A B <a@b>  Thu, 26 Nov 2026 22:00:00 +0000\n"
	for _, c := range []struct{ name, text, err string }{
		{"good", good, ""},
		{"no version", strings.Replace(good, "(1.0~rc1)", "", 1), "first line"},
		{"a slash in the version", strings.Replace(good, "1.0~rc1", "1/0", 1), "first line"},
		{"no date", "xy (1.0) stable; urgency=low\n\n  * One.\n", "who wrote it"},
		{"a wrong date", strings.Replace(good, "27 Nov", "27 Nuv", 1), "date"},
		{"empty", "", "first line"},
	} {
		file := filepath.Join(t.TempDir(), "changelog")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := readChangelog(file)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if want := (entry{"xy", "1.0~rc1", e.date}); err != nil || e != want || e.date.Unix() != time.Date(2026, 11, 27, 21, 0, 0, 0, time.UTC).Unix() {
			t.Errorf("%s: %+v, %v", c.name, e, err)
		}
	}
	if _, err := readChangelog("nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for _, p := range packages {
		if e, err := readChangelog(filepath.Join("../../..", p.dir, "changelog")); err != nil || e.name != p.name {
			t.Errorf("%s: %+v, %v", p.name, e, err)
		}
	}
}

// What a package installs is complete: all that the description of a package names is
// there, and all that is there is named.
func TestFill(t *testing.T) {
	p := packages[1] // the smaller one
	b := checkout(t)
	e, err := readChangelog(filepath.Join(b.root, p.dir, "changelog"))
	if err != nil {
		t.Fatal(err)
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	if testing.Short() {
		dirs[1] = dirs[0]
	}
	for _, dir := range slices.Compact(slices.Clone(dirs)) {
		if err := errors.Join(b.fill(t.Context(), p, e, "amd64", dir), even(dir, e.date)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "diff", "-r", dirs[0], dirs[1]).CombinedOutput(); err != nil {
		t.Errorf("two builds differ: %v\n%s", err, out)
	}
	description, err := os.ReadFile(filepath.Join(b.root, p.dir, "nfpm.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	named(t, dirs[0], string(description))
	out, err := exec.CommandContext(t.Context(), filepath.Join(dirs[0], "bin", p.commands[0]), "--version").Output()
	if want := p.commands[0] + " version " + e.version + "\n"; err != nil || string(out) != want {
		t.Errorf("--version prints %q, %v; want %q", out, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.fill(ctx, p, e, "amd64", t.TempDir()); err == nil {
		t.Error("a cancelled build succeeds")
	}
}

// named checks that sources of a description and files of a folder are the same.
func named(t *testing.T, dir, description string) {
	t.Helper()
	var sources []string
	for _, m := range regexp.MustCompile(`(?m)(?:src|postinstall|preremove|postremove): "?([^",}\n]+)`).FindAllStringSubmatch(description, -1) {
		sources = append(sources, m[1])
	}
	used := make(map[string]bool)
	for _, source := range sources {
		files, err := filepath.Glob(filepath.Join(dir, source))
		if err != nil || len(files) == 0 {
			t.Errorf("no %s: %v", source, err)
		}
		for _, file := range files {
			used[file] = true
		}
	}
	unused := exec.CommandContext(t.Context(), "find", dir, "-type", "f")
	out, err := unused.Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.FieldsSeq(string(out)) {
		name, _ := filepath.Rel(dir, file)
		inTree := slices.ContainsFunc(sources, func(s string) bool { return strings.HasPrefix(name, s+"/") })
		if !used[file] && !inTree && name != "packaging/nfpm.yaml" && name != "packaging/changelog" {
			t.Errorf("%s is in no package", name)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"--version", "1"}, {"--out", t.TempDir(), "more"}, {"--nope"}} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out, io.Discard); err == nil || out.Len() > 0 {
			t.Errorf("%q: %v, %s", args, err, &out)
		}
	}
}
