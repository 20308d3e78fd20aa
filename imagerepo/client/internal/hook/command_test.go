package hook

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// path is that of the image, with what a shell would take for its own.
const path = "/the images/$HOME/a'\"#;.img"

// The last command gets the path, wherever it ends.
func TestWithPath(t *testing.T) {
	for command, want := range map[string]string{
		`cmd`:          `cmd "$1"`,
		`cmd a -b`:     `cmd a -b "$1"`,
		`a && b`:       `a && b "$1"`,
		`a; b | c`:     `a; b | c "$1"`,
		`VAR=1 cmd`:    `VAR=1 cmd "$1"`,
		`sh -c 'x' sh`: `sh -c 'x' sh "$1"`,
		`cmd $(a;)`:    `cmd $(a;) "$1"`,

		`cmd;`:                 `cmd "$1";`,
		`cmd a  ; `:            `cmd a "$1"  ; `,
		`cmd &`:                `cmd "$1" &`,
		`cmd&`:                 `cmd "$1"&`,
		`cmd # note`:           `cmd "$1" # note`,
		`cmd #`:                `cmd "$1" #`,
		`cmd ; # a #b`:         `cmd "$1" ; # a #b`,
		"cmd\n":                "cmd \"$1\"\n",
		"cmd \\\n -b ;":        "cmd \\\n -b \"$1\" ;",
		`a && b &`:             `a && b "$1" &`,
		"a # one\nb # two":     "a # one\nb \"$1\" # two",
		`cmd >log 2>&1 &`:      `cmd >log 2>&1 "$1" &`,
		`umask 077; cmd &`:     `umask 077; cmd "$1" &`,
		`cmd $(a ;) ;`:         `cmd $(a ;) "$1" ;`,
		`cmd --to a "$1" #`:    `cmd --to a "$1" "$1" #`,
		`cmd ';' "#" # note`:   `cmd ';' "#" "$1" # note`,
		`find . -exec x {} \;`: `find . -exec x {} \; "$1"`,
		`cmd ';'`:              `cmd ';' "$1"`,
		`cmd foo#bar`:          `cmd foo#bar "$1"`,
		`cmd $#`:               `cmd $# "$1"`,
		`cmd $# # note`:        `cmd $# "$1" # note`,
		`cmd '#' "#"`:          `cmd '#' "#" "$1"`,
		`cmd '# a'`:            `cmd '# a' "$1"`,

		`if a; then b; fi`:           `if a; then b; fi`,
		`for i in 1 2; do a; done;`:  `for i in 1 2; do a; done;`,
		`while a; do b; done &`:      `while a; do b; done &`,
		"case $1 in\n*) a;;\nesac\n": "case $1 in\n*) a;;\nesac\n",
		`{ a; b; } # note`:           `{ a; b; } # note`,
		`echo fi`:                    `echo fi "$1"`,

		// As it was, where the argument is lost or wrong.
		``:                ` "$1"`,
		`;`:               `; "$1"`,
		`cmd && # note`:   `cmd && # note "$1"`,
		`cmd ;;`:          `cmd ;; "$1"`,
		`cmd # it's mine`: `cmd # it's mine "$1"`,
		`cmd "a #b" ;`:    `cmd "a #b" ; "$1"`,
		`cmd \`:           `cmd \ "$1"`,
	} {
		if got := withPath(command); got != want {
			t.Errorf("%q: %q, want %q", command, got, want)
		}
	}
}

// show defines a command that prints its arguments.
const show = `show() { printf '%s\n' "got$(printf ' <%s>' "$@")"; }` + "\n"

// shell runs a text with the path as $1, and returns the lines that it prints, sorted,
// since what is in the background prints at any time.
func shell(t *testing.T, text string) (lines []string, succeeds bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", show+text, "sh", path)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	return slices.Sorted(strings.Lines(string(out))), err == nil
}

// What the shell makes of it is that the last command gets the path as one argument.
func TestReceived(t *testing.T) {
	last := fmt.Sprintf("got <b> <%s>\n", path)
	for command, want := range map[string]string{
		`show b`: last, `show b;`: last, `show b ; `: last, `show b &`: last, `show b&`: last, `show b # note`: last,
		"show b\n": last, "show b \\\n;": last, `show b >&1 &`: last, `false || show b;`: last,
		`show a | cat; show b`:              "got <a>\n" + last,
		`show a && show b & # note`:         "got <a>\n" + last,
		`show b \;`:                         fmt.Sprintf("got <b> <;> <%s>\n", path),
		`show b#c $# "#" ;`:                 fmt.Sprintf("got <b#c> <1> <#> <%s>\n", path),
		`sh -c 'echo "$0 $1"' b ;`:          fmt.Sprintf("b %s\n", path),
		`V=1 sh -c 'echo "$V $1"' b # note`: fmt.Sprintf("1 %s\n", path),
		`if :; then show "$1"; fi`:          fmt.Sprintf("got <%s>\n", path),
		`{ show b; } &`:                     "got <b>\n",
		`# note`:                            "",
	} {
		lines, succeeds := shell(t, withPath(command))
		if got := strings.Join(lines, ""); got != want || !succeeds {
			t.Errorf("%q: %q, success %v; want %q", command, got, succeeds, want)
		}
	}
}

// A command that got the path at its end gets it as before, and one that succeeded
// succeeds.
func TestAsBefore(t *testing.T) {
	parts := []string{
		"show", " ", "show", " ", "b", ";", "&", "&&", "||", "|", "\n", "#", "# c\n", "\\;", "\\\n", "'#'", `";"`, "$#", "${1}", "b#",
		"(show ", ")", "{ ", "}", "if ", "then ", "fi", "! ", "$(show c)", "`:`",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range testdata.Scale(600, 100) {
		var text strings.Builder
		text.WriteString("show ")
		for range 1 + random.IntN(8) {
			text.WriteString(parts[random.IntN(len(parts))])
		}
		command := text.String()
		before, succeeded := shell(t, command+argument)
		if !succeeded {
			continue
		}
		after, succeeds := shell(t, withPath(command))
		if got := strings.Contains(strings.Join(before, ""), path); !succeeds || got && !slices.Equal(before, after) {
			t.Errorf("%q: %q as %q, before %q", command, after, withPath(command), before)
		}
	}
}

// Whatever the command is, nothing of it is lost, and the path comes once at most.
func FuzzWithPath(f *testing.F) {
	for _, seed := range []string{`cmd "a" ; # b`, `if a; then b; fi`, "a <<E\nb\nE", `a 2>&1 ${V} $'b' &`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, command string) {
		got := withPath(command)
		for at := range len(command) + 1 {
			if got == command || got == command[:at]+argument+command[at:] {
				return
			}
		}
		t.Errorf("%q becomes %q", command, got)
	})
}
