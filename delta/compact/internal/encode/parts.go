package encode

import (
	"bytes"
	"context"
	"os"
	"slices"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/ordered"
	"puavo-image-repository/delta/compact/internal/wire"
	"puavo-image-repository/delta/mmap"
)

const (
	// chunk is the length of the parts that bytes as they are come in.
	chunk = 256 << 10
	// batch is how many bytes of an image a worker unpacks at once.
	batch = 1 << 20
)

// part is a part of an image: a block, or bytes as they are.
type part struct {
	offset, size int64 // in the image
	packed       bool  // whether its content is what the block makes
	at, content  int64 // where its content stands in that of all parts, and how long it is
}

// parts returns those of an image: its blocks, and what lies between them.
func (m Image) parts() (all []part) {
	var end int64
	raw := func(to int64) {
		for ; end < to; end += all[len(all)-1].size {
			all = append(all, part{offset: end, size: min(chunk, to-end)})
		}
	}
	for _, b := range m.Blocks {
		raw(b.Offset)
		all = append(all, part{offset: b.Offset, size: b.Size, packed: true})
		end = b.Offset + b.Size
	}
	raw(int64(len(m.Bytes)))
	return all
}

// unpacker returns what a block makes, or false if it must stay as it is. It may use room.
type unpacker func(room, block []byte) ([]byte, bool)

// unpackBase accepts all that can be an extent.
func unpackBase(room, block []byte) ([]byte, bool) {
	n, err := lzo.Unpack(room, block)
	return slices.Clone(room[:n]), err == nil && n >= len(block)
}

// unpackTarget accepts what can be packed again in the room of its content.
func unpackTarget(room, block []byte) ([]byte, bool) {
	tokens, content, err := lzo.Parse(block, wire.MaxBlock)
	if err != nil || len(content) < len(block) || len(content) > wire.MaxRatio*len(block) {
		return nil, false
	}
	again, err := lzo.Append(room[:0], content, tokens)
	return content, err == nil && bytes.Equal(again, block)
}

// unpackAll writes the contents of parts one after another to a scratch file, says in the
// parts where they stand, and returns them mapped.
func unpackAll(ctx context.Context, image []byte, parts []part, unpack unpacker, o Options) (content []byte, unmap func() error, err error) {
	f, err := o.Scratch()
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	batches := batchesOf(parts)
	newDo := func() func(int) ([][]byte, error) {
		room := make([]byte, wire.MaxBlock)
		return func(i int) ([][]byte, error) { return contentsOf(image, batches[i], room, unpack), nil }
	}
	var at int64
	err = ordered.Each(ctx, o.cores(), len(batches), newDo, func(i int, contents [][]byte) error {
		for k, c := range contents {
			p := &batches[i][k]
			p.at, p.content = at, int64(len(c))
			at += p.content
			if err := write(f, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return mmap.Map(f)
}

// write writes bytes that may be mapped.
func write(f *os.File, b []byte) error {
	return mmap.Guard(func() error { _, err := f.Write(b); return err })
}

func batchesOf(parts []part) (all [][]part) {
	var size int64
	start := 0
	for i, p := range parts {
		if size += p.size; size >= batch || i == len(parts)-1 {
			all = append(all, parts[start:i+1:i+1])
			start, size = i+1, 0
		}
	}
	return all
}

// contentsOf returns the content of each part, and marks those that stay as they are.
func contentsOf(image []byte, parts []part, room []byte, unpack unpacker) [][]byte {
	all := make([][]byte, len(parts))
	for i := range parts {
		p := &parts[i]
		all[i] = image[p.offset : p.offset+p.size]
		if p.packed {
			var content []byte
			if content, p.packed = unpack(room, all[i]); p.packed {
				all[i] = content
			}
		}
	}
	return all
}
