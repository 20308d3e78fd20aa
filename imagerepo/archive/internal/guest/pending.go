package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"puavo-image-repository/imagerepo/archive/internal/catalog"
	"puavo-image-repository/imagerepo/atomicfile"
)

// Waiting is a version of a disk that is complete, and that its catalog does not name yet.
type Waiting struct {
	Group   string          `json:"group"`
	Parent  string          `json:"parent,omitempty"` // the newest version when it was made
	Version catalog.Version `json:"version"`
	Delta   catalog.Stored  `json:"delta,omitzero"` // which makes the parent; zero without one
	Lost    bool            `json:"lost,omitempty"` // the parent cannot be used
}

// pendingFile is a JSON object in the directory of a guest: format 1, and the disks, see
// Waiting. From when it is there until it is removed, the versions of a backup are complete,
// and all disks get them, whoever completes it.
const pendingFile = ".pending.json"

const (
	pendingFormat = 1
	maxPending    = 4 << 20 // bytes
)

type pending struct {
	Format int       `json:"format"`
	Disks  []Waiting `json:"disks"`
}

// errPending is the error for a list that is not understood.
var errPending = errors.New("it is not what this program writes")

// Decide decides that all disks of a guest get their versions.
func Decide(dir atomicfile.Dir, disks []Waiting) error {
	data, err := json.Marshal(pending{pendingFormat, disks})
	if err != nil {
		return err
	}
	_, err = dir.Replace(pendingFile+Part, pendingFile, data)
	return err
}

// IsDecided reports whether there is something to complete.
func IsDecided(dir atomicfile.Dir) bool {
	_, err := dir.Lstat(pendingFile)
	return !errors.Is(err, fs.ErrNotExist)
}

// Decided returns the versions of the disks of a guest that were decided on, none if there is
// nothing to complete.
func Decided(dir atomicfile.Dir, name string) ([]Waiting, error) {
	data, err := dir.ReadFile(pendingFile, maxPending)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	disks, err := parsePending(data, name)
	if err != nil {
		err = fmt.Errorf("%s/%s: %w; remove it", name, pendingFile, err)
	}
	return disks, err
}

func parsePending(data []byte, name string) ([]Waiting, error) {
	var p pending
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", errPending, err)
	}
	if p.Format != pendingFormat || len(p.Disks) == 0 {
		return nil, fmt.Errorf("%w: it has format %d, and %d disks", errPending, p.Format, len(p.Disks))
	}
	for _, w := range p.Disks {
		disk, ok := strings.CutPrefix(w.Group, name+"/")
		_, versionErr := catalog.ParseVersion(w.Version.Version)
		_, parentErr := catalog.ParseVersion(w.Parent)
		if !ok || catalog.CheckDisk(disk) != nil || versionErr != nil || w.Parent != "" && parentErr != nil {
			return nil, fmt.Errorf("%w: a disk has another guest, or no version", errPending)
		}
	}
	return p.Disks, nil
}

// Settled removes the list, once all versions have their names, or none will.
func Settled(dir atomicfile.Dir) error {
	if err := dir.Remove(pendingFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return dir.SyncDir(".")
}

// files returns the names of the files of a version while it is made, and those with which a
// catalog can name them.
func (w Waiting) files() (files [][2]string) {
	version := w.Version.Version
	files = [][2]string{{version + ".img" + Part, version + ".img" + catalog.New}}
	if w.Delta.Size > 0 {
		files = append(files, [2]string{w.Parent + ".rdiff" + Part, w.Parent + ".rdiff" + catalog.New})
	}
	return files
}

// Present gives the files of a version the names with which a catalog can name them.
func Present(dir atomicfile.Dir, w Waiting) error {
	for _, f := range w.files() {
		if err := dir.Rename(f[0], f[1]); err != nil {
			return err
		}
	}
	sums := w.Version.Version + piecesSuffix
	if err := dir.Rename(sums+Part, sums); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Withdraw takes back what Present did, as far as it came, while no catalog names the version:
// files that no catalog names would be removed under those names.
func Withdraw(dir atomicfile.Dir, w Waiting) error {
	for _, f := range w.files() {
		if _, err := dir.Lstat(f[1]); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := dir.Rename(f[1], f[0]); err != nil {
			return err
		}
	}
	return nil
}
