package assemble

import (
	"encoding/json"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

// What the names of the files of an image end in, after the image's own name.
const (
	PartialSuffix     = ".tmp"
	JournalSuffix     = ".tmp.journal"
	NextJournalSuffix = ".tmp.journal.new"
)

// PartialName returns the name of the partial image.
func PartialName(image meta.Name) string { return image.String() + PartialSuffix }

// JournalName returns the name of the journal of an image.
func JournalName(image meta.Name) string { return image.String() + JournalSuffix }

// journal is a checkpoint: how far a partial image has got.
type journal struct {
	Source    cksum.Digest512 `json:"source"`
	Target    cksum.Digest512 `json:"target"`
	Mirror    string          `json:"mirror"`
	Validator string          `json:"version"`

	Position delta.Position `json:"position"`
	Idle     int            `json:"idle,omitempty"`

	GivenUp []cksum.Digest512 `json:"failed,omitempty"`
}

// readJournal reads the journal of an image, if there is one.
func readJournal(dir atomicfile.Dir, image meta.Name) (j journal, ok bool) {
	data, err := dir.ReadFile(JournalName(image))
	return j, err == nil && json.Unmarshal(data, &j) == nil
}

// write replaces the journal of an image.
func (j journal) write(dir atomicfile.Dir, image meta.Name) error {
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = dir.Replace(image.String()+NextJournalSuffix, JournalName(image), data)
	return err
}

// discard removes the partial image and its journal. The journal goes first, since
// it tells of the other.
func discard(dir atomicfile.Dir, image meta.Name) {
	for _, suffix := range []string{JournalSuffix, NextJournalSuffix, PartialSuffix} {
		dir.Remove(image.String() + suffix)
	}
}

// Remaining returns how many bytes of a source a call of Make would download now.
// It does not read the partial image, which may prove wrong.
func Remaining(dir atomicfile.Dir, image meta.Name, source cksum.Sums) int64 {
	j, ok := readJournal(dir, image)
	if !ok || j.Source != source.SHA512 {
		return source.Size
	}
	return min(max(source.Size-j.Position.Delta, 0), source.Size)
}

// GivenUp returns the Job.GivenUp of the call that wrote the journal of an image,
// nil if there is no journal.
func GivenUp(dir atomicfile.Dir, image meta.Name) []cksum.Digest512 {
	j, _ := readJournal(dir, image)
	return j.GivenUp
}
