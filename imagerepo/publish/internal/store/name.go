package store

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

// CheckName returns an error for what is no name of a file at a destination, see the
// package documentation. It wraps fs.ErrInvalid.
func CheckName(name string) error {
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\x00\\") || isHidden(name) {
		return fmt.Errorf("%s: %w name for a file at a destination", untrusted.Quote(name), fs.ErrInvalid)
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
