package main

import (
	"os"
	"strings"
	"testing"

	"puavo-image-repository/cmd/internal/manpage"
	"puavo-image-repository/cmd/internal/scripttest"
)

// The manual page, which is written by hand, has every flag and command, and man finds
// nothing wrong.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("man.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(manpage.Render("puavo-rdiff", "1.0", string(text)))
	scripttest.ManualPage(t, "puavo-rdiff", page)
	bold := func(s string) string { return `\fB` + strings.ReplaceAll(s, "-", `\-`) + `\fP` }
	for _, f := range flags {
		if f.short != 0 && !strings.Contains(page, bold("-"+string(f.short))) {
			t.Errorf("no -%c", f.short)
		}
		if f.long != "" && !strings.Contains(page, bold("--"+f.long)) {
			t.Errorf("no --%s", f.long)
		}
	}
	for _, a := range actions {
		if !strings.Contains(page, "\n"+bold(a.name)+"\n") {
			t.Errorf("no %s", a.name)
		}
	}
}
