package assemble

import (
	"encoding/json"
	"slices"

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
	Target cksum.Digest512 `json:"target"`
	point
	Others []point `json:"others,omitempty"`
	Wrong  []Wrong `json:"wrong,omitempty"`
}

// point is how far the image has got with one source.
type point struct {
	Source   cksum.Digest512 `json:"source"`
	Position delta.Position  `json:"position"`
	Idle     int             `json:"idle,omitempty"`
	Head     []byte          `json:"head,omitempty"` // of a compact delta
}

// Wrong is a file of a mirror that did not make the image.
type Wrong struct {
	Mirror string          `json:"mirror"` // fetch.Mirror.String, "" for all that have the file
	Source cksum.Digest512 `json:"source"` // the file's SHA-512
}

// maxJournal bounds a journal, in bytes.
const maxJournal = 1 << 20

// readJournal reads the journal of an image, if there is one.
func readJournal(dir atomicfile.Dir, image meta.Name) (j journal, ok bool) {
	data, err := dir.ReadFile(JournalName(image), maxJournal)
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

// Begun is what earlier calls of Make have left of an image. The zero Begun is
// nothing.
type Begun struct {
	journal
	size int64 // of the partial image, in bytes
}

// Look returns what earlier calls of Make have left of an image. It does not read the
// partial image, which may prove wrong.
func Look(dir atomicfile.Dir, image meta.Name) Begun {
	j, ok := readJournal(dir, image)
	info, err := dir.Lstat(PartialName(image))
	if !ok || err != nil || !info.Mode().IsRegular() {
		return Begun{journal: journal{Wrong: j.Wrong}}
	}
	return Begun{j, info.Size()}
}

// Left returns how many bytes of a source a call of Make would fetch now to make an
// image of this digest.
func (b Begun) Left(target cksum.Digest512, source cksum.Sums) int64 {
	return max(source.Size-b.from(target, source).Position.Delta, 0)
}

// LeftOfCompact is Left for a compact delta. It can go on with what others have made; how
// much of it that saves is an estimate.
func (b Begun) LeftOfCompact(target, source cksum.Sums) int64 {
	own := b.Left(target.SHA512, source)
	made := b.made(target.SHA512)
	if made <= 0 || target.Size <= 0 {
		return own
	}
	rest := 1 - min(1, float64(made)/float64(target.Size))
	return min(own, int64(rest*float64(source.Size)))
}

// made returns how many bytes of an image of this digest are made.
func (b Begun) made(target cksum.Digest512) (most int64) {
	if b.Target == target {
		for _, p := range b.points() {
			most = max(most, p.Position.Target)
		}
	}
	return most
}

// IsByOthers reports whether others than a source have made a part of an image of this
// digest, and the source has not.
func (b Begun) IsByOthers(target, source cksum.Digest512) bool {
	all := b.points()
	return b.Target == target && len(all) > 0 && !slices.ContainsFunc(all, func(p point) bool { return p.Source == source })
}

// from returns the point from which a source can continue, a zero one if it must
// begin. The full image can continue what any source has made.
func (b Begun) from(target cksum.Digest512, source cksum.Sums) point {
	now := point{Source: source.SHA512}
	if b.Target != target {
		return now
	}
	for _, p := range b.points() {
		if p.Source == source.SHA512 {
			now = p
		}
	}
	if source.SHA512 != target {
		return now
	}
	for _, p := range b.points() {
		if at := min(p.Position.Target, source.Size-1); at > now.Position.Target {
			now.Position = delta.Position{Delta: at, Target: at}
		}
	}
	return now
}

// points returns those that the partial image holds.
func (b Begun) points() (all []point) {
	for _, p := range append([]point{b.point}, b.Others...) {
		if at := p.Position; at.Delta > 0 && at.Literal >= 0 && at.Target >= 0 && at.Target <= b.size {
			all = append(all, p)
		}
	}
	return all
}

// continued returns the journal of a call that continues from a point. What other
// sources have made up to there stays known.
func (b Begun) continued(from point) journal {
	j := journal{Target: b.Target, point: from}
	for _, p := range b.points() {
		if p.Source != from.Source && p.Position.Target <= from.Position.Target && len(j.Others) < maxOthers {
			p.Head = nil // it would be too much of them
			j.Others = append(j.Others, p)
		}
	}
	return j
}

// maxOthers is how many sources a journal knows besides the one in use.
const maxOthers = 8
