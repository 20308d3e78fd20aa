// Package catalog is the list of what a group of an archive holds.
//
// # File
//
// A catalog is a JSON object on one line, in catalog.json and, the same bytes, in
// catalog.json.bak:
//
//	format      1
//	group       the name of the group, that of its directory
//	generation  1, and one more each time that it is written
//	versions    those that are kept, oldest first, see Version
//	trash       those that were pruned, oldest first, with the times pruned and due
//	obsolete    files that no version needs any more, to remove
//	check       the BLAKE3 of the name of the group, a newline, and the bytes before the comma
//	            of the check
//
// Of the two copies the right one with the larger generation counts. A copy whose check is
// wrong is damaged. Unknown members are skipped; a format or a form that is not known is an
// error.
//
// # Files of a group
//
//	<version>.img        a version that is stored whole
//	<version>.rdiff      what makes a version from its parent, the next newer one, as rdiff(1) does
//	<version>.cdelta     the same as a compact delta
//	<file>.new           such a file, complete, before the catalog names it, or since then and until
//	                     it has its name
//	trash/<version>.img, trash/<version>--<parent>.rdiff or .cdelta
//	                     those of what was pruned
//	SHA256SUMS           of all versions, as <version>.img, for sha256sum -c of what rdiff patch makes
//	BLAKE3SUMS           the same for b3sum -c, of versions that have no SHA-256
//	<version>.pieces     of the newest version of a guest's disk, see package pieces
package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// Names of files of a group.
const (
	File     = "catalog.json"
	Backup   = "catalog.json.bak"
	SumsFile = "SHA256SUMS"
	// BLAKE3File has the versions without a SHA-256.
	BLAKE3File = "BLAKE3SUMS"
	Trash      = "trash"
	New        = ".new"
)

// Form is how a version is stored.
type Form string

// The forms.
const (
	Whole   Form = "whole"
	Rdiff   Form = "rdiff"
	Compact Form = "compact"
)

var extensions = map[Form]string{Whole: ".img", Rdiff: ".rdiff", Compact: ".cdelta"}

// Stored is the file of a version.
type Stored struct {
	Form   Form            `json:"form"`
	Size   int64           `json:"size"` // bytes
	BLAKE3 cksum.Digest256 `json:"blake3"`
	// Commands are those of a delta of rdiff.
	Commands int64 `json:"commands,omitempty"`
	// Parent is the version that a delta starts from.
	Parent string `json:"parent,omitempty"`
}

// Version is one version of a group.
type Version struct {
	Version string          `json:"version"` // such as 2024-01-31-120000
	Name    string          `json:"name"`    // of the image's file
	Size    int64           `json:"size"`    // bytes
	BLAKE3  cksum.Digest256 `json:"blake3"`
	// SHA256 is zero for the disk of a guest, of which not all is read.
	SHA256    cksum.Digest256 `json:"sha256,omitzero"`
	Stored    Stored          `json:"stored"`
	Added     time.Time       `json:"added"`
	Modified  time.Time       `json:"modified,omitzero"` // the file that was added
	Note      string          `json:"note,omitempty"`
	Protected bool            `json:"protected,omitempty"`
}

// Pruned is a version in the trash.
type Pruned struct {
	Version
	Pruned time.Time `json:"pruned"`
	Due    time.Time `json:"due"` // when it can be removed
}

// Catalog is what a group holds.
type Catalog struct {
	Group      string
	Generation int64
	Versions   []Version // oldest first
	Trash      []Pruned  // oldest first
	Obsolete   []string
}

// File returns the name of the version's file.
func (v *Version) File() string { return v.Version + extensions[v.Stored.Form] }

// File returns the name of the file in the group's directory.
func (p *Pruned) File() string {
	if p.Stored.Parent == "" {
		return Trash + "/" + p.Version.File()
	}
	return Trash + "/" + p.Version.Version + "--" + p.Stored.Parent + extensions[p.Stored.Form]
}

// Index returns where a version is that is not in the trash, or -1.
func (c *Catalog) Index(version string) int {
	return slices.IndexFunc(c.Versions, func(v Version) bool { return v.Version == version })
}

// Find returns a version, of the trash too, and its file.
func (c *Catalog) Find(version string) (s Step, ok bool) {
	if i := c.Index(version); i >= 0 {
		return Step{Version: c.Versions[i], File: c.Versions[i].File()}, true
	}
	for _, p := range c.Trash {
		if p.Version.Version == version {
			return Step{Version: p.Version, File: p.File(), Before: p.Version.File()}, true
		}
	}
	return s, false
}

// Newest returns the newest version that is not in the trash.
func (c *Catalog) Newest() *Version { return &c.Versions[len(c.Versions)-1] }

// Files returns the names of the files that the versions have.
func (c *Catalog) Files() map[string]bool {
	files := make(map[string]bool)
	for i := range c.Versions {
		files[c.Versions[i].File()] = true
	}
	for i := range c.Trash {
		files[c.Trash[i].File()] = true
	}
	return files
}

// Step is a version on the way to another, and its file.
type Step struct {
	Version
	File   string
	Before string // the name of the file until it is in the trash
}

// Path returns what makes a version: first one that is stored whole, then deltas.
func (c *Catalog) Path(version string) (steps []Step, err error) {
	for version != "" {
		step, ok := c.Find(version)
		if !ok {
			return nil, fmt.Errorf("%s is not in the catalog", version)
		}
		steps = append(steps, step)
		version = step.Stored.Parent
	}
	slices.Reverse(steps)
	return steps, nil
}

// Clone returns a copy to change.
func (c *Catalog) Clone() *Catalog {
	d := *c
	d.Versions, d.Trash, d.Obsolete = slices.Clone(c.Versions), slices.Clone(c.Trash), slices.Clone(c.Obsolete)
	return &d
}

// Version and its limits.
const (
	Layout  = "2006-01-02-150405" // of a version, for package time
	maxNote = 4096                // bytes
	maxSize = 1 << 48
)

// ParseVersion checks a version, such as 2024-01-31-120000.
func ParseVersion(s string) (string, error) {
	if t, err := time.Parse(Layout, s); err != nil || t.Format(Layout) != s {
		return "", fmt.Errorf("%s is not a version, such as 2024-01-31-120000", untrusted.Quote(s))
	}
	return s, nil
}

// ParseGroup checks the name of a group: that of a series, or of a guest and its disk, with a
// slash between.
func ParseGroup(s string) (string, error) {
	guest, disk, isDisk := strings.Cut(s, "/")
	if _, err := meta.ParseSeriesName(guest); err != nil {
		return "", err
	}
	if isDisk {
		return s, CheckDisk(disk)
	}
	return s, nil
}

// CheckDisk returns an error for what cannot be the name of a guest's disk.
func CheckDisk(s string) error {
	if _, err := ParseVersion(s); err == nil || s == Trash {
		return fmt.Errorf("a disk cannot have the name %s; give another", s)
	}
	_, err := meta.ParseSeriesName(s)
	return err
}

// DiskName returns the name of the file of a version of a guest's disk.
func DiskName(group, version string) string {
	return strings.ReplaceAll(group, "/", "-") + "-" + version + "-disk.img"
}

// CheckNote returns an error for what cannot be a note.
func CheckNote(s string) error {
	switch {
	case len(s) > maxNote:
		return fmt.Errorf("a note has at most %d bytes, not %d", maxNote, len(s))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("a note is one line of text")
	}
	return nil
}

// Check returns an error for a catalog that contradicts itself.
func (c *Catalog) Check() error {
	if _, err := ParseGroup(c.Group); err != nil {
		return err
	}
	if c.Generation < 1 || len(c.Versions) == 0 {
		return errors.New("it has no generation, or no versions")
	}
	if c.Newest().Stored.Form != Whole {
		return fmt.Errorf("the newest version, %s, is not whole", c.Newest().Version)
	}
	seen := make(map[string]bool)
	for i, v := range c.Versions {
		next := ""
		if i+1 < len(c.Versions) {
			next = c.Versions[i+1].Version
		}
		if err := v.check(); err != nil {
			return err
		}
		if p := v.Stored.Parent; next != "" && next <= v.Version || p != "" && p != next {
			return fmt.Errorf("version %s is out of order, or does not start from the next newer one", v.Version)
		}
		seen[v.Version] = true
	}
	return c.checkTrash(seen)
}

func (c *Catalog) checkTrash(seen map[string]bool) error {
	for _, p := range c.Trash {
		if err := p.check(); err != nil {
			return err
		}
		if seen[p.Version.Version] {
			return fmt.Errorf("version %s stands twice", p.Version.Version)
		}
		seen[p.Version.Version] = true
	}
	for _, p := range c.Trash {
		if parent := p.Stored.Parent; parent != "" && (!seen[parent] || parent <= p.Version.Version) {
			return fmt.Errorf("what version %s starts from is not there, or older", p.Version.Version)
		}
	}
	for _, file := range c.Obsolete {
		if version, _, ok := ParseFile(file); !ok || version == "" {
			return fmt.Errorf("%s is not a file of a group", untrusted.Quote(file))
		}
	}
	return nil
}

// check returns an error for a version that contradicts itself.
func (v *Version) check() error {
	if _, err := ParseVersion(v.Version); err != nil {
		return err
	}
	s := v.Stored
	_, known := extensions[s.Form]
	name, err := meta.ParseOldName(v.Name)
	switch {
	case err != nil:
		return err
	case name.Version != v.Version:
		return fmt.Errorf("%s is not of version %s", v.Name, v.Version)
	case !known:
		return fmt.Errorf("version %s has the form %s, which this program does not know; take a newer one", v.Version, untrusted.Quote(string(s.Form)))
	case v.Size < 1 || v.Size > maxSize || s.Size < 1 || s.Size > maxSize || s.Commands < 0 || v.BLAKE3 == cksum.Digest256{} || s.BLAKE3 == cksum.Digest256{}:
		return fmt.Errorf("version %s lacks its sizes and digests", v.Version)
	case s.Form == Whole && (s.Size != v.Size || s.BLAKE3 != v.BLAKE3), (s.Form == Whole) != (s.Parent == ""):
		return fmt.Errorf("version %s contradicts itself", v.Version)
	}
	return CheckNote(v.Note)
}

// ParseFile parses the name of a file of a version: which, and in which form. What is in the
// trash has trash/ before it, and may have a parent.
func ParseFile(file string) (version string, form Form, ok bool) {
	stem, inTrash := strings.CutPrefix(file, Trash+"/")
	for form, ext := range extensions {
		name, has := strings.CutSuffix(stem, ext)
		if !has {
			continue
		}
		if version, parent, ok := strings.Cut(name, "--"); ok && inTrash {
			if _, err := ParseVersion(parent); err != nil {
				return "", "", false
			}
			name = version
		}
		_, err := ParseVersion(name)
		return name, form, err == nil
	}
	return "", "", false
}
