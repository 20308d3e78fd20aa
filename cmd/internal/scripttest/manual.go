package scripttest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/testdata"
)

// Manual reads, as name, the manual pages of the app. Each command and each flag must be on
// its page, the dashes of options must be such, and man must find nothing wrong.
func Manual(t *testing.T, app *cli.App, name string) {
	testdata.Tool(t, "man")
	pages := make(map[string]string)
	names := strings.Fields(manual(t, name))
	for _, page := range names {
		pages[page] = manual(t, name, page)
		ManualPage(t, page, pages[page])
	}
	want := []string{name}
	flagsOn(t, pages, name, app.Flags)
	for _, c := range app.Commands {
		on(t, pages, name, `\fB`+c.Name+`\fP`)
		if len(c.Flags)+len(c.Subcommands) > 0 {
			want = append(want, name+"-"+c.Name)
			flagsOn(t, pages, name+"-"+c.Name, allOf(c))
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s has the pages %q, want %q", name, names, want)
	}
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "FILES", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
		on(t, pages, name, "\n.SH "+section+"\n")
	}
}

// ManualPage has man read a page, which must have nothing wrong.
func ManualPage(t *testing.T, name, roff string) {
	testdata.Tool(t, "man")
	testdata.Tool(t, "groff")
	file := filepath.Join(t.TempDir(), name+".1")
	if err := os.WriteFile(file, []byte(roff), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "man", "--warnings", "-E", "UTF-8", "-l", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80")
	var text, warnings bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &warnings
	if err := cmd.Run(); err != nil || warnings.Len() > 0 {
		t.Errorf("%s: %v\n%s", name, err, &warnings)
	}
	if strings.Contains(text.String(), "**") {
		t.Errorf("%s: Markdown is left:\n%s", name, &text)
	}
}

// allOf returns the flags of a command, and of those below it.
func allOf(c *cli.Command) []cli.Flag {
	flags := c.Flags
	for _, sub := range c.Subcommands {
		flags = append(flags, allOf(sub)...)
	}
	return flags
}

func flagsOn(t *testing.T, pages map[string]string, page string, flags []cli.Flag) {
	t.Helper()
	for _, f := range flags {
		on(t, pages, page, "\n\\fB\\-\\-"+strings.ReplaceAll(f.Names()[0], "-", `\-`)+`\fP`)
	}
}

// on checks that a text is on a page.
func on(t *testing.T, pages map[string]string, page, text string) {
	t.Helper()
	if !strings.Contains(pages[page], text) {
		t.Errorf("the page %s does not have %q", page, text)
	}
}

// manual returns what a program prints of its pages.
func manual(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, append([]string{"__man"}, args...)...).Output()
	if err != nil {
		t.Fatalf("%s __man %q: %v", name, args, err)
	}
	return string(out)
}
