package encode

import (
	"cmp"
	"encoding/binary"
	"io"
	"os"

	"puavo-image-repository/delta/compact/internal/ordered"
	"puavo-image-repository/delta/compact/internal/piece"
	"puavo-image-repository/delta/compact/internal/wire"
)

// sections cuts the groups in sections, and returns the first of each, and the end.
func sections(all []groupSizes) (starts []int) {
	var sum [wire.StreamCount]int
	total := 0
	for i, g := range all {
		full := i == 0 || i-starts[len(starts)-1] == wire.SectionGroups
		for k, n := range g.sizes {
			total += n
			sum[k] += n
			full = full || sum[k] > piece.Most
		}
		if full || total > wire.Streams {
			starts = append(starts, i)
			sum, total = g.sizes, 0
			for _, n := range g.sizes {
				total += n
			}
		}
	}
	return append(starts, len(all))
}

// pack compresses the streams, and returns a file of sections.
func (e *encoder) pack(raw *os.File, all []groupSizes) (*os.File, error) {
	f, err := e.o.Scratch()
	if err != nil {
		return nil, err
	}
	starts := sections(all)
	e.head.Depth, e.head.Allowance = effort.Depth, effort.Allowance
	newDo := func() func(int) ([]byte, error) {
		return func(i int) ([]byte, error) { return packSection(raw, all[starts[i]:starts[i+1]], e.o.pieces()) }
	}
	err = ordered.Each(e.ctx, e.o.cores(), len(starts)-1, newDo, func(i int, b []byte) error {
		e.head.Sections = append(e.head.Sections, wire.Section{Length: int64(len(b)), Groups: starts[i+1] - starts[i]})
		_, err := f.Write(b)
		return err
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// packSection returns the section of some groups.
func packSection(raw *os.File, groups []groupSizes, effort piece.Effort) (section []byte, err error) {
	var streams [wire.StreamCount][]byte
	var table []byte
	for _, g := range groups {
		at := g.at
		for k, n := range g.sizes {
			table = binary.AppendUvarint(table, uint64(n))
			begin := len(streams[k])
			streams[k] = append(streams[k], make([]byte, n)...)
			if _, err := raw.ReadAt(streams[k][begin:], at); err != nil {
				return nil, err
			}
			at += int64(n)
		}
	}
	if section, err = piece.Append(nil, table, effort); err != nil {
		return nil, err
	}
	for _, s := range streams {
		if section, err = piece.Append(section, s, effort); err != nil {
			return nil, err
		}
	}
	return section, nil
}

// write writes the head and the sections.
func (e *encoder) write(w io.Writer, packed *os.File) error {
	e.head.Memory = e.head.MemoryFor(wire.Workers)
	head, err := e.head.Append(nil)
	if err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for at, b := int64(0), make([]byte, mib); ; at += int64(len(b)) {
		n, err := packed.ReadAt(b, at)
		if err == nil || err == io.EOF {
			_, err = w.Write(b[:n])
		}
		if err = cmp.Or(err, e.ctx.Err()); err != nil || n < len(b) {
			return err
		}
	}
}
