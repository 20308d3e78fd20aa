package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/peer"
)

// A row relates its rounds one by one, and the table names who failed.
func TestTable(t *testing.T) {
	ref := &row{peer: peer.Peer{Name: "ref"}, bytes: 100, diff: []measure.Figures{{Seconds: 1, CPU: 4}, {Seconds: 10, CPU: 4}}, patch: []measure.Figures{{Seconds: 1}, {Seconds: 1}}}
	fast := &row{peer: peer.Peer{Name: "fast"}, bytes: 50, diff: []measure.Figures{{Seconds: 0.5, CPU: 1}, {Seconds: 2, CPU: 3}}, patch: []measure.Figures{{Seconds: 1}, {Seconds: 1}}}
	bad := &row{peer: peer.Peer{Name: "bad"}, err: errors.New("out\nof order")}
	for _, r := range []*row{ref, fast, bad} {
		r.relate(ref)
	}
	if len(fast.time) != 2 || fast.time[0] != 0.5 || fast.time[1] != 0.2 || fast.size[0] != 0.5 {
		t.Errorf("ratios %v, %v", fast.time, fast.size)
	}
	var b strings.Builder
	if err := write(&b, []*row{ref, fast, bad}); err != nil {
		t.Fatal(err)
	}
	find(t, b.String(), `fast \| +1\.25 \| 0\.350 \| +2\.9 \| +2\.00 \| 0\.500 \|`, `0\.00 \| 0\.500 \| +1\.00 \|`, `bad \| +failed \|`, `(?m)^Failed, bad: out of order$`)
}

// The pairs of raw are in their order, and what is missing is named.
func TestRawPairs(t *testing.T) {
	dir := t.TempDir()
	if _, err := namedPairs(dir, "raw.sh", rawNames); err == nil || !strings.Contains(err.Error(), "0 images of ext4") || !strings.Contains(err.Error(), "bench/raw.sh") {
		t.Errorf("an empty directory: %v", err)
	}
	for _, r := range rawNames {
		for _, day := range []string{"20", "10"} {
			if err := os.WriteFile(filepath.Join(dir, r.prefix+"-2024-01-"+day+"-120000-amd64.img"), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	pairs, err := namedPairs(dir, "raw.sh", rawNames)
	if err != nil || len(pairs) != 4 {
		t.Fatalf("%d pairs, %v", len(pairs), err)
	}
	for i, p := range pairs {
		if p.name != rawNames[i].name || !strings.Contains(p.base, rawNames[i].prefix+"-2024-01-10") || !strings.Contains(p.target, "-2024-01-20") {
			t.Errorf("%+v", p)
		}
	}
}

// Each corpus that is measured for itself has a report of its own.
func TestReportOf(t *testing.T) {
	for corpus, want := range map[string]string{"real": "RESULTS.md", "small": "RESULTS.md", "raw": "RAW.md", "growth": "GROWTH.md"} {
		if got := reportOf(corpus); got != want {
			t.Errorf("%s: %s, want %s", corpus, got, want)
		}
	}
	for corpus, want := range map[string]string{"real": "COMPACT.md", "repacked": "REPACKED.md"} {
		if got := compactReportOf(corpus); got != want {
			t.Errorf("compact, %s: %s, want %s", corpus, got, want)
		}
	}
}
