package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/config"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/trust"
)

// Names and errors that others wrote do no harm to a terminal.
func TestShowsForeignText(t *testing.T) {
	var b strings.Builder
	err := printFindings(&b, audit.Report{Findings: []audit.Finding{
		{Path: "b.img", Problem: audit.Orphan, Detail: `"b" is not named`},
		{Path: "a\x1b[2J\n\tdamaged", Problem: audit.Orphan, Detail: "\xff" + strings.Repeat("x", 2000)},
	}})
	want := `orphan  b.img                "b" is not named` + "\n" +
		`orphan  a\x1b[2J\n\tdamaged  \xff` + strings.Repeat("x", 1017) + "…\n"
	if got := b.String(); err != nil || got != want {
		t.Errorf("%v, got\n%q\nwant\n%q", err, got, want)
	}
	run := audit.LastRun{Began: time.Unix(1_700_000_000, 0), Error: "2 of 3 series:\n  a: \x1b[2J\r\n  b: c"}
	if got := describeRun(&run); !strings.HasSuffix(got, "failed: 2 of 3 series:\n  a: \\x1b[2J\\r\n  b: c\n") {
		t.Errorf("got %q", got)
	}
	run.Error = strings.Repeat("x\n", 1<<20)
	if got := describeRun(&run); len(got) > 32<<10 {
		t.Errorf("%d bytes", len(got))
	}
}

// Nor do the ids of keys in a root that another made.
func TestShowsForeignKeys(t *testing.T) {
	const id = "\x1b[2J\u009b\u202e and more"
	p := trust.Proposal{
		Version: 2, Changes: []string{"root gets the key \x1b[2J", "root needs 2 signatures, not 1"},
		Missing: []trust.Missing{{Of: 1, Signatures: 1, Keys: []string{id, "0123456789abcdef"}}},
	}
	var b strings.Builder
	if err := errors.Join(printChanges(&b, p), printMissing(&b, "keys", p)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		`Root 2: root gets the key \x1b[2J, root needs 2 signatures, not 1.` + "\n",
		`these keys can sign: \x1b[2J\u009b\u202e a 01234567` + "\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("want %q in %q", want, b.String())
		}
	}
}

// A key of the settings means the same in all commands that read it: values of one kind.
func TestKeys(t *testing.T) {
	kinds := make(map[string]string)
	var look func(where string, flags []cli.Flag, commands []*cli.Command)
	look = func(where string, flags []cli.Flag, commands []*cli.Command) {
		for _, f := range flags {
			kind := fmt.Sprintf("%T, a directory: %v", f, strings.Contains(f.(cli.DocGenerationFlag).GetUsage(), "`DIR`"))
			key := f.Names()[0]
			if before, ok := kinds[key]; ok && before != kind {
				t.Errorf("--%s of%s is %s, and elsewhere %s", key, where, kind, before)
			}
			kinds[key] = kind
		}
		for _, c := range commands {
			look(where+" "+c.Name, c.Flags, c.Subcommands)
		}
	}
	app := newApp(new(config.Settings), nil, io.Discard, io.Discard)
	look(" the build", app.Flags, app.Commands)
	if kinds["images"] == kinds["pull-images"] {
		t.Errorf("images is %s", kinds["images"])
	}
}
