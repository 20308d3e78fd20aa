package compact

import (
	"encoding/binary"
	"slices"

	"puavo-image-repository/cksum"
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
	differenceStream
	tokenStream
	streamCount
)

// The operations, in the low bits of their numbers.
const (
	opKeep  = 0 // bytes of the base as they are
	opBlock = 1 // content, to be packed
	opBytes = 2 // content, as it is
	opBits  = 2

	opReserved = 3
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
	commands        []command
}

// streams returns those of a group.
func (s *streamer) streams(g group, record []byte) (made streams, err error) {
	if s.commands, err = parseCommands(s.commands[:0], record); err != nil {
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
	made.add(s, g)
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

// add adds the commands that make the content.
func (made *streams) add(s *streamer, g group) {
	at, next := g.at, int64(0)
	number := func(stream int, n int64) { made.all[stream] = binary.AppendUvarint(made.all[stream], uint64(n)) }
	for _, c := range s.commands {
		number(runStream, c.run)
		number(lengthStream, c.length)
		next += c.run
		if c.differs {
			made.differences(s.content[at:at+c.run], s.base.bytes[c.base-c.run:])
			number(placeStream, onDifferences)
		} else {
			made.literals(s.content[at : at+c.run])
			place := s.base.place(c.base)
			number(placeStream, placeCode(place-next))
			next = place
		}
		next += c.length
		at += c.run + c.length
	}
	if end := g.at + g.content; at < end {
		number(runStream, end-at)
		made.literals(s.content[at:end])
	}
}

func (made *streams) literals(b []byte) {
	made.all[literalStream] = append(made.all[literalStream], b...)
}

func (made *streams) differences(b, base []byte) {
	d := slices.Grow(made.all[differenceStream], len(b))
	for i, c := range b {
		d = append(d, c-base[i])
	}
	made.all[differenceStream] = d
}

// The codes of places: two, and then the distances.
const (
	onDifferences = 0 // it goes on, and the run before is differences
	onLiterals    = 1 // it goes on
)

// placeCode returns the code of the distance from where the last copy would go on.
func placeCode(distance int64) int64 {
	switch {
	case distance == 0:
		return onLiterals
	case distance > 0:
		return distance << 1
	default:
		return -distance<<1 | 1
	}
}
