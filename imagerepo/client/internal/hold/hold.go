// Package hold records in an images directory that updates are held: none is installed.
//
// # The file
//
// While the file .image_updates_hold exists, updates are held. Its lines are a key, one
// space and a value each:
//
//	since 2022-01-21T08:30:00Z
//	image puavo-os-amxa-buster-2022-01-17-120001-amd64.img
//	from puavo-os-amxa-buster-2022-01-20-173248-amd64.img
//
//	since  when the hold began, in the form of RFC 3339, in UTC and whole seconds
//	image  the image that is kept in use
//	from   the image that was in use before a rollback; missing in a hold without an end
//
// Each line ends in a newline, and each key comes once. Lines with other keys are skipped;
// a later version may write them. The file has at most 4 KiB.
//
// A hold with a from ends by itself when a newer image than that is installed. Every other
// one lasts until the file is removed.
//
// # A damaged file
//
// The existence of the file holds updates, not its content. A file that is empty, cut
// short, of another form, unreadable, or not regular holds them without an end, and the
// error says how to repair it. A hold needs nothing else in the directory, not even the
// digest cache.
package hold

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

const (
	// FileName is the name of the file in the images directory.
	FileName = ".image_updates_hold"
	// TmpName is the temporary name of the file, which a dead process may leave.
	TmpName = FileName + ".tmp"
)

// maxFile bounds the file, in bytes.
const maxFile = 4 << 10

// Hold is what the file says.
type Hold struct {
	Since time.Time // in UTC and whole seconds; zero if the file is damaged
	Image meta.Name // that is kept in use; zero if the file is damaged
	From  meta.Name // that was in use before a rollback, zero for a hold without an end
}

// State says whether updates are held. The zero State says that they are not.
type State struct {
	Held   bool
	Hold   Hold
	Damage error // what is wrong with the file, and what to do; nil if it can be read
}

// Ends reports whether a hold ends with an image, once that is installed. What is not held
// has ended.
func (s State) Ends(target meta.Name) bool {
	switch {
	case !s.Held:
		return true
	case s.Damage != nil || s.Hold.From == meta.Name{}:
		return false
	}
	return target.Version > s.Hold.From.Version
}

// Read reads the file of an images directory.
func Read(images atomicfile.Dir) State {
	data, err := images.ReadFile(FileName, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}
	}
	var h Hold
	if err == nil {
		h, err = Parse(data)
	}
	if err != nil {
		return State{Held: true, Damage: fmt.Errorf(
			"%s is damaged, so no update is installed: %w; run hold to write it again, or unhold to remove it",
			filepath.Join(images.Name(), FileName), err)}
	}
	return State{Held: true, Hold: h}
}

// Write writes the file, whose images directory is locked. It is on the disk when Write
// returns without an error; until then, and after one, what was there stays.
func Write(images atomicfile.Dir, h Hold) error {
	if _, err := images.Replace(TmpName, FileName, h.Encode()); err != nil {
		return fmt.Errorf("recording in %s that updates are held: %w", images.Name(), err)
	}
	return nil
}

// Remove removes the file, if it exists. It is gone for good when Remove returns without an
// error.
func Remove(images atomicfile.Dir) error {
	err := images.Remove(FileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = images.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("ending the hold in %s: %w", images.Name(), err)
	}
	return nil
}

// Encode returns the file.
func (h Hold) Encode() []byte {
	text := fmt.Sprintf("since %s\nimage %s\n", h.Since.UTC().Format(time.RFC3339), h.Image)
	if (h.From != meta.Name{}) {
		text += fmt.Sprintf("from %s\n", h.From)
	}
	return []byte(text)
}

// Parse parses the file.
func Parse(data []byte) (Hold, error) {
	if len(data) > maxFile {
		return Hold{}, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	var h Hold
	seen := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		key, value, isPair := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case !strings.HasSuffix(line, "\n"):
			return Hold{}, errors.New("its last line is cut short")
		case !isPair:
			return Hold{}, fmt.Errorf("%s is not a key and a value", untrusted.Quote(line))
		case seen[key]:
			return Hold{}, fmt.Errorf("%s appears twice", untrusted.Quote(key))
		}
		seen[key] = true
		if err := h.set(key, value); err != nil {
			return Hold{}, fmt.Errorf("%s: %w", untrusted.Quote(key), err)
		}
	}
	if !seen["since"] || !seen["image"] {
		return Hold{}, errors.New("it lacks the time or the image of the hold")
	}
	return h, nil
}

// set takes over a line.
func (h *Hold) set(key, value string) (err error) {
	switch key {
	case "since":
		h.Since, err = parseTime(value)
	case "image":
		h.Image, err = meta.ParseOldName(value)
	case "from":
		h.From, err = meta.ParseOldName(value)
	}
	return err
}

// parseTime parses a time that has one form only.
func parseTime(value string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, value)
	if err != nil || t.UTC().Format(time.RFC3339) != value {
		return time.Time{}, fmt.Errorf("%s, want a time such as 2022-01-21T08:30:00Z", untrusted.Quote(value))
	}
	return t.UTC(), nil
}
