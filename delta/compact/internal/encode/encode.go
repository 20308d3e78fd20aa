// Package encode makes compact deltas.
//
// It works in passes, each of which uses all cores and hands on to the next through a scratch
// file, since an image does not fit into memory:
//
//	base, its blocks     -> unpacked -> the base's content, mapped
//	target, its blocks   -> what the base has as it is; the rest unpacked -> its content, mapped
//	both contents        -> the engine of package delta -> copies, by groups
//	copies, by groups    -> chosen and extended -> commands, and the blocks that they read
//	commands, by groups  -> streams
//	streams, by sections -> compressed -> sections
//
// The head comes first in the file, and is known last.
package encode

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/ordered"
	"puavo-image-repository/delta/compact/internal/piece"
	"puavo-image-repository/delta/compact/internal/token"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/delta/mmap"
)

const mib = 1 << 20

// effort is that of the token codec.
var effort = token.Default

// Block is a block of LZO in an image.
type Block struct{ Offset, Size int64 }

// Image is a base or a target, and the blocks that are known in it.
type Image struct {
	Bytes  []byte
	Blocks []Block
}

// Options are those of package compact.
type Options struct {
	Memory  int64
	Effort  delta.Effort
	Cores   int
	Scratch func() (*os.File, error)
}

func (o Options) cores() int { return cmp.Or(o.Cores, runtime.GOMAXPROCS(0)) }

// index returns the memory of the index of the base's content. What compresses the streams
// takes more than the search does besides, but only when the index is gone.
func (o Options) index() int64 { return max(o.Memory-int64(o.cores())*32*mib, 64*mib) }

// pieces returns how hard the streams are compressed.
func (o Options) pieces() piece.Effort {
	if o.Effort == delta.Fast {
		return piece.Fast
	}
	return piece.Best
}

// Encode writes the compact delta to w, and returns its head.
func Encode(ctx context.Context, w io.Writer, base, target Image, o Options) (*wire.Head, error) {
	for _, m := range []Image{base, target} {
		if err := m.check(); err != nil {
			return nil, err
		}
	}
	e := encoder{ctx: ctx, o: o, base: base, target: target}
	defer e.close()
	if err := mmap.Guard(func() error { return e.encode(w) }); err != nil {
		return nil, err
	}
	return &e.head, nil
}

// check checks the list of blocks.
func (m Image) check() error {
	var end int64
	for i, b := range m.Blocks {
		if b.Offset < end || b.Size < 1 || b.Size > int64(len(m.Bytes))-b.Offset {
			return fmt.Errorf("block %d of %d bytes at %d is outside of an image of %d bytes, or not in order", i, b.Size, b.Offset, len(m.Bytes))
		}
		end = b.Offset + b.Size
	}
	return nil
}

// encoder has what is known while a delta is made.
type encoder struct {
	ctx          context.Context
	o            Options
	base, target Image
	head         wire.Head
	closers      []func() error
}

func (e *encoder) close() {
	for _, c := range e.closers {
		c()
	}
}

func (e *encoder) encode(w io.Writer) error {
	if err := e.digests(); err != nil {
		return err
	}
	groups, content, err := e.plan()
	if err != nil {
		return err
	}
	base, err := e.unpackBase()
	if err != nil {
		return err
	}
	copies, err := collect(e.ctx, base, content, groups, e.o)
	if err != nil {
		return fmt.Errorf("searching the target's content: %w", err)
	}
	defer copies.Close()
	commands, err := e.choose(base, content, groups, copies)
	if err != nil {
		return err
	}
	defer commands.Close()
	extents, most := base.settle()
	e.head.Extents, e.head.Unpacked, e.head.Block = extents, base.work, max(e.head.Block, most)
	raw, sizes, err := e.streams(base, content, groups, commands)
	if err != nil {
		return err
	}
	defer raw.Close()
	packed, err := e.pack(raw, sizes)
	if err != nil {
		return err
	}
	defer packed.Close()
	return e.write(w, packed)
}

// digests takes those of base and target.
func (e *encoder) digests() error {
	for i, b := range [][]byte{e.base.Bytes, e.target.Bytes} {
		h := cksum.NewBLAKE3()
		for left := b; len(left) > 0; left = left[min(mib, len(left)):] {
			if err := e.ctx.Err(); err != nil {
				return err
			}
			h.Write(left[:min(mib, len(left))])
		}
		o := []*wire.Object{&e.head.Base, &e.head.Target}[i]
		o.Size = int64(len(b))
		h.Sum(o.BLAKE3[:0])
	}
	return nil
}

// plan returns the groups of the target, and the content that they have.
func (e *encoder) plan() ([]group, []byte, error) {
	all := segments(e.base, e.target)
	var parts []part
	for _, s := range all {
		if !s.kept {
			parts = append(parts, s.part)
		}
	}
	content, unmap, err := unpackAll(e.ctx, e.target.Bytes, parts, unpackTarget, e.o)
	if err != nil {
		return nil, nil, fmt.Errorf("unpacking the target: %w", err)
	}
	e.closers = append(e.closers, unmap)
	for i := range all {
		if s := &all[i]; !s.kept {
			s.part, parts = parts[0], parts[1:]
			if s.packed {
				e.head.Coded += s.content
				e.head.Block = max(e.head.Block, int(s.content))
			}
		}
	}
	return groups(all), content, nil
}

func (e *encoder) unpackBase() (*space, error) {
	parts := e.base.parts()
	content, unmap, err := unpackAll(e.ctx, e.base.Bytes, parts, unpackBase, e.o)
	if err != nil {
		return nil, fmt.Errorf("unpacking the base: %w", err)
	}
	e.closers = append(e.closers, unmap)
	return newSpace(content, parts), nil
}

// chosen are the commands of a group, and the blocks of the base that they read.
type chosen struct {
	record []byte
	blocks []int32
}

// choose chooses the commands of all groups, and returns a file that has them.
func (e *encoder) choose(base *space, content []byte, groups []group, copies *os.File) (*os.File, error) {
	f, err := e.o.Scratch()
	if err != nil {
		return nil, err
	}
	newDo := func() func(int) (chosen, error) {
		c := chooser{content: content, base: base.bytes}
		l := limiter{base: base, last: make([]int32, len(base.blocks))}
		var found []delta.Copy
		return func(i int) (made chosen, err error) {
			g := groups[i]
			record, err := read(copies, g.record)
			if err != nil {
				return made, err
			}
			if found, err = parseCopies(found[:0], record, g.at); err != nil {
				return made, err
			}
			commands := c.choose(c.commands[:0], found, g.at, g.at+g.content)
			commands, made.blocks = l.limit(commands, g.length)
			made.record = appendCommands(record[:0], commands)
			return made, nil
		}
	}
	var at int64
	err = ordered.Each(e.ctx, e.o.cores(), len(groups), newDo, func(i int, made chosen) error {
		base.use(made.blocks)
		groups[i].record = [2]int64{at, at + int64(len(made.record))}
		at = groups[i].record[1]
		_, err := f.Write(made.record)
		return err
	})
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// read returns a range of a scratch file.
func read(f *os.File, record [2]int64) ([]byte, error) {
	b := make([]byte, record[1]-record[0])
	_, err := f.ReadAt(b, record[0])
	return b, err
}

// groupSizes says where the streams of a group begin in the scratch file, and how long they
// are.
type groupSizes struct {
	at    int64
	sizes [wire.StreamCount]int
}

// streams makes the streams of all groups, and returns a file that has them.
func (e *encoder) streams(base *space, content []byte, groups []group, commands *os.File) (*os.File, []groupSizes, error) {
	f, err := e.o.Scratch()
	if err != nil {
		return nil, nil, err
	}
	sizes := make([]groupSizes, len(groups))
	newDo := func() func(int) (streams, error) {
		s := streamer{target: e.target.Bytes, content: content, base: base}
		return func(i int) (streams, error) {
			record, err := read(commands, groups[i].record)
			if err != nil {
				return streams{}, err
			}
			return s.streams(groups[i], record)
		}
	}
	var at int64
	err = ordered.Each(e.ctx, e.o.cores(), len(groups), newDo, func(i int, made streams) error {
		sizes[i].at = at
		e.head.Groups = append(e.head.Groups, wire.Group{Length: groups[i].length, Sum: made.sum})
		for k, b := range made.all {
			sizes[i].sizes[k] = len(b)
			at += int64(len(b))
			if _, err := f.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, sizes, nil
}
