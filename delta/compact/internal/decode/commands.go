package decode

import (
	"errors"

	"puavo-image-repository/delta/compact/internal/wire"
)

// decoded is a command.
type decoded struct {
	run, length int
	place       int64
	differs     bool
}

// commandReader reads the commands of a group.
type commandReader struct {
	runs, lengths, places wire.Cursor
	expected              int64 // the place where the last copy would go on
}

// next reads a command that makes at most most bytes. The last may be a run alone.
func (c *commandReader) next(most int) (m decoded) {
	m.run = int(c.runs.Int(int64(most)))
	c.expected += int64(m.run)
	if m.run == most && len(c.lengths.Bytes) == 0 {
		return m
	}
	m.length = int(c.lengths.Int(int64(most - m.run)))
	code := c.places.Int(4 * wire.MaxSize)
	c.expected += wire.PlaceDistance(code)
	m.differs, m.place = code == wire.OnDifferences, c.expected
	c.expected += int64(m.length)
	return m
}

func (c *commandReader) err() error {
	for _, r := range []*wire.Cursor{&c.runs, &c.lengths, &c.places} {
		if r.Err() != nil {
			return r.Err()
		}
	}
	return nil
}

func (c *commandReader) end() error {
	return errors.Join(c.runs.End(), c.lengths.End(), c.places.End())
}

func newCommandReader(s *wire.StreamSet) *commandReader {
	return &commandReader{
		runs:    wire.Cursor{Bytes: s[wire.RunStream]},
		lengths: wire.Cursor{Bytes: s[wire.LengthStream]},
		places:  wire.Cursor{Bytes: s[wire.PlaceStream]},
	}
}
