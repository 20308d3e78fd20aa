// Package ledger is what is known of the files of a mirror: their digests, stamps
// and origin, in memory and in the records of package state.
package ledger

import (
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/state"
)

// Ledger is what is known of the files of one mirror, by their names. It can be
// used concurrently, for different files.
type Ledger struct {
	dir     *state.Dir
	mu      sync.Mutex
	records map[string]*state.Record
	changed atomic.Bool
}

// Load reads the ledger. Damaged are the names of the files whose records say
// nothing, since they are damaged.
func Load(dir *state.Dir) (l *Ledger, damaged []string, err error) {
	records, damaged, err := dir.Load()
	if err != nil {
		return nil, nil, err
	}
	return &Ledger{dir: dir, records: records}, damaged, nil
}

// Empty returns the ledger of a mirror that is not there.
func Empty() *Ledger { return &Ledger{records: make(map[string]*state.Record)} }

// TakeOver completes the records of a version that had no checks and did not record
// who placed an image. Published returns what the meta says of a file: a record that
// says otherwise is damaged. Listed says which files documents name: an image of
// them, or one that waits for its removal, was placed by the tool if the last run
// was of the same image directory. It returns the names of the damaged ones.
func (l *Ledger) TakeOver(published func(name string) (cksum.Sums, bool), listed map[string]bool, sameImages bool) (damaged []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(l.records)) {
		r := l.records[name]
		if !r.Unchecked {
			continue
		}
		if says, ok := published(name); ok && r.Summed() && contradict(says, r.Sums) {
			delete(l.records, name)
			damaged = append(damaged, name)
			continue
		}
		r.Placed = path.Ext(name) == ".img" && sameImages && (listed[name] || r.Orphaned != 0)
	}
	return damaged
}

// contradict reports whether some digests of a file are the same and others are not,
// which those of two files are not either.
func contradict(a, b cksum.Sums) bool {
	same, other := false, false
	compare := func(given, equal bool) {
		same = same || given && equal
		other = other || given && !equal
	}
	compare(a.CRC != 0, a.CRC == b.CRC)
	compare(a.SHA256 != cksum.Digest256{}, a.SHA256 == b.SHA256)
	compare(a.BLAKE3 != cksum.Digest256{}, a.BLAKE3 == b.BLAKE3)
	compare(true, a.SHA512 == b.SHA512)
	return same && other
}

// Upgrade writes the records of a version that had no checks with theirs.
func (l *Ledger) Upgrade() error {
	for _, name := range l.Names() {
		if r := l.Of(name); r.Unchecked {
			if err := l.Put(name, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Of returns a copy of what is known of a file, the zero Record for nothing.
func (l *Ledger) Of(name string) *state.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	record := new(state.Record)
	if known := l.records[name]; known != nil {
		*record = *known
	}
	return record
}

// Has reports whether there is a record of a file.
func (l *Ledger) Has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[name] != nil
}

// All returns all records, which must not be changed.
func (l *Ledger) All() map[string]*state.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.records)
}

// Names returns the names of all files of which there is a record, sorted.
func (l *Ledger) Names() []string { return slices.Sorted(maps.Keys(l.All())) }

// Put records what is known of a file from now on. The record is not changed any
// more.
func (l *Ledger) Put(name string, r *state.Record) error {
	r.Unchecked = false
	l.mu.Lock()
	l.records[name] = r
	l.mu.Unlock()
	l.changed.Store(true)
	return l.dir.Put(name, r)
}

// Suspect forgets, in memory, all that is known of a file but that it is the tool's
// own.
func (l *Ledger) Suspect(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.records[name]; r != nil {
		l.records[name] = &state.Record{Placed: r.Placed}
	}
}

// Delete forgets a file.
func (l *Ledger) Delete(name string) error {
	l.mu.Lock()
	delete(l.records, name)
	l.mu.Unlock()
	l.changed.Store(true)
	return l.dir.Delete(name)
}

// Changed reports whether anything was recorded or forgotten.
func (l *Ledger) Changed() bool { return l.changed.Load() }

// SuspectCopy forgets, in memory, that an image's copy in the mirror is right.
func (l *Ledger) SuspectCopy(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.records[name]; r != nil {
		forgotten := *r
		forgotten.Copy = state.Stamp{}
		l.records[name] = &forgotten
	}
}

// SetOrphaned records since when a file is an orphan, in seconds since 1970; 0 says that
// it is none.
func (l *Ledger) SetOrphaned(name string, since int64) error {
	record := l.Of(name)
	if record.Orphaned == since {
		return nil
	}
	record.Orphaned = since
	return l.Put(name, record)
}
