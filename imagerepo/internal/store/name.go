package store

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta/untrusted"
)

// CheckName returns an error for a name that no file at a destination can have, see the
// package documentation. It wraps fs.ErrInvalid.
func CheckName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\x00\\") || isHidden(name) {
		return fmt.Errorf("%s cannot be the name of a file at a destination: %w", untrusted.Quote(name), fs.ErrInvalid)
	}
	return nil
}

// CheckLink returns an error for a symbolic link in the place of a folder of a mirror: List
// does not see what is written through it.
func CheckLink(name string) error {
	if slices.Contains(append(mirror.Folders(), mirror.TUF), name) {
		return fmt.Errorf("%s is a symbolic link, which is not followed; make it a folder", name)
	}
	return nil
}

// isHidden reports whether a component begins with a dot, unless it is the file name of
// a file of publish in the root.
func isHidden(name string) bool {
	if path.Dir(name) == "." && name != Aside && strings.HasPrefix(name, Aside) {
		return false
	}
	return strings.HasPrefix(name, ".") || strings.Contains(name, "/.")
}

// Temporary returns a new name below Aside for a file that is being written.
func Temporary() string { return path.Join(Aside, temporaryPrefix+rand.Text()) }

const temporaryPrefix = "tmp-"

// IsLeft reports whether Sweep removes a file below Aside that last changed age ago: it holds
// none of the contents to keep, and nobody is writing it.
func IsLeft(name string, age time.Duration, keep []Content) bool {
	if strings.HasPrefix(path.Base(name), temporaryPrefix) {
		return age > temporaryAge
	}
	return !slices.ContainsFunc(keep, func(c Content) bool { return c.Staged() == name })
}

// temporaryAge is the longest time that writing a document can take.
const temporaryAge = time.Hour

// Staged returns the name below Aside under which payload waits for its release: its
// SHA-256 and a digest of its name, since two files can have the same bytes.
func (c Content) Staged() string {
	name := sha256.Sum256([]byte(c.Name))
	return path.Join(Aside, fmt.Sprintf("%s-%x", c.SHA256, name[:8]))
}
