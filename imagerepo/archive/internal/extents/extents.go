// Package extents parses what tools print about disks: which ranges changed, which hold nothing
// but zeros, and what a disk is.
//
//	nbdinfo --json URI                              an export: size and metadata contexts
//	nbdinfo --json --map=base:allocation URI        ranges; bit 1 of type: reads as zeros
//	nbdinfo --json --map=qemu:dirty-bitmap:NAME URI ranges; bit 0 of type: changed
//	qemu-img map --output=json FILE                 ranges with start, length, zero
//	qemu-img info --output=json FILE                a disk, its bitmaps, and what it is based on
//
// Ranges must cover the disk from its start to its end without a gap. Members that are not
// known are skipped, since newer tools print more; those that are needed must be there.
package extents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// MaxOutput bounds what a tool prints, in bytes.
const MaxOutput = 512 << 20

// maxExtents bounds the ranges of a disk. Neighbours that are alike count as one. It is a variable
// since a test has fewer.
var maxExtents = 4 << 20

// maxSize bounds disks, in bytes.
const maxSize = 1 << 48

// ErrFormat is wrapped by the error for output that is not understood.
var ErrFormat = errors.New("not what this program knows to read")

// Extent is a range of a disk, in bytes.
type Extent struct {
	Offset, Length int64
	Set            bool // it changed, or it holds zeros
}

// Map has the ranges of a disk from its start to its end. Neighbours differ.
type Map []Extent

// add continues the map.
func (m Map) add(e Extent) Map {
	if n := len(m); n > 0 && m[n-1].Set == e.Set {
		m[n-1].Length += e.Length
		return m
	}
	return append(m, e)
}

// Size returns the size of the disk in bytes.
func (m Map) Size() int64 {
	if len(m) == 0 {
		return 0
	}
	last := m[len(m)-1]
	return last.Offset + last.Length
}

// Bytes returns how many bytes are set.
func (m Map) Bytes() (n int64) {
	for _, e := range m {
		if e.Set {
			n += e.Length
		}
	}
	return n
}

// In returns the part of the map from start to end, which may lie beyond it.
func (m Map) In(start, end int64) (part Map) {
	i, _ := slices.BinarySearchFunc(m, start, func(e Extent, at int64) int {
		if e.Offset+e.Length <= at {
			return -1
		}
		return 1
	})
	for ; i < len(m) && m[i].Offset < end; i++ {
		from := max(m[i].Offset, start)
		part = append(part, Extent{from, min(m[i].Offset+m[i].Length, end) - from, m[i].Set})
	}
	return part
}

// Any reports whether something from start to end is set.
func (m Map) Any(start, end int64) bool {
	return slices.ContainsFunc(m.In(start, end), func(e Extent) bool { return e.Set })
}

// All reports whether everything from start to end is set.
func (m Map) All(start, end int64) bool {
	part := m.In(start, end)
	return len(part) == 1 && part[0].Set && part[0].Length == end-start
}

// Dirty parses the map of a dirty bitmap of a disk of size bytes that nbdinfo prints.
func Dirty(data []byte, size int64) (Map, error) {
	return nbd(data, size, func(kind int64) (bool, error) {
		if kind>>1 != 0 {
			return false, fmt.Errorf("%w: a range has type %d, and a bitmap only 0 and 1", ErrFormat, kind)
		}
		return kind == 1, nil
	})
}

// Zeros parses the map of what is allocated of a disk of size bytes that nbdinfo prints. Ranges
// that read as zeros are set.
func Zeros(data []byte, size int64) (Map, error) {
	return nbd(data, size, func(kind int64) (bool, error) { return kind&2 != 0, nil })
}

func nbd(data []byte, size int64, set func(kind int64) (bool, error)) (Map, error) {
	return parse(data, size, func(d *json.Decoder) (e Extent, err error) {
		var r struct{ Offset, Length, Type *int64 }
		if err := d.Decode(&r); err != nil {
			return e, err
		}
		if r.Offset == nil || r.Length == nil || r.Type == nil || *r.Type < 0 {
			return e, fmt.Errorf("%w: a range lacks its offset, length or type", ErrFormat)
		}
		is, err := set(*r.Type)
		return Extent{*r.Offset, *r.Length, is}, err
	})
}

// ImageZeros parses the map of a disk of size bytes that qemu-img prints. Ranges that read as
// zeros are set.
func ImageZeros(data []byte, size int64) (Map, error) {
	return parse(data, size, func(d *json.Decoder) (e Extent, err error) {
		var r struct {
			Start, Length *int64
			Zero          *bool
		}
		if err := d.Decode(&r); err != nil {
			return e, err
		}
		if r.Start == nil || r.Length == nil || r.Zero == nil {
			return e, fmt.Errorf("%w: a range lacks its start, length or zero", ErrFormat)
		}
		return Extent{*r.Start, *r.Length, *r.Zero}, nil
	})
}

// parse parses an array of ranges.
func parse(data []byte, size int64, next func(*json.Decoder) (Extent, error)) (m Map, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%w: no list of ranges", ErrFormat)
	}
	end := int64(0)
	for d.More() {
		e, err := next(d)
		switch {
		case err != nil && !errors.Is(err, ErrFormat):
			return nil, fmt.Errorf("%w: %w", ErrFormat, err)
		case err != nil:
			return nil, err
		case e.Offset != end || e.Length < 1 || e.Length > size-end:
			return nil, fmt.Errorf("%w: a range of %d bytes at %d does not follow the one before it, which ends at %d of %d", ErrFormat, e.Length, e.Offset, end, size)
		}
		if m = m.add(e); len(m) > maxExtents {
			return nil, fmt.Errorf("%w: it has more than %d ranges", ErrFormat, maxExtents)
		}
		end += e.Length
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the list", ErrFormat)
	}
	if end != size {
		return nil, fmt.Errorf("%w: the ranges end at %d, and the disk at %d", ErrFormat, end, size)
	}
	return m, nil
}
