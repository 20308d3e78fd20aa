package decode

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/token"
	"puavo-image-repository/delta/compact/internal/wire"
)

// op is an operation of a group, with where its content stands, or its bytes in the base.
type op struct {
	kind   int
	n      int
	offset int64
}

// span is a piece of what a group makes: bytes of the base, or of the content.
type span struct {
	base   bool
	offset int64
	n      int
}

// worker makes groups. It keeps its memory from one to the next.
type worker struct {
	*making
	ctx     context.Context
	ops     []op
	spans   []span
	memory  []byte // that the content has
	content []byte
	filler  filler
	tokens  []lzo.Token
	block   []byte
	decoder *token.Decoder
}

func newWorker(ctx context.Context, m *making) (*worker, error) {
	memory, err := m.alloc(wire.Content)
	return &worker{making: m, ctx: ctx, memory: memory, filler: filler{making: m}}, err
}

func (w *worker) run(jobs <-chan job) error {
	for j := range jobs {
		if err := w.do(j); err != nil {
			return err
		}
	}
	return nil
}

// do makes a group, and writes it when it is its turn.
func (w *worker) do(j job) error {
	err := w.make(j.group, &j.streams)
	if err == nil {
		err = w.check(j.group)
	}
	if err != nil {
		return fmt.Errorf("group %d: %w", j.group, err)
	}
	if j.section.left.Add(-1) == 0 {
		w.free <- j.section
	}
	select {
	case <-j.before:
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	err = w.each(func(b []byte) error {
		if w.sum != nil {
			w.sum.Write(b)
		}
		_, err := w.w.Write(b)
		return err
	})
	close(j.after)
	return err
}

// make makes the content of a group, and packs it.
func (w *worker) make(group int, s *wire.StreamSet) error {
	g := w.head.Groups[group]
	n, err := w.parseOps(s[wire.OpStream], w.targets[group], g.Length)
	if err != nil {
		return wire.Malformed("its operations: %w", err)
	}
	w.content = w.memory[:n]
	if err := w.filler.parse(w.content, s); err != nil {
		return wire.Malformed("its commands: %w", err)
	}
	w.filler.budget = wire.Unpackable(g.Length)
	if err := w.filler.fill(w.content); err != nil {
		return err
	}
	if err := w.pack(s[wire.TokenStream], g.Length); err != nil {
		return wire.Malformed("its blocks: %w", err)
	}
	return nil
}

// parseOps reads the operations, and returns how much content they have.
func (w *worker) parseOps(b []byte, next, length int64) (content int, err error) {
	w.ops = w.ops[:0]
	blocks, coded := 0, int64(0)
	for c := (wire.Cursor{Bytes: b}); len(c.Bytes) > 0; {
		v := c.Int(max(length, wire.Content)<<wire.OpBits + wire.OpReserved)
		o := op{kind: int(v & wire.OpReserved), n: int(v >> wire.OpBits)}
		switch o.kind {
		case wire.OpKeep:
			o.offset = next + c.Signed(wire.MaxSize)
			next = o.offset + int64(o.n)
			if o.offset < 0 || next > w.head.Base.Size {
				return 0, fmt.Errorf("%d bytes at %d of a base of %d", o.n, o.offset, w.head.Base.Size)
			}
		case wire.OpBlock:
			blocks++
			coded += int64(o.n)
			content += o.n
		case wire.OpBytes:
			content += o.n
		default:
			return 0, errors.New("an operation that is not known")
		}
		if c.Err() != nil {
			return 0, c.Err()
		}
		if o.n == 0 || content > wire.Content || blocks > wire.GroupBlocks || len(w.ops) == wire.GroupOps || o.kind == wire.OpBlock && o.n > w.head.Block {
			return 0, errors.New("they are beyond a limit")
		}
		w.ops = append(w.ops, o)
	}
	if w.coded.Add(coded) > w.head.Coded {
		return 0, errors.New("more is packed than the head says")
	}
	return content, nil
}

// pack packs the content where it stands, and makes the spans.
func (w *worker) pack(tokens []byte, length int64) (err error) {
	if w.decoder == nil {
		if w.decoder, err = token.NewDecoder(token.Effort{Depth: w.head.Depth, Allowance: w.head.Allowance}); err != nil {
			return err
		}
	}
	w.decoder.Start(tokens)
	w.spans = w.spans[:0]
	at, end := 0, 0
	for _, o := range w.ops {
		if o.kind == wire.OpKeep {
			w.spans = append(w.spans, span{true, o.offset, o.n})
			length -= int64(o.n)
			continue
		}
		b := w.content[at : at+o.n]
		if at += o.n; o.kind == wire.OpBlock {
			if b, err = w.packBlock(b); err != nil {
				return err
			}
		}
		w.spans = append(w.spans, span{false, int64(end), copy(w.content[end:], b)})
		end += len(b)
	}
	if length -= int64(end); length != 0 {
		return fmt.Errorf("the group has %d bytes less than the head says", length)
	}
	return w.decoder.Finish()
}

// packBlock returns the block of a content, valid until the next.
func (w *worker) packBlock(content []byte) (block []byte, err error) {
	if w.ctx.Err() != nil {
		return nil, w.ctx.Err()
	}
	if w.tokens, err = w.decoder.Next(w.tokens[:0], content); err != nil {
		return nil, err
	}
	if w.block, err = lzo.Append(w.block[:0], content, w.tokens); err != nil {
		return nil, err
	}
	if n := len(w.block); n > len(content) || len(content) > wire.MaxRatio*n {
		return nil, fmt.Errorf("%d bytes of content become a block of %d", len(content), n)
	}
	return w.block, nil
}

// check compares the digest of a group.
func (w *worker) check(group int) error {
	h := cksum.NewBLAKE3()
	if err := w.each(func(b []byte) error { h.Write(b); return nil }); err != nil {
		return err
	}
	if want := w.head.Groups[group].Sum; !bytes.Equal(h.Sum(nil)[:len(want)], want[:]) {
		return wire.Malformed("it has another digest than the head says")
	}
	return nil
}

// each calls do with what the group makes, in pieces.
func (w *worker) each(do func(b []byte) error) error {
	for _, s := range w.spans {
		if !s.base {
			if err := do(w.content[s.offset : s.offset+int64(s.n)]); err != nil {
				return err
			}
			continue
		}
		for s.n > 0 {
			b, err := w.filler.read(s.offset, min(s.n, wire.WindowLen))
			if err == nil {
				err = w.ctx.Err()
			}
			if err == nil {
				err = do(b)
			}
			if err != nil {
				return err
			}
			s.offset += int64(len(b))
			s.n -= len(b)
		}
	}
	return nil
}
