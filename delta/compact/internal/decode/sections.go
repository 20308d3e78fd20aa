package decode

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync/atomic"

	"puavo-image-repository/delta/compact/internal/piece"
	"puavo-image-repository/delta/compact/internal/wire"
)

// section has the streams of some groups.
type section struct {
	memory  []byte // that the streams have
	table   []byte // how much of each stream each group has
	streams wire.StreamSet
	left    atomic.Int32 // groups that are not made
}

// job is a group to be made. It may be written when before is closed; when it was, after
// is closed.
type job struct {
	group         int
	streams       wire.StreamSet
	before, after chan struct{}
	section       *section
}

// sectionReader reads the sections, and hands out their groups. The streams of two sections
// are in memory: of the one that is read, and of the one whose groups are made.
type sectionReader struct {
	*making
	ctx    context.Context
	jobs   chan<- job
	last   chan struct{} // the after of the last job
	src    *bufio.Reader
	pieces piece.Reader
}

func newSectionReader(ctx context.Context, m *making, jobs chan<- job) (*sectionReader, error) {
	s := &sectionReader{making: m, ctx: ctx, jobs: jobs, last: make(chan struct{}), src: bufio.NewReader(nil)}
	close(s.last)
	for range cap(s.free) {
		memory, err := m.alloc(wire.Streams)
		if err != nil {
			return nil, err
		}
		s.free <- &section{memory: memory}
	}
	var err error
	s.pieces.Packed, err = m.alloc(piece.Most)
	return s, err
}

func (s *sectionReader) run(r io.Reader) error {
	for i, part := range s.head.Sections {
		first := s.first[i]
		if first+part.Groups <= s.from {
			continue
		}
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case sec := <-s.free:
			if err := s.read(r, sec, part.Length); err != nil {
				return err
			}
			if err := s.handOut(sec, first, part.Groups); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads a section.
func (s *sectionReader) read(r io.Reader, sec *section, length int64) error {
	limited := io.LimitedReader{R: r, N: length}
	source := readerOf(s.ctx, &limited)
	s.src.Reset(source)
	err := sec.read(s.src, &s.pieces)
	switch {
	case source.err != nil:
		return source.err
	case err != nil && limited.N > 0 && errors.Is(err, piece.ErrCut):
		return wire.Malformed("it is cut off: %w", io.ErrUnexpectedEOF)
	case err == nil && limited.N+int64(s.src.Buffered()) > 0:
		err = errors.New("bytes too many")
	}
	if err != nil {
		return wire.Malformed("a section: %w", err)
	}
	return nil
}

// read reads the table and the streams.
func (sec *section) read(src *bufio.Reader, pieces *piece.Reader) (err error) {
	const tableLen = wire.SectionGroups * wire.StreamCount * 4 // lengths are below 2^28
	if sec.table, err = pieces.Read(src, sec.table, tableLen); err != nil {
		return err
	}
	room := sec.memory
	for k := range sec.streams {
		if sec.streams[k], err = pieces.Read(src, room, len(room)); err != nil {
			return err
		}
		room = room[len(sec.streams[k]):]
	}
	return nil
}

// handOut hands out the groups of a section, from the first on.
func (s *sectionReader) handOut(sec *section, first, groups int) error {
	all, err := sec.split(groups)
	if err != nil {
		return wire.Malformed("a section: %w", err)
	}
	skip := max(0, s.from-first)
	sec.left.Store(int32(groups - skip))
	for i := skip; i < groups; i++ {
		j := job{group: first + i, streams: all[i], before: s.last, after: make(chan struct{}), section: sec}
		select {
		case s.jobs <- j:
			s.last = j.after
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
	return nil
}

// split returns the streams of each group.
func (sec *section) split(groups int) ([]wire.StreamSet, error) {
	if groups > wire.SectionGroups {
		return nil, errors.New("too many groups")
	}
	all := make([]wire.StreamSet, groups)
	rest := sec.streams
	c := wire.Cursor{Bytes: sec.table}
	for i := range all {
		for k := range rest {
			n := c.Int(int64(len(rest[k])))
			all[i][k], rest[k] = rest[k][:n:n], rest[k][n:]
		}
	}
	for _, b := range rest {
		if len(b) > 0 {
			return nil, errors.New("streams that no group has")
		}
	}
	return all, c.End()
}
