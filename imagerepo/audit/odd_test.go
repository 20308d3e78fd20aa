package audit

import (
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// Whatever is no file, or far too large, is neither waited at nor read, and found.
func TestOddFiles(t *testing.T) {
	large := testdata.Odd{Name: "2 GiB", Make: testdata.Sparse}
	pipe := testdata.OddFile(t, "a pipe")
	for _, c := range []struct {
		file   string
		kinds  []testdata.Odd
		found  string // the problem, "" for none
		status bool   // it can be read
	}{
		{"index.json", append(testdata.OddFiles(t), large), "missing malformed", false},
		{"CKSUMS", []testdata.Odd{pipe, large}, "missing malformed", true},
		{"SHA256SUMS", []testdata.Odd{pipe, large}, "missing malformed", true},
		{"rdiffs/SHA256SUMS", append(testdata.OddFiles(t), large), "missing malformed", true},
		{"meta/SHA256SUMS", []testdata.Odd{pipe, large}, "missing malformed", true},
		{amxaDoc, []testdata.Odd{pipe, large}, "missing malformed", false},
		{"meta", []testdata.Odd{pipe}, "missing", false},
		{"rdiffs", []testdata.Odd{pipe}, "missing", true},
		{up, []testdata.Odd{pipe}, "missing", true},
		{".repo/run.json", append(testdata.OddFiles(t), large), "", true},
		{".repo/state", []testdata.Odd{pipe}, "", true},
		{".repo/state/" + newer + ".json", []testdata.Odd{pipe, large}, "", true},
		{".repo/lock", []testdata.Odd{pipe}, "", true},
	} {
		for _, kind := range c.kinds {
			p := newPlace(t)
			p.remove(c.file)
			t.Chdir(filepath.Dir(p.path(c.file))) // the path of a socket is short
			if err := kind.Make(filepath.Base(c.file)); err != nil {
				t.Fatal(err)
			}
			what := c.file + " is " + kind.Name
			testdata.Promptly(t, what, func() {
				var r Report
				if used := testdata.Allocated(func() { r = p.verify(false) }); used > 64<<20 {
					t.Errorf("%s: verifying takes %d bytes of memory", what, used)
				}
				for _, f := range r.Findings {
					if f.Damage() && (f.Path != c.file && !strings.HasPrefix(f.Path, c.file+"/") || !strings.Contains(c.found, string(f.Problem))) {
						t.Errorf("%s: found %+v", what, f)
					}
				}
				if (r.Damaged() > 0) != (c.found != "") || r.Bytes > 1<<30 {
					t.Errorf("%s: found %+v, read %d bytes", what, r.Findings, r.Bytes)
				}
				_, err := StatusOf(p.dir)
				if isIndex := c.file == "index.json" && kind.Name != large.Name; (err == nil) != (c.status || isIndex) { // where there is none, all of meta counts
					t.Errorf("%s: status: %v", what, err)
				}
			})
		}
	}
}
