// Package imagedir is the images directory of a client: which images exist, which
// one is the default, and how all that is changed so that a process that is killed,
// or a power cut, at any instant leaves whole images.
//
//	Dir      opens and locks the directory, lists, installs and removes what is partial
//	Link     the default link and its backup
//	Prune    removes old images that are not in use
//
// What is known of the content of images is in package digestcache, and how a
// partial image is made in package assemble.
//
// # Files
//
//	<image>.img                    an image; only whole, verified ones get such a name
//	<image>.img.tmp                a partial image, or a whole one on the way to another
//	<image>.img.tmp.journal        how far it has got, see package assemble
//	<image>.img.lock               any file: the image stays, and so does its partial image
//	<image>.img.tmp.lock           any file: the partial image stays
//	ltsp.img                       the default link: a hard link of the image in use
//	ltsp-backup.img                the backup link: the one that was the default before
//	.image_updates_known           the digest cache
//	.image_updates_speed           how fast ways to an image are, see package cost
//	.image_updates_hold            while it exists, no update is installed, see package hold
//	.image_updates_lock            flock(2)ed by who changes the directory
//	.image_updates_link.ltsp.img   what is about to become the default link
//	.image_updates_backup.ltsp.img what is about to become the backup link
//	DISABLE_IMAGE_UPDATES          any file: updates are disabled
//
// The link can have another name than ltsp.img. The names of lock, locks of images
// and links, and what the links are, are those of the installed tools, which find
// the default image by the inode of the link.
package imagedir

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client/internal/digestcache"
	"puavo-image-repository/imagerepo/internal/lockfile"
)

// MountAdvice is the format of what to do about a directory that is mounted read-only.
const MountAdvice = "%s is read-only; mount it writable"

const (
	lockName    = ".image_updates_lock"
	disableName = "DISABLE_IMAGE_UPDATES"
)

// Dir is an images directory. It is not for concurrent use, but for Files.
type Dir struct {
	Files   atomicfile.Dir     // reads and changes the files
	Digests *digestcache.Cache // what is known of them
	lock    *lockfile.Lock     // nil if it is not held
}

// Open opens an images directory; the caller closes it. It takes no lock and writes
// nothing.
func Open(path string) (*Dir, error) {
	files, err := atomicfile.Open(path)
	if err != nil {
		return nil, fmt.Errorf("images directory: %w; check the path", err)
	}
	return &Dir{Files: files, Digests: digestcache.Open(files)}, nil
}

// Make makes an images directory, in a directory that exists.
func Make(path string) error {
	parent, err := atomicfile.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("images directory: %w; check the path", err)
	}
	defer parent.Close()
	if err := parent.Mkdir(filepath.Base(path), 0o777); err != nil {
		return fmt.Errorf("images directory %s: %w", path, err)
	}
	return parent.SyncDir(".")
}

// Close releases the lock, if it is held, and closes the directory.
func (d *Dir) Close() error {
	var err error
	if d.lock != nil {
		err = d.lock.Release()
		d.lock = nil
	}
	return errors.Join(err, d.Files.Close())
}

// Disabled reports whether updates of the directory are disabled.
func (d *Dir) Disabled() bool { return exists(d.Files, disableName) }

// Lock takes the lock, without which nothing in the directory is changed. If
// another process holds it, the error wraps lockfile.ErrHeld.
func (d *Dir) Lock() (err error) {
	d.lock, err = lockfile.Acquire(d.Files.Name(), lockName)
	switch {
	case errors.Is(err, syscall.EROFS):
		return readOnly(d.Files.Name())
	case err != nil:
		return fmt.Errorf("images directory %s: %w", d.Files.Name(), err)
	}
	d.Digests.AllowWrites()
	return nil
}

// readOnly is the error for a directory of this path that is mounted read-only.
type readOnly string

func (r readOnly) Error() string { return fmt.Sprintf("images directory "+MountAdvice, string(r)) }

func (readOnly) Unwrap() error { return syscall.EROFS }

// LockToRead is Lock for those who change nothing: a directory that may not be written
// can be read without the lock, and unlocked then says why it was not taken. Not so if
// another process holds the lock.
func (d *Dir) LockToRead() (unlocked, err error) {
	err = d.Lock()
	if !errors.Is(err, syscall.EROFS) && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if who, held := lockfile.Holder(d.Files.Name(), lockName); held {
		return nil, fmt.Errorf("images directory %s is %w by %s; wait until it has finished", d.Files.Name(), lockfile.ErrHeld, who)
	}
	return err, nil
}

// Locked reports whether the lock is held.
func (d *Dir) Locked() bool { return d.lock != nil }

// wantLock returns an error if the lock is not held.
func (d *Dir) wantLock() error {
	if d.lock == nil {
		return fmt.Errorf("images directory %s: the lock is not held", d.Files.Name())
	}
	return nil
}

// Sub opens a directory in this one; the caller closes it. If it does not exist, it
// is made if the lock is held, and else the zero Dir is returned.
func (d *Dir) Sub(name string) (atomicfile.Dir, error) {
	if d.Locked() {
		if err := d.Files.Mkdir(name, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return atomicfile.Dir{}, err
		}
	}
	sub, err := d.Files.Sub(name)
	if errors.Is(err, fs.ErrNotExist) && !d.Locked() {
		return atomicfile.Dir{}, nil
	} else if err != nil {
		return atomicfile.Dir{}, fmt.Errorf("images directory %s: %w", d.Files.Name(), err)
	}
	return sub, nil
}

func exists(files atomicfile.Dir, file string) bool {
	_, err := files.Lstat(file)
	return err == nil
}

// remove removes a file if it exists.
func remove(files atomicfile.Dir, file string) error {
	if err := files.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Say lets those who wait for the lock know what this process does.
func (d *Dir) Say(work string) {
	if d.lock != nil {
		d.lock.Say(work)
	}
}
