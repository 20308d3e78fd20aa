package meta

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"puavo-image-repository/meta/untrusted"
)

// CompactFormat is the format of compact deltas that package delta/compact makes and
// applies.
const CompactFormat = "1"

// Compact is a compact delta to the image it belongs to, or the image itself in that format,
// which needs no base.
type Compact struct {
	File
	Filename string // as CompactName makes it
	Base     Name   // zero for one that needs no base
	Memory   int64  // bytes that applying it takes
	Coded    int64  // bytes of content of the target's blocks that applying it packs
	Unpacked int64  // and of the base's blocks that it unpacks
}

// CompactFrom returns the compact delta that makes the image from base, or, for the zero
// Name, the one that needs no base.
func (im *Image) CompactFrom(base Name) (Compact, bool) {
	i := slices.IndexFunc(im.Compact, func(c Compact) bool { return c.Base == base })
	if i < 0 {
		return Compact{}, false
	}
	return im.Compact[i], true
}

// jsonCompact is the entry of a compact delta.
type jsonCompact struct {
	Filename string       `json:"filename"`
	Format   string       `json:"format"`
	Memory   int64        `json:"memory"`
	URLs     list[string] `json:"urls"`
	Version  string       `json:"version,omitempty"`
	Size     int64        `json:"size"`
	Work     jsonWork     `json:"work"`
	jsonDigests
}

type jsonWork struct {
	Coded    int64 `json:"coded"`
	Unpacked int64 `json:"unpacked"`
}

// UnmarshalJSON parses an entry if its format is known. Of another it leaves all but the
// format unread, whatever it is: a later version may have other members.
func (jc *jsonCompact) UnmarshalJSON(data []byte) error {
	var entry struct {
		Format json.RawMessage `json:"format"`
	}
	if json.Unmarshal(data, &entry) != nil || string(entry.Format) != `"`+CompactFormat+`"` {
		*jc = jsonCompact{}
		return nil
	}
	type plain jsonCompact
	return json.Unmarshal(data, (*plain)(jc))
}

func compactEntries(all []Compact) list[jsonCompact] {
	var entries list[jsonCompact]
	for _, c := range all {
		e := jsonCompact{
			Filename: c.Filename, Format: CompactFormat, Memory: c.Memory, URLs: c.URLs, Size: c.Sums.Size,
			Work: jsonWork{c.Coded, c.Unpacked}, jsonDigests: digests(c.Sums),
		}
		if c.Base != (Name{}) {
			e.Version = c.Base.Digits()
		}
		entries = append(entries, e)
	}
	return entries
}

// addCompact adds the entries of known formats.
func (im *Image) addCompact(entries list[jsonCompact]) error {
	for i := range entries {
		if entries[i].Format == "" {
			continue
		}
		c, err := entries[i].compact(im.Name)
		if err != nil {
			return err
		}
		if _, twice := im.CompactFrom(c.Base); twice {
			return fmt.Errorf("%s: another compact delta has the same base", untrusted.Quote(c.Filename))
		}
		im.Compact = append(im.Compact, c)
	}
	return nil
}

func (jc *jsonCompact) compact(target Name) (Compact, error) {
	base, version, err := ParseCompactName(jc.Filename)
	if err != nil {
		return Compact{}, err
	}
	var digits string
	if base != (Name{}) {
		digits = base.Digits()
	}
	if version != target.Version || jc.Version != digits || base == (Name{}) && jc.Filename != CompactName(base, target) {
		return Compact{}, fmt.Errorf("%s: its name does not fit version %s or the image", jc.Filename, untrusted.Quote(jc.Version))
	}
	f, err := jc.file(jc.Size, jc.URLs)
	if err == nil && (jc.Memory < 0 || jc.Work.Coded < 0 || jc.Work.Unpacked < 0) {
		err = errors.New("memory or work is negative")
	}
	if err != nil {
		return Compact{}, fmt.Errorf("%s: %w", jc.Filename, err)
	}
	return Compact{File: f, Filename: jc.Filename, Base: base, Memory: jc.Memory, Coded: jc.Work.Coded, Unpacked: jc.Work.Unpacked}, nil
}
