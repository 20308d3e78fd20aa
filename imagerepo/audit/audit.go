// Package audit looks at a finished mirror and changes nothing: Verify reads all of it
// and reports what is wrong, StatusOf reports what it holds.
//
// # What a file is held against
//
// A mirror is held against itself: each file is read once, whole, and compared
// with all that the mirror says of it.
//
//	meta/<series>.json  size and digests of images and deltas
//	CKSUMS              CRC and size of the same
//	SHA256SUMS          SHA-256 of every file but itself and those in tuf
//	index.json          which meta there is, how many images it has and the newest
//
// What a document does not give is not compared: the predecessor's meta has no
// blake3. The documents are compared with each other as well.
//
// The published meta is what index.json and SHA256SUMS name. Where there is no
// index.json that can be read, as in the predecessor's mirrors, all of meta/ is
// published. A mirror with an index.json or SHA256SUMS must have both of them
// and CKSUMS.
//
// What is in tuf is for package trust to verify.
//
// The records in .repo, which a mirror need not have, tell only whether a file
// with another content was replaced, and which files wait for their removal.
//
// # While a run works
//
// No lock is taken, so that a mirror can be looked at while it is served,
// uploaded or read-only, and while a run of the builder works. At every instant
// what the documents name is there, but the documents are written one after the
// other, and Verify does not read all in an instant. So what it finds is final only
// if no document was changed since it was read, and no run holds the lock of the
// mirror. If not, Verify looks again, seven times at most, after pauses of some
// three seconds in all. What has the size, times and inode of a file that it has
// read is not read again, and a delta between such files not applied again. Where a
// run is still in progress at the end, or documents keep changing, a Note says so
// too.
//
// Orphans with names as the tool gives them are no news while a run is in progress: it
// has just made them, or is about to remove them. A Note counts them.
//
// Whoever may not read the lock, which is for its owner alone, learns of no run, only of
// documents that were changed.
package audit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
)

// ErrNoMirror is wrapped by the error for a directory that is no mirror.
var ErrNoMirror = errors.New("not a mirror, it has no meta, no index.json, no CKSUMS and no SHA256SUMS")

// Options say what Verify does. MirrorDir must be given; the zero value of every other
// field works.
type Options struct {
	MirrorDir string
	Deep      bool // apply the deltas too
	Jobs      int  // how many files are read, or deltas applied, concurrently; 0 is one
	// Signed, which may be nil, verifies the signed metadata, in each look, and
	// returns what it finds.
	Signed func(context.Context) ([]Finding, error)
	// Progress, which may be nil, is called with the bytes of work done and in
	// all, from several goroutines concurrently. Each look begins again at 0.
	Progress func(done, total int64)
}

// Problem is what is wrong with a file.
type Problem string

const (
	// Missing is a file that a document names and that does not exist, or is no
	// regular file.
	Missing Problem = "missing"
	// Damaged is a file whose content is not what a document says, although its size,
	// time and inode are those of its record, or it has none: its bits rotted, or it was
	// overwritten and its time kept.
	Damaged Problem = "damaged"
	// Modified is a file whose content is not what a document says, and whose size, time
	// or inode is not that of its record: somebody changed or replaced it.
	Modified Problem = "modified"
	// Malformed is a document that cannot be parsed.
	Malformed Problem = "malformed"
	// Inconsistent is a file of which two documents do not say the same.
	Inconsistent Problem = "inconsistent"
	// Wrong is a delta with the digests it should have that does not make its
	// image.
	Wrong Problem = "wrong"
	// Unreadable is a file that could not be read.
	Unreadable Problem = "unreadable"
	// Orphan is a file that no document names. Those with names as the tool
	// gives them are not looked for while a document that may name them is missing
	// or cannot be read.
	Orphan Problem = "orphan"
	// Waiting is an orphan that the builder keeps for its grace, for clients that
	// still want it.
	Waiting Problem = "waiting"
	// Note is something to know: what was left out, and why.
	Note Problem = "note"
)

// Finding is one thing that was found.
type Finding struct {
	Path    string  `json:"path"` // in the mirror, with slashes
	Problem Problem `json:"problem"`
	Detail  string  `json:"detail"` // a clause for people
}

// Damage reports whether the finding is one that harms clients or may.
func (f Finding) Damage() bool {
	return f.Problem != Orphan && f.Problem != Waiting && f.Problem != Note
}

// Report is what Verify found. A file can have several findings.
type Report struct {
	Files    int       `json:"files"`  // that were read
	Bytes    int64     `json:"bytes"`  // of these files
	Deltas   int       `json:"deltas"` // that were applied
	Findings []Finding `json:"findings"`
}

// Damaged returns how many findings are damage.
func (r Report) Damaged() (n int) {
	for _, f := range r.Findings {
		if f.Damage() {
			n++
		}
	}
	return n
}

// findings collects what a look finds. Its methods can be called concurrently.
type findings struct {
	mu     sync.Mutex
	report Report
}

func newFindings() *findings { return &findings{report: Report{Findings: []Finding{}}} }

func (f *findings) add(path string, p Problem, detail string) {
	f.addAll([]Finding{{path, p, detail}})
}

func (f *findings) addAll(more []Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report.Findings = append(f.report.Findings, more...)
}

// countFile counts a file that was read.
func (f *findings) countFile(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report.Files++
	f.report.Bytes += bytes
}

// countDelta counts a delta that was applied.
func (f *findings) countDelta() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report.Deltas++
}

// damaged reports whether some finding is damage.
func (f *findings) damaged() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.report.Damaged() > 0
}

// sorted returns the report. It must be the last call.
func (f *findings) sorted() Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.report.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem), strings.Compare(a.Detail, b.Detail))
	})
	return f.report
}

// Verify reads a mirror and reports what is wrong, sorted by path.
// With Deep it applies each delta of the meta to its base in the mirror, by the
// second implementation of the format, unless one of the files has been found bad
// already. It returns an error only if the
// mirror cannot be opened or is none (ErrNoMirror), if Options.Signed does, or if ctx
// ended.
func Verify(ctx context.Context, o Options) (Report, error) { return verify(ctx, o, pauses) }
