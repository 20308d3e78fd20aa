package imagedir

import (
	"errors"
	"fmt"
	"io/fs"

	"puavo-image-repository/imagerepo/atomicfile"
)

// Locked reports whether the lock is held.
func (d *Dir) Locked() bool { return d.lock != nil }

// Sub opens a directory in this one, for the caller to close. Where it is not
// there it is made if the lock is held; else the zero Dir is returned.
func (d *Dir) Sub(name string) (atomicfile.Dir, error) {
	if d.Locked() {
		if err := d.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return atomicfile.Dir{}, err
		}
	}
	sub, err := d.Dir.Sub(name)
	if errors.Is(err, fs.ErrNotExist) && !d.Locked() {
		return atomicfile.Dir{}, nil
	} else if err != nil {
		return atomicfile.Dir{}, fmt.Errorf("images directory %s: %w", d.Name(), err)
	}
	return sub, nil
}
