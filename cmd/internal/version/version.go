// Package version says which version of this project a program is.
package version

import "runtime/debug"

// stamped is the version of a release. The linker sets it:
//
//	go build -ldflags '-X puavo-image-repository/cmd/internal/version.stamped=1.0'
var stamped string

// String returns the version of this program, without white space: that of a release, or
// else devel with the commit that it was built from, as in devel-6d7f853abcde. A checkout
// with changes has -modified after that.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	return of(stamped, info.Settings)
}

// of returns the version by what is stamped and how the program was built.
func of(stamped string, built []debug.BuildSetting) string {
	if stamped != "" {
		return stamped
	}
	const digits = 12 // of a commit
	revision, modified := "", ""
	for _, s := range built {
		switch {
		case s.Key == "vcs.revision" && s.Value != "":
			revision = "-" + s.Value[:min(digits, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	return "devel" + revision + modified
}
