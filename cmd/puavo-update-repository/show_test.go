package main

import (
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/audit"
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
}
