package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
)

// program runs an app whose command config shows its settings, and returns what it prints.
// The file and its directory are in dir.
func program(t *testing.T, dir string, env map[string]string, args ...string) (string, error) {
	t.Helper()
	source := Source{
		File: filepath.Join(dir, "p.conf"), Dir: filepath.Join(dir, "p"), Prefix: "P_", Option: "settings",
		Others: map[string]string{"url": "OLD_URL"},
	}
	flags := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "url", Aliases: []string{"u"}}, &cli.Float64Flag{Name: "ratio", Value: 0.9}, &cli.IntFlag{Name: "jobs", Value: 2},
			&cli.StringSliceFlag{Name: "series"}, &cli.BoolFlag{Name: "json"}, &cli.StringFlag{Name: "settings"},
		}
	}
	var settings Settings
	var stdout bytes.Buffer
	app := &cli.App{Name: "p", Flags: flags(), Commands: []*cli.Command{
		Command("p", &settings, flags(), &stdout),
		{Name: "keys", Subcommands: []*cli.Command{{Name: "renew", Flags: []cli.Flag{&cli.BoolFlag{Name: "now"}}}}},
	}}
	lookup := func(name string) (string, bool) { v, found := env[name]; return v, found }
	var err error
	if settings, err = source.Configure(t.Context(), app, args, lookup); err != nil {
		return "", err
	}
	err = command.Run(t.Context(), app, args, &stdout, io.Discard)
	return strings.ReplaceAll(stdout.String(), dir, "DIR"), err
}

// Each option is shown with its value and its source, typed in JSON.
func TestShow(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"p.conf": "ratio = 0.5\nseries = a.json\nseries = b c.json\nnow = true\n", "p/school.conf": "ratio = 0.25\n", "other": "jobs = 7\n",
	} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, []byte(text), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		env  map[string]string
		args string
		want string // "key value source" of what is not the default
	}{
		{"the usual file", nil, "", "file DIR/p.conf; ratio 0.5 DIR/p.conf:1; series [a.json b c.json] DIR/p.conf:3; now true DIR/p.conf:4"},
		{"none, by the option", nil, "--settings=", "file "},
		{"none, by the variable", map[string]string{"P_SETTINGS": ""}, "", "file "},
		{"a bare name", nil, "--settings school", "file DIR/p/school.conf; ratio 0.25 DIR/p/school.conf:1"},
		{"a bare name in the variable", map[string]string{"P_SETTINGS": "school"}, "", "file DIR/p/school.conf; ratio 0.25 DIR/p/school.conf:1"},
		{"the option before the variable", map[string]string{"P_SETTINGS": "school"}, "--settings " + dir + "/other", "file DIR/other; jobs 7 DIR/other:1"},
		{"the last option", nil, "--settings nope --settings school", "file DIR/p/school.conf; ratio 0.25 DIR/p/school.conf:1"},
		{"the environment", map[string]string{"P_RATIO": "0.75", "P_SETTINGS": "", "P_SERIES": "x y", "P_NOW": "0"}, "",
			"file ; ratio 0.75 P_RATIO; series [x y] P_SERIES; now false P_NOW"},
		{"the older variable", map[string]string{"OLD_URL": "old", "P_SETTINGS": ""}, "", "file ; url old OLD_URL"},
		{"the newer variable", map[string]string{"OLD_URL": "old", "P_URL": "new", "P_SETTINGS": ""}, "", "file ; url new P_URL"},
		{"the command line", map[string]string{"P_URL": "new", "P_JOBS": "4", "P_SETTINGS": ""}, "-u c --jobs=5", "file ; url c command line; jobs 5 command line"},
		{"a password", map[string]string{"P_URL": "https://u:secret@host/x", "P_SERIES": "u:secret@host %@ a@b", "P_SETTINGS": ""}, "",
			"file ; url https://xxxxx@host/x P_URL; series [xxxxx@host (not shown) xxxxx@b] P_SERIES"},
	} {
		out, err := program(t, dir, c.env, append([]string{"config", "show", "--json"}, strings.Fields(c.args)...)...)
		var got struct {
			File     string
			Settings []Setting
		}
		if err := errors.Join(err, json.Unmarshal([]byte(out), &got)); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		all := "file " + got.File
		for _, s := range got.Settings {
			if s.Source != "default" && s.Key != "json" {
				all += fmt.Sprintf("; %s %v %s", s.Key, s.Value, s.Source)
			}
		}
		if all != c.want || strings.Contains(out, "secret") {
			t.Errorf("%s:\n%s, want\n%s", c.name, all, c.want)
		}
	}
}

// The table has the same.
func TestShowTable(t *testing.T) {
	const want = `url     http://h  P_URL
ratio   0.9       default
jobs    3         command line
series  a b       P_SERIES
json    false     default
now     true      P_NOW
No settings file is read.
`
	env := map[string]string{"P_URL": "http://h", "P_SERIES": "a b", "P_NOW": "1"}
	if got, err := program(t, t.TempDir(), env, "config", "show", "--jobs", "3"); err != nil || got != want {
		t.Errorf("%v, got\n%s", err, got)
	}
}

// Which name is a file's in the directory, and what is wrong.
func TestSettingsErrors(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.conf"), []byte("rato = 1\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  map[string]string
		args string
		want string
	}{
		{nil, "", `p.conf:1: unknown key "rato"; did you mean ratio?`},
		{nil, "--settings school", "--settings: the config file: open " + dir + "/p/school.conf: no such file"},
		{nil, "--settings ./school", "--settings: the config file: open ./school: no such file"},
		{nil, "--settings school.conf", "--settings: the config file: open school.conf: no such file"},
		{map[string]string{"P_SETTINGS": "school"}, "", "P_SETTINGS: the config file: open " + dir + "/p/school.conf"},
		{map[string]string{"P_SETTINGS": "", "P_RATIO": "many"}, "", `P_RATIO: ratio "many", want a number`},
		{map[string]string{"P_SETTINGS": ""}, "config", "want a command of config: show"},
		{map[string]string{"P_SETTINGS": ""}, "config shw", `config has no command "shw"; did you mean show?`},
		{map[string]string{"P_SETTINGS": ""}, "config show x", `unknown argument "x"`},
	} {
		_, err := program(t, dir, c.env, strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, %s: %v, want %q", c.env, c.args, err, c.want)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "p.conf"), []byte("settings = x\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := program(t, dir, nil); !errors.Is(err, command.ErrUsage) {
		t.Errorf("the file names another: %v", err)
	}
}

// Names are those of files that a bare name can name.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"school.conf", "a-1_B.conf", "odd name.conf", "keys", "x.conf.bak", ".conf"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{dir: "a-1_B school", filepath.Join(dir, "none"): "", "": ""} {
		if got := strings.Join(Source{Dir: dir}.Names(), " "); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
}
