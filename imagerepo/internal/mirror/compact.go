package mirror

import (
	"errors"
	"io/fs"
	"os"

	"puavo-image-repository/imagerepo/internal/lockfile"
)

// Making is the lock of whoever makes compact deltas, which takes hours and is done without
// that of the mirror.
const Making = Private + "/making.lock"

// Scratch makes a file without a name on the file system of a mirror, for work that is done
// without its lock. Whoever opens the mirror at that moment may just remove and make the
// directory for such files.
func (m *Mirror) Scratch() (f *os.File, err error) {
	for range 100 {
		if err := m.Root.MkdirAll(tmp, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if f, err = m.scratch(); !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, err
}

func (m *Mirror) scratch() (*os.File, error) {
	dir, err := m.Root.Sub(tmp)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Scratch()
}

// LockMaking takes the lock of whoever makes compact deltas. If another process has it, the
// error wraps lockfile.ErrHeld.
func (m *Mirror) LockMaking() (*lockfile.Lock, error) { return lockfile.Acquire(m.Dir, Making) }
