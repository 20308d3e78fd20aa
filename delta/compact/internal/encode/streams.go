package encode

import (
	"encoding/binary"
	"slices"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/token"
	"puavo-image-repository/delta/compact/internal/wire"
)

// streams are those of a group.
type streams struct {
	all wire.StreamSet
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
		made.all = wire.StreamSet{}
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
	made.all[wire.TokenStream] = s.tokens.Finish(nil)
	return ok && len(made.all[wire.TokenStream]) <= mib, nil
}

// ops adds the operations. Without packing, blocks are bytes as they are.
func (made *streams) ops(g group, packing bool) {
	out := &made.all[wire.OpStream]
	next := g.target
	var raw int64
	op := func(kind, n int64) { *out = binary.AppendUvarint(*out, uint64(n<<wire.OpBits|kind)) }
	flush := func() {
		if raw > 0 {
			op(wire.OpBytes, raw)
			raw = 0
		}
	}
	for _, s := range g.segments {
		switch {
		case s.kept:
			flush()
			op(wire.OpKeep, s.size)
			*out = binary.AppendVarint(*out, s.base-next)
			next = s.base + s.size
		case s.packed && packing:
			flush()
			op(wire.OpBlock, s.content)
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
			made.all[wire.LiteralStream] = append(made.all[wire.LiteralStream], s.target[p.offset:p.offset+p.size]...)
		}
	}
	if n := len(made.all[wire.LiteralStream]); n > 0 {
		made.all[wire.RunStream] = binary.AppendUvarint(nil, uint64(n))
	}
}

// add adds the commands that make the content.
func (made *streams) add(s *streamer, g group) {
	at, next := g.at, int64(0)
	number := func(stream int, n int64) { made.all[stream] = binary.AppendUvarint(made.all[stream], uint64(n)) }
	for _, c := range s.commands {
		number(wire.RunStream, c.run)
		number(wire.LengthStream, c.length)
		next += c.run
		if c.differs {
			made.differences(s.content[at:at+c.run], s.base.bytes[c.base-c.run:])
			number(wire.PlaceStream, wire.OnDifferences)
		} else {
			made.literals(s.content[at : at+c.run])
			place := s.base.place(c.base)
			number(wire.PlaceStream, wire.PlaceCode(place-next))
			next = place
		}
		next += c.length
		at += c.run + c.length
	}
	if end := g.at + g.content; at < end {
		number(wire.RunStream, end-at)
		made.literals(s.content[at:end])
	}
}

func (made *streams) literals(b []byte) {
	made.all[wire.LiteralStream] = append(made.all[wire.LiteralStream], b...)
}

func (made *streams) differences(b, base []byte) {
	d := slices.Grow(made.all[wire.DifferenceStream], len(b))
	for i, c := range b {
		d = append(d, c-base[i])
	}
	made.all[wire.DifferenceStream] = d
}
