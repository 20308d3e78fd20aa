package main

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

// recordsSize is about the size of each table of records, and recordSize that of
// one record, in bytes.
const (
	recordsSize = 100 << 20
	recordSize  = 16
)

// stretch is a number of records one after the other, as a table of free space or
// of a page map has them: all the same, or each with a number of its own.
type stretch struct {
	records int64
	value   uint64
	counts  bool
}

// tables returns the stretches of the two states. Of 100 stretches of the first, 10
// grow, 10 shrink, 5 change their record, 5 are gone, 5 are preceded by a new one,
// and 5 change places with the one before. Stretches of one record have one of 32, so
// that a delta can copy from another what is new at its place.
func tables(percent int64) (a, b []stretch) {
	r := rand.New(seeded("records", 0))
	newStretch := func() stretch {
		s := stretch{records: 64 << r.IntN(13), value: 0x9e3779b97f4a * (1 + r.Uint64N(32)), counts: r.IntN(2) == 0}
		s.records += r.Int64N(s.records)
		if s.counts {
			s.records, s.value = 64+s.records/64, r.Uint64()>>40
		}
		return s
	}
	for total := int64(0); total < recordsSize*percent/100; total += a[len(a)-1].records * recordSize {
		a = append(a, newStretch())
	}
	for _, s := range a {
		last := len(b) - 1
		switch n := r.IntN(100); {
		case n < 10:
			s.records += s.records/10 + 1
		case n < 20:
			s.records -= s.records / 10
		case n < 25:
			s.value = newStretch().value
		case n < 30:
			continue
		case n < 35:
			b = append(b, newStretch())
		case n < 40 && last >= 0:
			s, b[last] = b[last], s
		}
		b = append(b, s)
	}
	return a, b
}

// writeRecords writes both states of the table.
func writeRecords(dir string, percent int64) error {
	a, b := tables(percent)
	for state, table := range [2][]stretch{a, b} {
		err := create(image(dir, "records", state), func(w io.Writer) error {
			for _, s := range table {
				if err := s.write(w); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// write writes the records: a value, and the number of the record or a flag.
func (s stretch) write(w io.Writer) error {
	record := make([]byte, recordSize)
	binary.LittleEndian.PutUint64(record, s.value)
	binary.LittleEndian.PutUint64(record[8:], 1<<63)
	for i := range s.records {
		if s.counts {
			binary.LittleEndian.PutUint64(record[8:], s.value<<20+uint64(i))
		}
		if _, err := w.Write(record); err != nil {
			return err
		}
	}
	return nil
}
