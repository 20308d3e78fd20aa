package plan

import (
	"fmt"
	"path"

	"puavo-image-repository/meta/untrusted"
)

// TorrentsOf says which files have torrents. The zero value is none.
type TorrentsOf string

// What can have torrents.
const (
	TorrentsOfDeltas TorrentsOf = "deltas" // compact ones too
	TorrentsOfAll    TorrentsOf = "all"    // images too
)

// ParseTorrentsOf returns which files a word stands for: none, deltas or all.
func ParseTorrentsOf(s string) (TorrentsOf, error) {
	switch of := TorrentsOf(s); of {
	case "none":
		return "", nil
	case TorrentsOfDeltas, TorrentsOfAll:
		return of, nil
	}
	return "", fmt.Errorf("%s, want none, deltas or all", untrusted.Quote(s))
}

// Torrents says which files have torrents, and what these name besides their file.
type Torrents struct {
	Of TorrentsOf `json:"of,omitempty"`
	// Trackers are asked in this order, each when those before do not answer.
	Trackers []string `json:"trackers,omitempty"`
	// Seeds are the URLs of hosts that serve the mirror, each without a final slash.
	Seeds []string `json:"seeds,omitempty"`
}

// Wants reports whether the file of that name, if it is published, has a torrent.
func (t Torrents) Wants(file string) bool {
	switch path.Ext(file) {
	case ".rdiff", ".cdelta":
		return t.Of == TorrentsOfDeltas || t.Of == TorrentsOfAll
	case ".img":
		return t.Of == TorrentsOfAll
	}
	return false
}

// Torrent is what is planned of the torrent of an image or a delta.
type Torrent struct {
	File   string `json:"file"`   // the image or delta
	Action Action `json:"action"` // Make or Keep
	// Read says that the file is read for its torrent alone: it was digested by a run
	// that made no torrents.
	Read bool  `json:"read,omitempty"`
	Size int64 `json:"size,omitempty"` // bytes of the file, where they are known
	// ImageSize is that of the image, or of the one that the delta makes, in bytes.
	ImageSize int64 `json:"-"`
}
