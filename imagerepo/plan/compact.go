package plan

import (
	"fmt"

	"puavo-image-repository/meta"
	"puavo-image-repository/meta/untrusted"
)

// CompactMode says from which images compact deltas are wanted. The zero value is none.
type CompactMode string

// Which compact deltas can be wanted.
const (
	CompactNewest CompactMode = "newest" // to the newest image of a series, from its older ones
	CompactAll    CompactMode = "all"    // one for each rdiff delta that is published
)

// ParseCompactMode returns what a word stands for: none, newest or all.
func ParseCompactMode(s string) (CompactMode, error) {
	switch mode := CompactMode(s); mode {
	case "none":
		return "", nil
	case CompactNewest, CompactAll:
		return mode, nil
	}
	return "", fmt.Errorf("%s, want none, newest or all", untrusted.Quote(s))
}

// Compact says which compact deltas are wanted. The zero value wants none.
type Compact struct {
	Mode CompactMode `json:"mode,omitempty"`
	Full bool        `json:"full,omitempty"` // also the newest image of a series, without a base
}

// CompactDelta is a compact delta that is wanted. A build keeps those that are there; it makes
// none.
type CompactDelta struct {
	File   string    `json:"file"`
	Series []string  `json:"series"` // those that have the target, sorted
	Base   meta.Name `json:"-"`      // zero if it needs none
	Target meta.Name `json:"-"`
	// Action is Keep, Check, Await, or Drop for one that was made and not worth keeping; Make if
	// it is not there.
	Action Action `json:"action,omitempty"`
	Size   int64  `json:"size,omitempty"` // bytes, where it is known
	// Rival is what a client fetches without it, in bytes: the rdiff delta from the base, or the
	// image where none is published; 0 if it is not known yet.
	Rival      int64 `json:"rival,omitempty"`
	TargetSize int64 `json:"target_size"` // bytes
}

// There reports whether the mirror has it, as far as is known before the images are read.
func (c CompactDelta) There() bool {
	return c.Action == Keep || c.Action == Check || c.Action == Await
}
