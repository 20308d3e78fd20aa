package compact

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"os"
	"slices"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/wire"
)

// shortest is the length in bytes of the shortest copy that is taken.
const shortest = 10

// collector sorts the copies into the groups whose content they make, and writes those of
// each group to a scratch file.
type collector struct {
	groups  []group
	n       int // the group that copies are collected for
	copies  []delta.Copy
	base    *space
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
	c := collector{groups: groups, base: base, out: bufio.NewWriterSize(f, mib)}
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
		c.choose()
		g := &c.groups[c.n]
		c.record = appendCopies(c.record[:0], c.copies, g.at)
		g.copies = [2]int64{c.written, c.written + int64(len(c.record))}
		c.written += int64(len(c.record))
		c.copies = c.copies[:0]
		if _, err := c.out.Write(c.record); err != nil {
			return err
		}
	}
	return nil
}

// choose leaves out copies that are not worth it, and says to the base what is used of it.
func (c *collector) choose() {
	c.copies = slices.DeleteFunc(c.copies, func(m delta.Copy) bool { return m.Length < shortest })
	left := wire.GroupCopies
	for i, m := range c.copies {
		if left -= c.base.parted(m.Base, m.Length); left < 0 {
			c.copies = c.copies[:i]
			break
		}
	}
	for _, m := range c.copies {
		c.base.use(m.Base, m.Length)
	}
	c.base.endGroup()
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

// space is a base with all of its blocks unpacked in their places. Which of them are used
// is found out while copies are collected; the file has the space with these unpacked alone.
type space struct {
	bytes  []byte
	blocks []part
	used   []bool
	group  []int32 // the last group that used a block, and one
	shift  []int64 // how many bytes shorter the file's space is, before each block
	now    int32
	work   int64 // bytes of content of blocks, once for each group that uses one
}

func newSpace(bytes []byte, parts []part) *space {
	s := &space{bytes: bytes}
	for _, p := range parts {
		if p.packed {
			s.blocks = append(s.blocks, p)
		}
	}
	s.used, s.group = make([]bool, len(s.blocks)), make([]int32, len(s.blocks))
	return s
}

// before returns the number of blocks that start at a place or before.
func (s *space) before(at int64) int {
	i, found := slices.BinarySearchFunc(s.blocks, at, func(p part, at int64) int { return cmp.Compare(p.at, at) })
	if found {
		i++
	}
	return i
}

// within returns the blocks that a range has bytes of.
func (s *space) within(at, length int64) (lo, hi int) {
	lo, hi = s.before(at), s.before(at+length-1)
	if lo > 0 && at < s.blocks[lo-1].at+s.blocks[lo-1].content {
		lo--
	}
	return lo, hi
}

// parted returns how many parts a copy has at most.
func (s *space) parted(at, length int64) int {
	lo, hi := s.within(at, length)
	return 2*(hi-lo) + 1
}

// use says that a range is used by the group.
func (s *space) use(at, length int64) {
	lo, hi := s.within(at, length)
	for i := lo; i < hi; i++ {
		s.used[i] = true
		if s.group[i] != s.now+1 {
			s.group[i] = s.now + 1
			s.work += s.blocks[i].content
		}
	}
}

func (s *space) endGroup() { s.now++ }

// settle computes the file's space, and returns its blocks.
func (s *space) settle() (extents []wire.Extent) {
	s.shift = make([]int64, len(s.blocks)+1)
	for i, p := range s.blocks {
		s.shift[i+1] = s.shift[i]
		if s.used[i] {
			extents = append(extents, wire.Extent{Offset: p.offset, Packed: int(p.size), Content: int(p.content)})
		} else {
			s.shift[i+1] += p.content - p.size
		}
	}
	return extents
}

// place returns the place in the file's space.
func (s *space) place(at int64) int64 { return at - s.shift[s.before(at)] }
