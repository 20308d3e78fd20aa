package meta

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"puavo-image-repository/meta/untrusted"
)

// maxName bounds the length of an image's name in bytes, so that every name
// made from it (a delta's, a temporary one) stays within the 255 bytes that
// file systems allow.
const maxName = 180

// versionLayout is the form of a version, for package time.
const versionLayout = "2006-01-02-150405"

// versionParts is where the parts of a version begin that can be out of range.
var versionParts = map[string]int{"month": 5, "day": 8, "hour": 11, "minute": 13, "second": 15}

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
	n, err := ParseOldName(s)
	if err == nil {
		err = checkVersion(s, n.Version)
	}
	if err != nil {
		return Name{}, err
	}
	return n, nil
}

// ParseOldName is ParseName for what is published or installed already: it takes any
// digits for a version, as earlier versions of the tools did.
func ParseOldName(s string) (Name, error) {
	var m []string
	if len(s) <= maxName {
		m = imageName.FindStringSubmatch(s)
	}
	if m == nil {
		return Name{}, fmt.Errorf("%s is not an image's name (<prefix>-<YYYY-MM-DD-hhmmss>-<arch>.img, at most %d bytes)%s", untrusted.Quote(s), maxName, wrongCharacter(s))
	}
	return Name{Prefix: m[1], Version: m[2], Arch: m[3]}, nil
}

// wrongCharacter returns a clause about the first character of a file's name that no name
// of an image can have, and where it is; "" without one.
func wrongCharacter(s string) string {
	place := 0
	for i, r := range s {
		place++
		switch size := utf8.RuneLen(r); {
		case r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("._+-", r):
			continue
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			return fmt.Sprintf(": its character %d is the byte 0x%02x; %s", place, s[i], allowed)
		default:
			return fmt.Sprintf(": its character %d is %s (%U); %s", place, untrusted.Quote(s[i:i+size]), r, allowed)
		}
	}
	return ""
}

const allowed = "only letters a to z and A to Z, digits and . _ + - are allowed"

// checkVersion returns an error for the version in a file's name if it is no date and
// time.
func checkVersion(file, version string) error {
	_, err := time.Parse(versionLayout, version)
	wrong, ok := errors.AsType[*time.ParseError](err)
	if !ok {
		return err
	}
	part, _, _ := strings.Cut(strings.TrimPrefix(wrong.Message, ": "), " ") // of "month out of range"
	if at, known := versionParts[part]; known {
		part += " " + version[at:at+2]
	}
	return fmt.Errorf("%s: there is no %s; the version in the name must be a date and time, <YYYY-MM-DD-hhmmss>", untrusted.Quote(file), part)
}

// String returns the file name.
func (n Name) String() string { return n.ID() + ".img" }

// MarshalText returns the image's file name.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText parses an image's file name, as ParseOldName does: it is for what the
// tools have written.
func (n *Name) UnmarshalText(text []byte) (err error) {
	*n, err = ParseOldName(string(text))
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
	base, targetVersion, err = ParseOldDeltaName(s)
	for _, v := range []string{base.Version, targetVersion} {
		if err == nil {
			err = checkVersion(s, v)
		}
	}
	if err != nil {
		return Name{}, "", err
	}
	return base, targetVersion, nil
}

// ParseOldDeltaName is to ParseDeltaName what ParseOldName is to ParseName.
func ParseOldDeltaName(s string) (base Name, targetVersion string, err error) {
	var m []string
	if len(s) <= maxName+len("--"+versionLayout+".rdiff") {
		m = deltaName.FindStringSubmatch(s)
	}
	if m == nil {
		return Name{}, "", fmt.Errorf("%s is not a delta's name (<prefix>-<base version>--<target version>-<arch>.rdiff)", untrusted.Quote(s))
	}
	return Name{Prefix: m[1], Version: m[2], Arch: m[4]}, m[3], nil
}

// compactExt is what names of compact deltas end with.
const compactExt = ".cdelta"

// CompactName returns the file name of the compact delta that makes target from base, or
// without a base if that is the zero Name.
func CompactName(base, target Name) string {
	if base == (Name{}) {
		return target.ID() + compactExt
	}
	return strings.TrimSuffix(DeltaName(base, target), ".rdiff") + compactExt
}

// ParseCompactName parses the file name of a compact delta, as ParseOldDeltaName does: into
// the name of its base, which is the zero Name if it needs none, and the version of its
// target.
func ParseCompactName(s string) (base Name, targetVersion string, err error) {
	if stem, ok := strings.CutSuffix(s, compactExt); ok {
		if base, targetVersion, err = ParseOldDeltaName(stem + ".rdiff"); err == nil {
			return base, targetVersion, nil
		}
		if target, err := ParseOldName(stem + ".img"); err == nil {
			return Name{}, target.Version, nil
		}
	}
	return Name{}, "", fmt.Errorf("%s is not a compact delta's name (<prefix>-<base version>--<target version>-<arch>.cdelta, or <prefix>-<version>-<arch>.cdelta)", untrusted.Quote(s))
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

// CompactPath returns where in a mirror a compact delta lies.
func CompactPath(name string) string { return "compact/" + name }
