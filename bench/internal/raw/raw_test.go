package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// made runs the script, over a corpus of a hundredth, and returns its directory.
func made(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "../../raw.sh", dir, "1").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// needTools skips the test where the tools of the script are missing.
func needTools(t *testing.T) {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/sbin:/usr/sbin")
	for _, tool := range []string{"mke2fs", "debugfs", "xorriso"} {
		testdata.Tool(t, tool)
	}
}

// The script makes the same bytes each time, eight images and nothing else.
func TestScript(t *testing.T) {
	needTools(t)
	first, second := made(t), made(t)
	entries, err := os.ReadDir(first)
	if err != nil || len(entries) != 8 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		a, errA := os.ReadFile(filepath.Join(first, e.Name()))
		b, errB := os.ReadFile(filepath.Join(second, e.Name()))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: two runs differ; %v, %v", e.Name(), errA, errB)
		}
	}
	a, b := states(1)
	for state, files := range [][]file{a, b} {
		checkExt4(t, image(first, "ext4", state), files)
		checkISO(t, image(first, "iso", state), files)
	}
	if out, err := exec.CommandContext(t.Context(), "../../raw.sh").CombinedOutput(); err == nil || !strings.Contains(string(out), "bench/raw.sh DIR") {
		t.Errorf("without a directory: %v, %s", err, out)
	}
}

// checkExt4 checks that a file system is sound and has these files.
func checkExt4(t *testing.T, path string, files []file) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "e2fsck", "-fn", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	to := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "debugfs", "-R", "rdump /usr "+to, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkTree(t, to, files)
}

// checkISO checks that an ISO 9660 image has these files.
func checkISO(t *testing.T, path string, files []file) {
	t.Helper()
	to := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "xorriso", "-osirrox", "on", "-indev", path, "-extract", "/usr", filepath.Join(to, "usr")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkTree(t, to, files)
}

func checkTree(t *testing.T, dir string, files []file) {
	t.Helper()
	var want, got []string
	for _, f := range files {
		want = append(want, f.path)
		var content bytes.Buffer
		if err := f.write(&content); err != nil {
			t.Fatal(err)
		}
		if is, err := os.ReadFile(filepath.Join(dir, f.path)); err != nil || !bytes.Equal(is, content.Bytes()) {
			t.Errorf("%s is not what was written; %v", f.path, err)
		}
	}
	filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			got = append(got, rel)
		}
		return err
	})
	if !slices.Equal(got, want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

// Of the second tree most files are those of the first.
func TestStates(t *testing.T) {
	a, b := states(20)
	old := make(map[string]file)
	for _, f := range a {
		old[f.path] = f
	}
	counts := make(map[string]int)
	for _, f := range b {
		before, ok := old[f.path]
		switch {
		case !ok:
			counts["new"]++
		case before == f:
			counts["same"]++
		case f.edited:
			counts["edited"]++
		default:
			counts["replaced"]++
		}
		delete(old, f.path)
	}
	counts["gone"] = len(old)
	for what, share := range map[string][2]int{"same": {75, 85}, "replaced": {6, 14}, "edited": {2, 7}, "gone": {2, 7}, "new": {2, 7}} {
		if percent := 100 * counts[what] / len(a); percent < share[0] || percent > share[1] {
			t.Errorf("%d %% of %d files are %s, want %v", percent, len(a), what, share)
		}
	}
}

// Extents of a disk lie one after the other within it, and most of it is zeros.
func TestDisks(t *testing.T) {
	for _, percent := range []int64{1, 100} {
		a, b, sizes := disks(percent)
		for state, extents := range [][]extent{a, b} {
			end, content := int64(0), int64(0)
			for i, e := range extents {
				if e.at < end || i > 0 && e.at == end || e.at%4096 != 0 {
					t.Errorf("%d %%, state %d: extent %d at %d, the one before it ends at %d", percent, state, i, e.at, end)
				}
				end, content = e.at+e.size, content+e.size
			}
			if end > sizes[state] || content > sizes[state]/50 {
				t.Errorf("%d %%, state %d: %d bytes up to %d of %d", percent, state, content, end, sizes[state])
			}
		}
		moved := 0
		for _, e := range b {
			if !slices.ContainsFunc(a, func(x extent) bool { return x.at == e.at }) {
				moved++
			}
		}
		if moved < len(b)/2 {
			t.Errorf("%d %%: %d extents moved, of %d", percent, moved, len(b))
		}
		if len(b) != len(a) || sizes[1] <= sizes[0] {
			t.Errorf("%d and %d extents, sizes %v", len(a), len(b), sizes)
		}
	}
}

// Most bytes of a table are in long stretches of one record.
func TestTables(t *testing.T) {
	a, b := tables(100)
	for state, table := range [][]stretch{a, b} {
		all, long := int64(0), int64(0)
		for _, s := range table {
			all += s.records * recordSize
			if !s.counts && s.records > 1024 {
				long += s.records * recordSize
			}
		}
		if all < recordsSize*8/10 || all > recordsSize*12/10 || long < all*8/10 {
			t.Errorf("state %d: %d bytes, %d in long stretches", state, all, long)
		}
	}
	if slices.Equal(a, b) {
		t.Error("both states are the same")
	}
}

func TestStretch(t *testing.T) {
	for _, c := range []struct {
		stretch
		same bool
	}{{stretch{3, 7, false}, true}, {stretch{3, 7, true}, false}} {
		var b bytes.Buffer
		if err := c.write(&b); err != nil || b.Len() != 3*recordSize {
			t.Fatalf("%d bytes, %v", b.Len(), err)
		}
		if same := bytes.Equal(b.Bytes()[:recordSize], b.Bytes()[recordSize:2*recordSize]); same != c.same {
			t.Errorf("%+v: the same records: %v", c.stretch, same)
		}
	}
}

func TestRunErrors(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b", "c"}, {t.TempDir(), "0"}, {t.TempDir(), "x"}, {"no/such", "1"}} {
		if err := run(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
