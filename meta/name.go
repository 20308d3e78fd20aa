package meta

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

// maxName bounds the length of an image's name in bytes, so that every name
// made from it (a delta's, a temporary one) stays within the 255 bytes that
// file systems allow.
const maxName = 180

const (
	word    = `[A-Za-z0-9]+(?:[._+-][A-Za-z0-9]+)*?`
	version = `[0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{6}`
)

var (
	imageName  = regexp.MustCompile(`^(` + word + `)-(` + version + `)-(` + word + `)\.img$`)
	deltaName  = regexp.MustCompile(`^(` + word + `)-(` + version + `)--(` + version + `)-(` + word + `)\.rdiff$`)
	seriesName = regexp.MustCompile(`^` + word + `$`)
)

// Name is the name of an image. The zero Name names nothing. Others come from
// ParseName, so their String is safe as a file name.
type Name struct {
	Prefix  string // such as puavo-os-amxa-buster
	Version string // such as 2022-01-20-173248
	Arch    string // such as amd64
}

// ParseName parses the file name of an image.
func ParseName(s string) (Name, error) {
	var m []string
	if len(s) <= maxName {
		m = imageName.FindStringSubmatch(s)
	}
	if m == nil {
		return Name{}, fmt.Errorf("%s is not an image's name (<prefix>-<YYYY-MM-DD-hhmmss>-<arch>.img, at most %d bytes)", untrusted.Quote(s), maxName)
	}
	return Name{Prefix: m[1], Version: m[2], Arch: m[3]}, nil
}

// String returns the file name.
func (n Name) String() string { return n.ID() + ".img" }

// MarshalText returns the image's file name.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText parses an image's file name.
func (n *Name) UnmarshalText(text []byte) (err error) {
	*n, err = ParseName(string(text))
	return err
}

// ID returns the file name without .img, as in the meta's id.
func (n Name) ID() string { return n.Prefix + "-" + n.Version + "-" + n.Arch }

// Digits returns the version's 14 digits, as in the meta's version.
func (n Name) Digits() string { return strings.ReplaceAll(n.Version, "-", "") }

// Series returns the name of the series the image belongs to unless a series
// file says otherwise.
func (n Name) Series() string { return n.Prefix + "-" + n.Arch }

// Compare orders names by version, oldest first, then by prefix and arch.
func (n Name) Compare(o Name) int {
	return cmp.Or(
		cmp.Compare(n.Version, o.Version),
		cmp.Compare(n.Prefix, o.Prefix),
		cmp.Compare(n.Arch, o.Arch),
	)
}

// DeltaName returns the file name of the delta that makes target from base.
// Prefix and arch are the base's.
func DeltaName(base, target Name) string {
	return base.Prefix + "-" + base.Version + "--" + target.Version + "-" + base.Arch + ".rdiff"
}

// ParseDeltaName parses the file name of a delta into the name of its base and
// the version of its target.
func ParseDeltaName(s string) (base Name, targetVersion string, err error) {
	var m []string
	if len(s) <= maxName+len("--2006-01-02-150405.rdiff") {
		m = deltaName.FindStringSubmatch(s)
	}
	if m == nil {
		return Name{}, "", fmt.Errorf("%s is not a delta's name (<prefix>-<base version>--<target version>-<arch>.rdiff)", untrusted.Quote(s))
	}
	return Name{Prefix: m[1], Version: m[2], Arch: m[4]}, m[3], nil
}

// ParseSeriesName checks the name of a series, which becomes the name of its
// document.
func ParseSeriesName(s string) (string, error) {
	if len(s) > maxName || !seriesName.MatchString(s) {
		return "", fmt.Errorf("%s is not a series' name (letters and digits, joined by single . _ + or -, at most %d bytes)", untrusted.Quote(s), maxName)
	}
	return s, nil
}

// SeriesPath returns where in a mirror the document of a series lies.
func SeriesPath(series string) string { return "meta/" + series + ".json" }

// DeltaPath returns where in a mirror a delta lies.
func DeltaPath(name string) string { return "rdiffs/" + name }
