package manpage

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/version"
)

func testApp() *cli.App {
	quiet := func() cli.Flag { return &cli.BoolFlag{Name: "quiet", Usage: "print errors only"} }
	return &cli.App{
		Name: "app", Usage: "test_it", UsageText: "app [options] IMAGE_DIR\n   app apply OLD.img",
		Description: `Makes it: *all* of it, with --quiet
   or not. It has

   two paragraphs.

   Example:
      app x

   Exit codes: 0 done,
   1 failed`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "out-dir", Aliases: []string{"o"}, Category: "What", Usage: "write to `DIR_A`, not to DIR", Value: "x"}, quiet()},
		Commands: []*cli.Command{
			{Name: "apply", Usage: "apply it", UsageText: "app apply OLD.img", Flags: []cli.Flag{quiet()}, Description: "Exit codes: 0 done\n   or so\n\n   Example:\n      app apply x"},
			{Name: "help", Usage: "help", UsageText: "app help"},
			{Name: "hidden", Hidden: true, Flags: []cli.Flag{quiet()}},
			{Name: "keys", Usage: "keep keys", UsageText: "app keys COMMAND", Description: "Keeps them.\n\n   Example:\n      app keys list", Subcommands: []*cli.Command{
				{Name: "add", Usage: "add a key", UsageText: "app keys add ROLE", Flags: []cli.Flag{&cli.IntFlag{Name: "threshold", Usage: "have `N`"}, quiet()}},
				{Name: "list", Usage: "list", UsageText: "app keys list", Description: "Lists them.", Flags: []cli.Flag{quiet()}},
			}},
		},
	}
}

// byHand are the sections by hand of two pages.
var byHand = fstest.MapFS{
	"app.md":       {Data: []byte("# FILES\n**/etc/x**\n: A file.\n")},
	"app-apply.md": {Data: []byte("# NOTES\nNote this.\n\n# EXAMPLES\nAn example by hand.\n")},
}

func print1(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if asked, err := Print(testApp(), byHand, append([]string{Argument}, args...), &out); !asked || err != nil {
		t.Fatalf("%q: %v, %v", args, asked, err)
	}
	return out.String()
}

func TestPrint(t *testing.T) {
	if got := print1(t); got != "app\napp-apply\napp-keys\n" {
		t.Errorf("the pages are %q", got)
	}
	if asked, err := Print(testApp(), byHand, []string{Argument, "app-help"}, io.Discard); !asked || !errors.Is(err, command.ErrUsage) {
		t.Errorf("a page that is none: %v, %v", asked, err)
	}
	stray := fstest.MapFS{"app-help.md": {}}
	if asked, err := Print(testApp(), stray, []string{Argument}, io.Discard); !asked || err == nil || !strings.Contains(err.Error(), "app-help.md") {
		t.Errorf("sections for a page that is none: %v, %v", asked, err)
	}
	for _, args := range [][]string{nil, {"apply"}, {"-q", Argument}} {
		if asked, err := Print(testApp(), byHand, args, io.Discard); asked || err != nil {
			t.Errorf("%q: %v, %v", args, asked, err)
		}
	}
}

func TestPages(t *testing.T) {
	for page, texts := range map[string][]string{
		"app": {
			".TH APP 1 \"\" \"puavo-image-repository " + version.String() + "\" \"User commands\"\n.nh\n.ad l\n",
			".SH NAME\napp \\- test_it\n",
			".SH SYNOPSIS\n\\fBapp\\fP [\\fIoptions\\fP] \\fIIMAGE_DIR\\fP\n.br\n\\fBapp\\fP \\fBapply\\fP \\fIOLD.img\\fP\n",
			".SH DESCRIPTION\nMakes it: *all* of it, with \\fB\\-\\-quiet\\fP\nor not. It has\n\n.PP\ntwo paragraphs.\n",
			".SH COMMANDS\n\n.TP\n\\fBapply\\fP\nApply it. See \\fBapp-apply\\fP(1).\n\n.TP\n\\fBhelp\\fP\nHelp.\n",
			".SH WHAT\n\n.TP\n\\fB\\-\\-out\\-dir\\fP \\fIDIR_A\\fP, \\fB\\-o\\fP \\fIDIR_A\\fP\nWrite to \\fIDIR_A\\fP, not to DIR (default: \"x\").\n",
			".SH OPTIONS\n\n.TP\n\\fB\\-\\-quiet\\fP\nPrint errors only.\n\n.TP\n\\fB\\-\\-help\\fP, \\fB\\-h\\fP\n",
			".SH FILES\n\n.TP\n\\fB/etc/x\\fP\nA file.\n",
			".SH SEE ALSO\n\\fBapp-apply\\fP(1), \\fBapp-keys\\fP(1)\n",
		},
		"app-apply": {".SH NOTES\nNote this.\n\n.SH EXAMPLES\nAn example by hand.\n\n.SH EXIT STATUS\n0 done or so.\n\n.SH SEE ALSO\n", "\\fBapp\\fP(1), \\fBapp-keys\\fP(1)", "app-apply \\- apply it\n"},
		"app-keys": {
			".SH EXAMPLES\n.EX\napp keys list\n.EE\n",
			".SS \\fBapp\\fP \\fBkeys\\fP \\fBadd\\fP \\fIROLE\\fP\nAdd a key.\n\n.TP\n\\fB\\-\\-threshold\\fP \\fIN\\fP\nHave \\fIN\\fP (default: 0).\n\n",
			".SS \\fBapp\\fP \\fBkeys\\fP \\fBlist\\fP\nList.\n\n.PP\nLists them.\n",
			".SH OPTIONS OF ALL COMMANDS\n\n.TP\n\\fB\\-\\-quiet\\fP\n",
		},
	} {
		got := squeeze(print1(t, page))
		for _, text := range texts {
			if !strings.Contains(got, squeeze(text)) {
				t.Errorf("%s: no\n%s\nin\n%s", page, text, got)
			}
		}
		for _, text := range []string{"Example:", "app apply x", "Exit codes", "hidden", "default: false"} {
			if strings.Contains(got, text) {
				t.Errorf("%s: %q in\n%s", page, text, got)
			}
		}
	}
	if n := strings.Count(print1(t, "app-keys"), `\fB\-\-quiet\fP`); n != 1 {
		t.Errorf("an option of all commands is there %d times", n)
	}
}

// squeeze returns a text without blank lines, of which md2man writes more than needed.
func squeeze(text string) string {
	for strings.Contains(text, "\n\n") {
		text = strings.ReplaceAll(text, "\n\n", "\n")
	}
	return text
}

// Examples keep their dashes and their lines, and other dashes are left.
func TestRender(t *testing.T) {
	got := squeeze(string(Render("app", "1.0", "# NAME\napp - a re-run\n# EXAMPLES\nRe-run it:\n\n```\napp --out-dir a-b \\\n  'c'\n.x\n```\n")))
	for _, text := range []string{"app \\- a re-run\n", "Re-run it:\n.EX\napp \\-\\-out\\-dir a\\-b \\\\\n  'c'\n\\&.x\n.EE\n"} {
		if !strings.Contains(got, text) {
			t.Errorf("no\n%s\nin\n%s", text, got)
		}
	}
}

func TestProse(t *testing.T) {
	for _, c := range []struct{ description, text, examples, codes string }{
		{"", "\n\n", "", ""},
		{"One\n   two.", "One\ntwo.\n\n", "", ""},
		{"One:\n      a  b\n      c\n   Two:\n      d", "One:\n\n```\na  b\nc\n```\n\nTwo:\n\n```\nd\n```\n\n", "", ""},
		{"Exit codes: 0 done;\n   1 too if -q", "", "", `0 done; 1 too if **-q**.`},
		{"A_b [c] <d> `e` #f", "A\\_b \\[c\\] \\<d\\> \\`e\\` \\#f\n\n", "", ""},
		{"Example:\n      a -b\n\n   One.", "One.\n\n", "```\na -b\n```\n\n", ""},
	} {
		if text, examples, codes := prose(c.description); text != c.text || examples != c.examples || codes != c.codes {
			t.Errorf("%q: %q, %q, %q; want %q, %q, %q", c.description, text, examples, codes, c.text, c.examples, c.codes)
		}
	}
}
