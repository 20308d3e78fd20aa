package audit

import (
	"os"
	"sync"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/state"
)

// stampAt returns the stamp of what has a name, the zero Stamp if nothing has.
func stampAt(root atomicfile.Dir, name string) state.Stamp {
	info, err := root.Lstat(name)
	if err != nil {
		return state.Stamp{}
	}
	return state.StampOf(info)
}

// unchanged reports whether an open file is the one with that stamp, as it was.
func unchanged(f *os.File, s state.Stamp) bool {
	info, err := f.Stat()
	return err == nil && state.StampOf(info) == s
}

// memory is what one Verify has found out by reading, so that what is as it was is
// not read again by its next look.
type memory struct {
	mu    sync.Mutex
	sums  map[state.Stamp]cksum.Sums
	tries map[[3]state.Stamp]result // of delta, base and target
}

// result is what a delta makes.
type result struct {
	digest cksum.Digest256
	err    error // of the delta's format
}

func newMemory() *memory {
	return &memory{sums: make(map[state.Stamp]cksum.Sums), tries: make(map[[3]state.Stamp]result)}
}

func (m *memory) sumsOf(s state.Stamp) (sums cksum.Sums, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sums, known = m.sums[s]
	return sums, known
}

func (m *memory) putSums(s state.Stamp, sums cksum.Sums) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sums[s] = sums
}

func (m *memory) resultOf(t *trial) (r result, known bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, known = m.tries[t.stamps()]
	return r, known
}

func (m *memory) putResult(t *trial, r result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tries[t.stamps()] = r
}
