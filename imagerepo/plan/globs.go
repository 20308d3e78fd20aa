package plan

import (
	"fmt"
	"path"
	"slices"

	"puavo-image-repository/meta/untrusted"
)

// Globs are patterns of the names of series, see path.Match. None match all.
type Globs []string

// Check returns an error for a glob that is malformed.
func (g Globs) Check() error {
	for _, glob := range g {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("%s: %w", untrusted.Quote(glob), err)
		}
	}
	return nil
}

// Match reports whether the name of a series matches one of the globs. A malformed one
// matches nothing.
func (g Globs) Match(series string) bool {
	return len(g) == 0 || slices.ContainsFunc(g, func(glob string) bool {
		ok, err := path.Match(glob, series)
		return ok && err == nil
	})
}
