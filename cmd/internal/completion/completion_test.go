package completion

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
)

// testApp returns an app with commands, and flags of all kinds.
func testApp() *cli.App {
	quiet := &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print errors only"}
	return &cli.App{
		Name: "app", UsageText: "app [options] IMAGE_DIR [IMAGE|SERIES]\n   app other ONE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write `FILE`"},
			&cli.StringFlag{Name: "dir", Usage: "write to `DIR`", Value: "usual"},
			&cli.StringSliceFlag{Name: "from", Usage: "read `URL`", Value: cli.NewStringSlice("a", "b")},
			&cli.StringFlag{Name: "effort", Usage: "work `HARD`"}, quiet,
		},
		Commands: []*cli.Command{
			{Name: "apply", Usage: "apply\n   it", UsageText: "app apply [options] OLD.img NAME...", Flags: []cli.Flag{&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "run `N`"}, quiet}},
			{Name: "help", Usage: "help", UsageText: "app help [COMMAND...]"},
			{Name: "hidden", Hidden: true},
			{Name: "keys", Usage: "keep keys", UsageText: "app keys COMMAND [options] ...", Subcommands: []*cli.Command{
				{Name: "add", Usage: "add a key", UsageText: "app keys add [options] ROLE DIR"},
			}},
		},
	}
}

var testValues = Values{
	"--effort": func(Line) []string { return []string{"fast", "best"} },
	"ROLE":     func(Line) []string { return []string{"root", "targets"} },
	"IMAGE":    func(l Line) []string { return []string{l.Value("dir") + ".img", "odd\tname"} },
	"SERIES":   func(l Line) []string { return l.List("from") },
	"COMMAND":  func(Line) []string { return []string{"apply", "keys"} },
}

func TestComplete(t *testing.T) {
	for _, c := range []struct{ words, want string }{
		{"", "dirs apply help keys"},
		{"a", "dirs apply"},
		{"-", "words --out --dir --from --effort --quiet --help --version"},
		{"--o", "words --out"},
		{"-q -o x --from a --", "words --dir --from --effort --help --version"},
		{"--out ", "files"},
		{"-o ", "files"},
		{"--out=x", "files"},
		{"--dir ", "dirs"},
		{"--effort ", "words fast best"},
		{"--effort b", "words best"},
		{"--effort=b", "words --effort=best"},
		{"--nope=b", "words"},
		{"--nope ", "dirs apply help keys"},
		{"-q=true ", "dirs apply help keys"},
		{"--effort=best ", "dirs apply help keys"},
		{"images ", "words usual.img a b"},
		{"--dir other images o", "words other.img"},
		{"--from x --from y images ", "words usual.img x y"},
		{"images x ", "words"},
		{"images apply", "words"},
		{"apply -", "words --jobs --quiet --help"},
		{"apply -j ", "words"},
		{"apply ", "files"},
		{"apply x y z ", "words"},
		{"-- ", "dirs"},
		{"-- -", "dirs"},
		{"-- images ", "words usual.img a b"},
		{"keys ", "words add"},
		{"keys add ", "words root targets"},
		{"keys add t", "words targets"},
		{"keys add root ", "dirs"},
		{"keys add root x y", "words"},
		{"help ", "words apply keys"},
		{"help apply k", "words keys"},
		{"hid", "dirs"},
	} {
		words := append([]string{Argument}, strings.Split(c.words, " ")...)
		var out bytes.Buffer
		if asked, err := Print(testApp(), testValues, words, nil, &out); !asked || err != nil {
			t.Errorf("%q: %v, %v", c.words, asked, err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			got = append(got, word)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: %s, want %s", c.words, s, c.want)
		}
	}
}

// What is configured is applied before values are looked for, and meanings take one line.
func TestPrint(t *testing.T) {
	app := testApp()
	configure := func(words []string) {
		if !slices.Equal(words, []string{"images", ""}) {
			t.Errorf("configured by %q", words)
		}
		app.Flags[1].(*cli.StringFlag).Value = "configured"
	}
	var out bytes.Buffer
	if _, err := Print(app, testValues, []string{Argument, "images", ""}, configure, &out); err != nil || !strings.Contains(out.String(), "configured.img\n") {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	if _, err := Print(app, testValues, []string{Argument}, nil, &out); err != nil || !strings.Contains(out.String(), "\napply\tapply it\n") {
		t.Errorf("without words: %v: %s", err, &out)
	}
	for _, args := range [][]string{nil, {"apply"}, {"-q", Argument}} {
		if asked, err := Print(app, nil, args, nil, io.Discard); asked || err != nil {
			t.Errorf("%q: %v, %v", args, asked, err)
		}
	}
}

func TestScript(t *testing.T) {
	for _, shell := range Shells() {
		script, err := Script("my-app", shell)
		if err != nil || !strings.Contains(script, "my_app") || strings.Contains(script, "PROGRAM") || strings.Contains(script, "FUNCTION") {
			t.Errorf("%s: %v\n%s", shell, err, script)
		}
	}
	for _, args := range []string{"", "tcsh", "bash zsh", "../scripts/bash"} {
		app := &cli.App{Name: "app", Commands: []*cli.Command{Command("app", io.Discard)}}
		err := command.Run(t.Context(), app, append([]string{Name}, strings.Fields(args)...), io.Discard, io.Discard)
		if !errors.Is(err, command.ErrUsage) {
			t.Errorf("completion %s: %v", args, err)
		}
	}
}

// Whatever the words, an answer has a first line, and words that begin as the last one.
func FuzzComplete(f *testing.F) {
	f.Add("keys add ")
	f.Add("--effort=")
	f.Add("-- --")
	f.Fuzz(func(t *testing.T, text string) {
		words := strings.Split(text, " ")
		a := complete(testApp(), testValues, words)
		if !slices.Contains([]string{"words", "files", "dirs"}, a.kind) {
			t.Errorf("%q: %s", text, a.kind)
		}
		for _, line := range a.lines {
			if !strings.HasPrefix(line, words[len(words)-1]) || strings.Contains(line, "\n") {
				t.Errorf("%q: %q", text, line)
			}
		}
	})
}
