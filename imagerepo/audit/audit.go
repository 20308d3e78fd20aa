// Package audit examines a finished mirror and changes nothing: Verify reads all of it
// and reports what is wrong, StatusOf reports what it holds.
//
// # What a file is compared with
//
// A mirror is compared with itself. Each file is read once, whole, and compared
// with all that the documents of the mirror claim of it.
//
//	meta/<series>.json  size and digests of images and deltas
//	CKSUMS              CRC and size of the same, but for compact deltas
//	SHA256SUMS          SHA-256 of the files of the root but itself
//	<folder>/SHA256SUMS SHA-256 of the files of the folder but itself, but for tuf
//	index.json          which meta exists, how many images it has and the newest
//
// A torrent must be of the file that it is named after, of which a meta must say something.
// With Deep, its pieces are compared with the file, which is read once more for that.
//
// index.html, the page for people, and BEST-BEFORE-<date> are compared with SHA256SUMS only;
// their content is not checked. No document has the digest of a list. In a mirror of an earlier version the SHA256SUMS of the
// root names the files of the folders, which have no list; where a folder has one, that must
// name all that is published in it.
//
// What a document does not give is not compared: the predecessor's meta has no
// blake3. All digests that are given are computed and compared, though one would prove
// the content: each client compares another of them. What a delta makes is compared by
// one, the BLAKE3 that was computed of its target. So is what a compact delta makes, which
// names its base and its target too. The documents are compared with each
// other as well.
//
// The published meta is what index.json and a SHA256SUMS name. Without an
// index.json that can be read, as in the predecessor's mirrors, all of meta/ is
// published. A mirror with an index.json or SHA256SUMS must have both of them
// and CKSUMS, and a SHA256SUMS in each folder whose files are published.
//
// What is in tuf is for package trust to verify.
//
// The records in .repo, which a mirror need not have, say only whether a file
// with other content was replaced, and which orphans wait for removal.
//
// # One look
//
// The stages of a look follow each other, from top to bottom. The goroutine of Verify
// runs them all. In two of them Options.Jobs goroutines read the files; each file or
// delta belongs to one of them.
//
//	what is read              stage                             goroutines
//
//	.repo/state               load the records                  1
//	documents                 parse them; their bytes stay in   1
//	                          memory until they are digested
//	  |
//	  +--> files, with what the documents claim of each
//	         |                compare the documents             1
//	names    +--------------> find the orphans                  1
//	stamps   +--------------> list the files, largest first     1
//	files    +--------------> digest, compare with the claims   Jobs   <--> digest cache
//	deltas, bases             with Deep: apply, digest,         Jobs   <--> result cache
//	                          compare with the target
//	torrents, files           compare with each other; with     Jobs   <--> pieces cache
//	                          Deep the pieces too
//	tuf                       Options.Signed                    1
//
// Every stage adds to one list of findings, which has a lock. All caches have one, too.
// They live as long as the call of Verify and are in memory only. Their keys are stamps:
// size, times and inode. A result is cached only if the files that were read still have
// the stamps with which they were listed. Digesting a file takes further goroutines, see
// package cksum.
//
// # While a run works
//
// No lock is taken, so that a mirror can be verified while it is served,
// uploaded or read-only, and while a run of the builder works. At every instant
// what the documents name exists, but the documents are written one after the
// other, and Verify does not read all in an instant. So what it finds is final only
// if no document was changed since it was read, and no run holds the lock of the
// mirror. If not, Verify looks again, seven times at most, after pauses of some
// three seconds in all. A file whose digests are cached is not read again, nor a delta
// applied again whose result is; documents are read by each look. Where a run is still in
// progress at the end, or documents keep changing, a Note says so too.
//
// Orphans with names as the tool gives them are not reported while a run is in
// progress: it has just made them, or is about to remove them. A Note counts them.
//
// The lock is readable by its owner only. Without it, Verify does not notice a run, only
// documents that change.
package audit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"puavo-image-repository/imagerepo/internal/meter"
)

// ErrNoMirror is wrapped by the error for a directory that is no mirror.
var ErrNoMirror = errors.New("not a mirror: it has no meta, index.json, CKSUMS or SHA256SUMS")

// Options say what Verify does. MirrorDir must be given; the zero value of every other
// field works.
type Options struct {
	MirrorDir string
	Deep      bool // apply the deltas too
	Jobs      int  // how many files are read, or deltas applied, concurrently; 0 is one
	// Signed, which may be nil, verifies the signed metadata, in each look, and
	// returns what it finds.
	Signed func(context.Context) ([]Finding, error)
	// Progress, which may be nil, is called with the work done and in all, from several
	// goroutines concurrently. Its units take about as long as each other. Each look begins
	// again at 0.
	Progress func(done, total int64)
	// Stage, which may be nil, is called when another file is worked on, by its path in the
	// mirror, and with what is done to it: file_read, delta_apply or torrent_check. Of several at a time it
	// is the one that was begun last. There is one call at a time.
	Stage func(stage, file string)
}

func (o Options) tell(s meter.Step) {
	if o.Stage != nil {
		o.Stage(s.Stage, s.File)
	}
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
// With Deep it compares the pieces of torrents, and applies each delta of the meta to its base in the mirror, by the second
// implementation of the format, unless delta, base or target was found bad already. Each of
// Options.Jobs takes up to 128 MiB of memory for a compact delta. It
// returns an error only if the mirror cannot be opened or is none (ErrNoMirror), if
// Options.Signed does, or if ctx ended. It can be called concurrently.
func Verify(ctx context.Context, o Options) (Report, error) { return verify(ctx, o, pauses) }
