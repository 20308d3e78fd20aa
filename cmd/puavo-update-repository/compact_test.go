package main

import (
	"strings"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/plan"
)

// The status has the sizes of compact deltas after those of the others, and a row for those
// without a base.
func TestStatusCompact(t *testing.T) {
	const a, b = "os-2022-01-17-120001-amd64.img", "os-2022-01-20-173248-amd64.img"
	const retired = "os-2021-01-01-000000-amd64.img"
	newest := audit.ImageStatus{File: b, Size: 2048, Deltas: []audit.DeltaStatus{{Base: a, File: "x.rdiff", Size: 1024, Share: 0.5}}}
	newest.Compact = []audit.DeltaStatus{
		{File: "full.cdelta", Size: 1536, Share: 0.75}, {Base: a, File: "x.cdelta", Size: 512, Share: 0.25},
		{Base: retired, File: "old.cdelta", Size: 600, Share: 0.3, Retired: true},
	}
	s := fullStatus{Status: audit.Status{
		Series: []audit.SeriesStatus{{Name: "os-amd64", Images: []audit.ImageStatus{{File: a, Size: 2048}, newest}}},
		Images: 2, ImageBytes: 4096, Deltas: 1, DeltaBytes: 1024, Compact: 3, CompactBytes: 2648, Torrents: 2,
	}}
	var w strings.Builder
	if err := printStatus(&w, s, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(w.String(), "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(lines[i]), " ")
	}
	want := []string{
		"os-amd64",
		"to size 2022-01-20-173248",
		"no base - + 1.5 KiB",
		"2021-01-01-000000 retired - + 600 B",
		"2022-01-17-120001 2.0 KiB 1.0 KiB 50.0 % + 512 B",
		"2022-01-20-173248 2.0 KiB -",
		"2.0 KiB " + a,
		"2.0 KiB " + b,
		"1.0 KiB 50.0 % rdiffs/x.rdiff",
		"1.5 KiB 75.0 % compact/full.cdelta",
		"512 B 25.0 % compact/x.cdelta",
		"600 B 30.0 % compact/old.cdelta",
		"",
		"1 series, 2 images of 4.0 KiB, 1 deltas of 1.0 KiB, 3 compact deltas of 2.6 KiB, 2 torrents",
		"",
	}
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// A plan has the compact deltas that are there, a summary how many are published, and so do
// the metrics; without them, both are as they were.
func TestReportCompact(t *testing.T) {
	var w strings.Builder
	p := plan.Plan{Compact: []plan.CompactDelta{
		{File: "kept.cdelta", Action: plan.Keep, Size: 1024}, {File: "checked.cdelta", Action: plan.Check, Size: 1024},
		{File: "awaited.cdelta", Action: plan.Await}, {File: "missing.cdelta", Action: plan.Make}, {File: "dropped.cdelta", Action: plan.Drop, Size: 2048},
	}}
	if err := (report{w: &w}).plan(p, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"keep   1.0 KiB  kept.cdelta\n", "check  1.0 KiB  checked.cdelta\n", "await  ?        awaited.cdelta\n", "drop   2.0 KiB  dropped.cdelta\n"} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("no %q in\n%s", want, w.String())
		}
	}
	if strings.Contains(w.String(), "missing") {
		t.Errorf("a build makes none:\n%s", w.String())
	}
	for _, n := range []int{0, 3} {
		s := imagerepo.Summary{Series: 1, Images: 2, Compact: n, CompactBytes: int64(n) << 10}
		if got := contents(s); strings.Contains(got, ", 3 compact deltas of 3.0 KiB") != (n > 0) || strings.Contains(got, "compact") != (n > 0) {
			t.Errorf("%d: %s", n, got)
		}
		got := string(metrics{Summary: s, mirror: "/m"}.format())
		if strings.Contains(got, "\n"+prefix+`compact_deltas{mirror="/m"} 3`+"\n") != (n > 0) || strings.Contains(got, "\n"+prefix+`compact_bytes{mirror="/m"} 3072`+"\n") != (n > 0) {
			t.Errorf("%d:\n%s", n, got)
		}
	}
}
