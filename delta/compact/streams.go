package compact

import (
	"encoding/binary"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/token"
	"puavo-image-repository/delta/compact/internal/wire"
)

// The streams of a section, in their order.
const (
	opStream = iota
	runStream
	lengthStream
	placeStream
	literalStream
	tokenStream
	streamCount
)

// The operations, in the low bits of their numbers.
const (
	opKeep  = 0 // bytes of the base as they are
	opBlock = 1 // content, to be packed
	opBytes = 2 // content, as it is
	opBits  = 2

	opReserved = 3 // copies with differences
)

// streams are those of a group.
type streams struct {
	all [streamCount][]byte
	sum [16]byte // of the bytes of the target
}

// streamer makes the streams of groups. It is not for concurrent use.
type streamer struct {
	target, content []byte
	base            *space
	tokens          *token.Encoder
	copies          []delta.Copy
}

// streams returns those of a group.
func (s *streamer) streams(g group, record []byte) (made streams, err error) {
	if s.copies, err = parseCopies(s.copies[:0], record, g.at); err != nil {
		return made, err
	}
	sum := cksum.NewBLAKE3()
	sum.Write(s.target[g.target : g.target+g.length])
	copy(made.sum[:], sum.Sum(nil))
	ok, err := s.code(g, &made)
	if err != nil {
		return made, err
	}
	if !ok {
		made.all = [streamCount][]byte{}
		s.plain(g, &made)
		return made, nil
	}
	made.ops(g, true)
	made.commands(s, g)
	return made, nil
}

// code codes the tokens of the group's blocks, or reports that it can't be.
func (s *streamer) code(g group, made *streams) (ok bool, err error) {
	if s.tokens == nil {
		if s.tokens, err = token.NewEncoder(effort); err != nil {
			return false, err
		}
	}
	ok = true
	for _, p := range g.segments {
		if p.kept || !p.packed {
			continue
		}
		tokens, content, err := lzo.Parse(s.target[p.offset:p.offset+p.size], wire.MaxBlock)
		if err != nil {
			return false, err
		}
		if err := s.tokens.Add(content, tokens); err != nil {
			ok = false
			break
		}
	}
	made.all[tokenStream] = s.tokens.Finish(nil)
	return ok && len(made.all[tokenStream]) <= mib, nil
}

// ops adds the operations. Without packing, blocks are bytes as they are.
func (made *streams) ops(g group, packing bool) {
	out := &made.all[opStream]
	next := g.target
	var raw int64
	op := func(kind, n int64) { *out = binary.AppendUvarint(*out, uint64(n<<opBits|kind)) }
	flush := func() {
		if raw > 0 {
			op(opBytes, raw)
			raw = 0
		}
	}
	for _, s := range g.segments {
		switch {
		case s.kept:
			flush()
			op(opKeep, s.size)
			*out = binary.AppendVarint(*out, s.base-next)
			next = s.base + s.size
		case s.packed && packing:
			flush()
			op(opBlock, s.content)
		case packing:
			raw += s.content
		default:
			raw += s.size
		}
	}
	flush()
}

// plain makes the streams of a group without copies and without tokens.
func (s *streamer) plain(g group, made *streams) {
	made.ops(g, false)
	for _, p := range g.segments {
		if !p.kept {
			made.all[literalStream] = append(made.all[literalStream], s.target[p.offset:p.offset+p.size]...)
		}
	}
	if n := len(made.all[literalStream]); n > 0 {
		made.all[runStream] = binary.AppendUvarint(nil, uint64(n))
	}
}

// commands adds the literals and copies that make the content.
func (made *streams) commands(s *streamer, g group) {
	at, expected := g.at, int64(0)
	literal := func(end int64) {
		made.all[runStream] = binary.AppendUvarint(made.all[runStream], uint64(end-at))
		made.all[literalStream] = append(made.all[literalStream], s.content[at:end]...)
		expected += end - at
		at = end
	}
	literals := g.content
	for _, m := range s.copies {
		literals -= m.Length
	}
	made.all[literalStream] = slices.Grow(made.all[literalStream], int(literals))
	for _, m := range s.copies {
		literal(m.Target)
		place := s.base.place(m.Base)
		made.all[lengthStream] = binary.AppendUvarint(made.all[lengthStream], uint64(m.Length))
		made.all[placeStream] = binary.AppendVarint(made.all[placeStream], place-expected)
		at += m.Length
		expected = place + m.Length
	}
	if at < g.at+g.content {
		literal(g.at + g.content)
	}
}
