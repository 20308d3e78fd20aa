package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/testdata"
)

var source = Source{File: "/etc/puavo-update-image.conf", Prefix: "PUAVO_UPDATE_IMAGE_"}

// configured returns an app with flags of all kinds, of which its command has some.
// It prints their values.
func configured() *cli.App {
	common := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "log-format", Value: "text", Usage: "write messages as `FORMAT`", Action: func(_ *cli.Context, format string) error {
				if format != "text" && format != "json" {
					return command.Usage("--log-format %q", format)
				}
				return nil
			}},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print errors only"},
		}
	}
	return &cli.App{
		Name: "app", Usage: "do it", UsageText: "app [options]", Description: source.Help("mirror = https://images.example.org"),
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "images-dir", Usage: "`DIR` with the images"},
			&cli.StringSliceFlag{Name: "mirror", Usage: "the repository, a `DIR_OR_URL`"},
			&cli.IntFlag{Name: "max-routes", Value: 3, Usage: "try `N`"},
		}, common()...),
		Action: func(c *cli.Context) error {
			_, err := fmt.Fprintf(c.App.Writer, "%q %q %d %s %v", c.String("images-dir"), c.StringSlice("mirror"), c.Int("max-routes"), c.String("log-format"), c.Bool("q"))
			return err
		},
		Commands: []*cli.Command{{
			Name: "apply", Usage: "apply it", UsageText: "app apply",
			Flags: append([]cli.Flag{&cli.StringFlag{Name: "sha512"}}, common()...),
			Action: func(c *cli.Context) error {
				_, err := fmt.Fprintf(c.App.Writer, "%s %v %s %v", c.String("sha512"), c.IsSet("sha512"), c.String("log-format"), c.Bool("quiet"))
				return err
			},
		}},
	}
}

// environment returns a look-up of NAME=value pairs, the prefix of all names left
// out, with a config file of this text, or none.
func environment(t *testing.T, file string, pairs ...string) func(string) (string, bool) {
	t.Helper()
	values := map[string]string{source.variable(): ""}
	if file != "" {
		values[source.variable()] = writeConfig(t, file)
	}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		values["PUAVO_UPDATE_IMAGE_"+name] = value
	}
	return func(name string) (string, bool) {
		value, found := values[name]
		return value, found
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "c.conf")
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return name
}

// runConfigured returns what the app prints.
func runConfigured(t *testing.T, env func(string) (string, bool), args ...string) (string, error) {
	t.Helper()
	app := configured()
	if _, err := source.Configure(t.Context(), app, args, env); err != nil {
		return "", err
	}
	var stdout bytes.Buffer
	err := command.Run(t.Context(), app, args, &stdout, io.Discard)
	return stdout.String(), err
}

// Which of the command line, the environment, the file and the default counts.
func TestPrecedence(t *testing.T) {
	pairs := func(s ...string) []string { return s }
	for _, c := range []struct {
		name, file string
		env        []string
		args       string
		want       string
	}{
		{"defaults", "", nil, "", `"" [] 3 text false`},
		{"empty file", "# nothing\n\n", nil, "", `"" [] 3 text false`},

		{"string, file", "images-dir = /f", nil, "", `"/f" [] 3 text false`},
		{"string, environment", "images-dir = /f", pairs("IMAGES_DIR=/e"), "", `"/e" [] 3 text false`},
		{"string, command line", "images-dir = /f", pairs("IMAGES_DIR=/e"), "--images-dir /c", `"/c" [] 3 text false`},
		{"string, command line and file", "images-dir = /f", nil, "--images-dir=/c", `"/c" [] 3 text false`},
		{"string, empty variable", "images-dir = /f\nlog-format=json", pairs("IMAGES_DIR=", "LOG_FORMAT="), "", `"" [] 3 text false`},
		{"string, empty on the command line", "images-dir = /f", pairs("IMAGES_DIR=/e"), "--images-dir=", `"" [] 3 text false`},

		{"bool, file", "quiet = true", nil, "", `"" [] 3 text true`},
		{"bool, environment", "quiet = true", pairs("QUIET=false"), "", `"" [] 3 text false`},
		{"bool, environment, 0", "quiet = true", pairs("QUIET=0"), "", `"" [] 3 text false`},
		{"bool, environment, 1", "quiet = false", pairs("QUIET=1"), "", `"" [] 3 text true`},
		{"bool, command line", "quiet = true", pairs("QUIET=true"), "--quiet=false", `"" [] 3 text false`},
		{"bool, command line, alias", "quiet = false", pairs("QUIET=false"), "-q", `"" [] 3 text true`},
		{"bool, command line, alias off", "quiet = true", nil, "-q=false", `"" [] 3 text false`},
		{"bool, empty variable", "quiet = true", pairs("QUIET="), "", `"" [] 3 text false`},

		{"int, file", "max-routes = 4", nil, "", `"" [] 4 text false`},
		{"int, environment", "max-routes = 4", pairs("MAX_ROUTES=-5"), "", `"" [] -5 text false`},
		{"int, command line", "max-routes = 4", pairs("MAX_ROUTES=5"), "--max-routes 6", `"" [] 6 text false`},
		{"int, 0 in the file", "max-routes = 0", nil, "", `"" [] 0 text false`},
		{"int, empty variable", "max-routes = 4", pairs("MAX_ROUTES="), "", `"" [] 3 text false`},

		{"list, file", "mirror = /a b, c\n\nmirror = https://b", nil, "", `"" ["/a b, c" "https://b"] 3 text false`},
		{"list, environment", "mirror = /f\nmirror = /g", pairs("MIRROR= /e  https://e,e\t"), "", `"" ["/e" "https://e,e"] 3 text false`},
		{"list, command line", "mirror = /f", pairs("MIRROR=/e /e2"), "--mirror /c --mirror /c,2", `"" ["/c" "/c,2"] 3 text false`},
		{"list, command line and file", "mirror = /f\nmirror = /g", nil, "--mirror /c", `"" ["/c"] 3 text false`},
		{"list, empty variable", "mirror = /f", pairs("MIRROR="), "", `"" [] 3 text false`},
		{"list, blank variable", "mirror = /f", pairs("MIRROR= \t"), "", `"" [] 3 text false`},

		{"all at once", "mirror = /f\nmax-routes = 9\nquiet = true", pairs("IMAGES_DIR=/e"), "--log-format json", `"/e" ["/f"] 9 json true`},
		{"a command", "mirror = /f\nquiet = true\nsha512 = ab", pairs("LOG_FORMAT=json"), "apply", `ab true json true`},
		{"a command, command line", "quiet = true\nsha512 = ab", pairs("LOG_FORMAT=json"), "--log-format text apply --sha512 cd -q=false", `cd true text false`},
		{"a command, not set", "quiet = true", pairs("SHA512="), "apply", ` false text true`},
	} {
		got, err := runConfigured(t, environment(t, c.file, c.env...), strings.Fields(c.args)...)
		if err != nil || got != c.want {
			t.Errorf("%s: %s, %v; want %s", c.name, got, err, c.want)
		}
	}
}

// White space and comments, and values that look like something else.
func TestParse(t *testing.T) {
	text := " \n#\n  # mirror = no\nmirror=/a=b\r\n\t mirror\t=\t\"/c\" # d \nlog-format = текст\nquiet = true"
	want := []setting{
		{"f:4", "mirror", "/a=b"}, {"f:5", "mirror", `"/c" # d`}, {"f:6", "log-format", "текст"}, {"f:7", "quiet", "true"},
	}
	if got, err := parse("f", text); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// Errors begin with the place of the fault: FILE:line or the variable.
func TestConfigErrors(t *testing.T) {
	const ok = "# comment\n\n"
	for _, c := range []struct {
		file, env string
		want      string
	}{
		{ok + "mirorr = /a", "", `FILE:3: unknown key "mirorr"; did you mean mirror?`},
		{ok + "images_dir = /a", "", `FILE:3: unknown key "images_dir"; did you mean images-dir?`},
		{ok + "--mirror = /a", "", `FILE:3: unknown key "--mirror"; did you mean mirror?`},
		{"q = true", "", `FILE:1: unknown key "q"; did you mean quiet?`},
		{"Quiet = true", "", `FILE:1: unknown key "Quiet"; did you mean quiet?`},
		{"ÄÖÜ = true", "", `FILE:1: unknown key "ÄÖÜ"; --help lists the options, which are the keys`},
		{strings.Repeat("ä", 70) + " = true", "", `FILE:1: unknown key "` + strings.Repeat("ä", 60) + `"; --help lists the options, which are the keys`},
		{"mirror" + strings.Repeat("r", 60) + " = true", "", `FILE:1: unknown key "mirror` + strings.Repeat("r", 54) + `"; --help lists the options, which are the keys`},
		{"help = true", "", `FILE:1: unknown key "help"; did you mean `},
		{"quiet", "", `FILE:1: "quiet", want a line such as quiet = true`},
		{"quiet true\nnope = 1", "", `FILE:1: "quiet true", want a line such as quiet = true`},
		{" = true", "", `FILE:1: "= true", want a line such as quiet = true`},
		{"[update]", "", `FILE:1: "[update]", want a line such as quiet = true`},
		{ok + "mirror =", "", `FILE:3: "mirror" has no value; delete the line, or put # in front`},
		{ok + "mirror = /a\x00b", "", `FILE:3: a control character; this is not a text file`},
		{"# \x00", "", `FILE:1: a control character; this is not a text file`},
		{"mirror = \x1b[m", "", `FILE:1: a control character; this is not a text file`},
		{"quiet = yes", "", `FILE:1: quiet "yes", want true or false`},
		{"quiet = 1", "", `FILE:1: quiet "1", want true or false`},
		{"quiet = TRUE", "QUIET=true", `FILE:1: quiet "TRUE", want true or false`},
		{"max-routes = many", "", `FILE:1: max-routes "many", want a whole number`},
		{"max-routes = 99999999999999999999", "", `FILE:1: max-routes "99999999999999999999", want a whole number`},
		{"quiet = true\nmirror = /a\nmirror = /b\nquiet = true", "", `FILE:4: quiet is already set in FILE:1; set it once`},
		{"sha512 = a\nsha512 = b", "", `FILE:2: sha512 is already set in FILE:1; set it once`},
		{"", "QUIET=yes", `PUAVO_UPDATE_IMAGE_QUIET: quiet "yes", want true or false`},
		{"", "QUIET= ", `PUAVO_UPDATE_IMAGE_QUIET: quiet " ", want true or false`},
		{"", "MAX_ROUTES=1.5", `PUAVO_UPDATE_IMAGE_MAX_ROUTES: max-routes "1.5", want a whole number`},
		{"quiet = no", "QUIET=yes", `FILE:1: quiet "no", want true or false`},
		// An option's own check comes when the app runs.
		{"log-format = xml", "", `wrong usage: --log-format "xml"; see --help`},
		{"", "LOG_FORMAT=xml", `wrong usage: --log-format "xml"; see --help`},
	} {
		env := environment(t, c.file, c.env)
		file, _ := env(source.variable())
		_, err := runConfigured(t, env)
		if err == nil || !errors.Is(err, command.ErrUsage) {
			t.Errorf("%q, %s: %v", c.file, c.env, err)
			continue
		}
		got := err.Error()
		if file != "" {
			got = strings.ReplaceAll(got, file, "FILE")
		}
		if got != c.want && !(strings.HasSuffix(c.want, "mean ") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%q, %s: %s, want %s", c.file, c.env, got, c.want)
		}
	}
}

// Which file is read, and that it may not be there only where it is not named.
func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	fits := "quiet = true\n#"
	fits += strings.Repeat("-", maxFile-len(fits))
	for _, c := range []struct{ name, file, want string }{
		{"none", "", ""},
		{"largest", writeConfig(t, fits), ""},
		{"too large", writeConfig(t, fits+"-"), "FILE: too large for a config file; at most 65536 bytes are allowed"},
		{"missing", filepath.Join(dir, "none"), "PUAVO_UPDATE_IMAGE_CONFIG: the config file: open FILE: no such file or directory; check the path"},
		{"a directory", dir, "the config file: read FILE: is a directory; check the path"},
		{"below a file", writeConfig(t, "") + "/x", "the config file: open FILE: not a directory; check the path"},
		{"empty", writeConfig(t, ""), ""},
		{"unending", "/dev/zero", "FILE: too large for a config file; at most 65536 bytes are allowed"},
	} {
		_, err := source.lines(t.Context(), new(Settings), func(name string) (string, bool) { return c.file, name == source.variable() })
		got := ""
		if err != nil {
			got = strings.ReplaceAll(err.Error(), c.file, "FILE")
		}
		if got != c.want || strings.Contains(c.want, "at most") != errors.Is(err, command.ErrUsage) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	absent := Source{File: filepath.Join(dir, "none"), Prefix: source.Prefix}
	if lines, err := absent.lines(t.Context(), new(Settings), func(string) (string, bool) { return "", false }); lines != nil || err != nil {
		t.Errorf("a file that is not named and not there: %v, %v", lines, err)
	}
}

// The file may be a pipe, such as that of a shell's <(command).
func TestPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = io.WriteString(w, "quiet = true\n")
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := readFile(t.Context(), fmt.Sprintf("/dev/fd/%d", r.Fd()))
	if err != nil || len(got) != 1 || got[0].key != "quiet" {
		t.Errorf("%v, %v", got, err)
	}
}

// Reading a pipe whose writer writes nothing ends with the context.
func TestPipeCancelled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	env := func(name string) (string, bool) { return fmt.Sprintf("/dev/fd/%d", r.Fd()), name == source.variable() }
	testdata.Promptly(t, "a pipe", func() {
		if _, err := source.Configure(ctx, configured(), nil, env); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

// A flag of a type that is not known here is noticed at once.
func TestConfigureTypes(t *testing.T) {
	app := &cli.App{Flags: []cli.Flag{&cli.DurationFlag{Name: "wait", Value: time.Second}}}
	_, err := source.Configure(t.Context(), app, nil, environment(t, ""))
	if err == nil || errors.Is(err, command.ErrUsage) || !strings.Contains(err.Error(), "--wait: a flag of type *cli.DurationFlag") {
		t.Errorf("got %v", err)
	}
}

// The help tells how to configure, what is configured, and is not made too wide.
func TestConfigHelp(t *testing.T) {
	got, err := runConfigured(t, environment(t, "mirror = /f\nquiet = true", "IMAGES_DIR=/e"), "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{source.File, "PUAVO_UPDATE_IMAGE_MIRROR", source.variable(), `(default: "/f")`, `(default: "/e")`, `(default: "text")`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in the help:\n%s", want, got)
		}
	}
	for line := range strings.Lines(got) {
		if len(line) > 120 {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
}

// Whatever is in a file, it is refused with its place, or the settings say the same
// when they are written out.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "mirror = /a\nmirror=/b", "#c\n\n quiet = true\r\n", "a", "=", "a=", "a==\x00", "\xff = \u00a0x\u00a0", "a=b\rc", "a = b # c", "\xc2=\x94"} {
		f.Add(s)
	}
	flags := configured().Flags
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := parse("f", text)
		if err != nil {
			if !errors.Is(err, command.ErrUsage) || !strings.HasPrefix(err.Error(), "f:") || lines != nil {
				t.Fatalf("%v, %q", err, lines)
			}
			return
		}
		var again strings.Builder
		for i, s := range lines {
			if s.key == "" || s.value == "" || strings.ContainsFunc(s.key+" "+s.value, isControl) {
				t.Fatalf("%q", s)
			}
			if err := check(s, flags, lines[:i]); err != nil && !strings.HasPrefix(err.Error(), s.where+": ") {
				t.Fatal(err)
			}
			fmt.Fprintf(&again, "%s = %s\n", s.key, s.value)
		}
		same, err := parse("f", again.String())
		if err != nil || len(same) != len(lines) {
			t.Fatalf("%q, %v; want %q", same, err, lines)
		}
		for i, s := range same {
			if s.key != lines[i].key || s.value != lines[i].value || s.where != fmt.Sprintf("f:%d", i+1) {
				t.Fatalf("%q, want %q", s, lines[i])
			}
		}
	})
}
