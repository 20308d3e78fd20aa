package encode

import (
	"bufio"
	"context"
	"encoding/binary"
	"os"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/wire"
)

// collector sorts the copies into the groups whose content they make, and writes those of
// each group to a scratch file.
type collector struct {
	groups  []group
	n       int // the group that copies are collected for
	copies  []delta.Copy
	out     *bufio.Writer
	written int64
	record  []byte
}

// collect finds copies for the content of groups, and returns the file that has them.
func collect(ctx context.Context, base *space, content []byte, groups []group, o Options) (*os.File, error) {
	x, err := delta.NewIndex(ctx, base.bytes, delta.Options{Memory: o.index(), Effort: o.Effort, Cores: o.cores()})
	if err != nil {
		return nil, err
	}
	defer x.Close()
	f, err := o.Scratch()
	if err != nil {
		return nil, err
	}
	c := collector{groups: groups, out: bufio.NewWriterSize(f, mib)}
	if err = x.Copies(ctx, content, c.add); err == nil {
		if err = c.finish(len(groups)); err == nil {
			err = c.out.Flush()
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// add adds a copy, cut at the borders of groups.
func (c *collector) add(m delta.Copy) error {
	for m.Length > 0 {
		n := c.n
		for m.Target >= c.groups[n].at+c.groups[n].content {
			n++
		}
		if err := c.finish(n); err != nil {
			return err
		}
		k := min(m.Length, c.groups[n].at+c.groups[n].content-m.Target)
		c.take(delta.Copy{Target: m.Target, Base: m.Base, Length: k})
		m = delta.Copy{Target: m.Target + k, Base: m.Base + k, Length: m.Length - k}
	}
	return nil
}

// take adds a copy to the group, or to the copy before.
func (c *collector) take(m delta.Copy) {
	if n := len(c.copies); n > 0 {
		last := &c.copies[n-1]
		if last.Target+last.Length == m.Target && last.Base+last.Length == m.Base {
			last.Length += m.Length
			return
		}
	}
	c.copies = append(c.copies, m)
}

// finish writes the copies of the groups before n.
func (c *collector) finish(n int) error {
	for ; c.n < n; c.n++ {
		g := &c.groups[c.n]
		c.record = appendCopies(c.record[:0], c.copies, g.at)
		g.record = [2]int64{c.written, c.written + int64(len(c.record))}
		c.written += int64(len(c.record))
		c.copies = c.copies[:0]
		if _, err := c.out.Write(c.record); err != nil {
			return err
		}
	}
	return nil
}

func appendCopies(dst []byte, copies []delta.Copy, at int64) []byte {
	var base int64
	for _, m := range copies {
		dst = binary.AppendUvarint(dst, uint64(m.Target-at))
		dst = binary.AppendVarint(dst, m.Base-base)
		dst = binary.AppendUvarint(dst, uint64(m.Length))
		at, base = m.Target+m.Length, m.Base+m.Length
	}
	return dst
}

// parseCopies returns what appendCopies wrote.
func parseCopies(dst []delta.Copy, record []byte, at int64) ([]delta.Copy, error) {
	c := wire.Cursor{Bytes: record}
	var base int64
	for len(c.Bytes) > 0 && c.Err() == nil {
		m := delta.Copy{Target: at + c.Int(wire.MaxSize), Base: base + c.Signed(wire.MaxSize), Length: c.Int(wire.MaxSize)}
		dst = append(dst, m)
		at, base = m.Target+m.Length, m.Base+m.Length
	}
	return dst, c.Err()
}
