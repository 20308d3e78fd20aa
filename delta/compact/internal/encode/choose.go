package encode

import (
	"encoding/binary"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/wire"
)

// What is worth a command, as real images have shown. All but leastGain and mostLoss count
// bytes.
const (
	shortest     = 20      // of a copy
	shortRun     = 8       // of a run that is differences whatever it is, where the copy goes on
	detour       = 64      // of a copy that is left out where a later one goes on without it
	detourGap    = 1024    // between the copies before and behind
	detourAhead  = 3       // copies that are looked at for one that goes on
	mostExtended = 4 << 10 // of the extension of a copy
	leastGain    = 16      // of an extension: 1 for a byte that is the same, -1 for another
	mostLoss     = 64      // after which an extension ends
)

// command is a run of bytes, and a copy behind it of maybe nothing. The run is differences
// from what stands before the copy in the base, or literals.
type command struct {
	run, length int64
	base        int64 // where the copy starts in the base's content
	differs     bool
}

// chooser makes commands of the copies of a group. The copies it is given are those that it
// can find; it leaves out short ones, and extends others over bytes that are not the same.
type chooser struct {
	content, base []byte
	at, next      int64 // the end of the last command, in content and base
	commands      []command
}

// choose appends the commands of a group that has its content from at on.
func (c *chooser) choose(dst []command, copies []delta.Copy, at, end int64) []command {
	c.commands, c.at, c.next = dst, at, 0
	for i, m := range copies {
		switch {
		case m.Length < shortest:
		case c.distance(m) == 0:
			c.take(m)
		case c.goesOn(m):
			n := m.Target + m.Length - c.at
			c.add(delta.Copy{Target: c.at + n, Base: c.next + n}, true)
		case !c.isDetour(m, copies[i+1:]):
			c.take(m)
		}
	}
	if k, _ := c.forward(end); k > 0 {
		c.add(delta.Copy{Target: c.at + k, Base: c.next + k}, true)
	}
	return c.commands
}

// distance returns how far a copy is from where the last would go on.
func (c *chooser) distance(m delta.Copy) int64 { return m.Base - m.Target - (c.next - c.at) }

// goesOn reports whether most of what a copy makes, and of what is before it, is the same
// where the last copy would go on.
func (c *chooser) goesOn(m delta.Copy) bool {
	n := m.Target + m.Length - c.at
	return m.Length < detour && n < detourGap && c.next+n <= int64(len(c.base)) && 4*c.same(n) >= 3*n
}

// isDetour reports whether a copy is not needed, since the last goes on soon without it, and
// half of the bytes between are the same.
func (c *chooser) isDetour(m delta.Copy, following []delta.Copy) bool {
	if m.Length >= detour {
		return false
	}
	for _, f := range following[:min(detourAhead, len(following))] {
		if gap := f.Target - c.at; c.distance(f) == 0 && gap < detourGap {
			return 2*c.same(gap) >= gap
		}
	}
	return false
}

// same returns how many of the next n bytes are those where the last copy would go on.
func (c *chooser) same(n int64) (sum int64) {
	t, b := c.content[c.at:c.at+n], c.base[c.next:c.next+n]
	for i := range t {
		if t[i] == b[i] {
			sum++
		}
	}
	return sum
}

// add adds a command that ends with a copy. Differences behind differences are one run.
func (c *chooser) add(m delta.Copy, differs bool) {
	run := m.Target - c.at
	if n := len(c.commands) - 1; differs && n >= 0 && c.commands[n].differs && c.commands[n].length == 0 {
		run += c.commands[n].run
		c.commands = c.commands[:n]
	}
	c.commands = append(c.commands, command{run, m.Length, m.Base, differs})
	c.at, c.next = m.Target+m.Length, m.Base+m.Length
}

// take adds a copy, with differences before it where they pay.
func (c *chooser) take(m delta.Copy) {
	gap := m.Target - c.at
	if c.distance(m) == 0 && (gap <= shortRun || 4*c.same(gap) >= gap) {
		c.add(m, true)
		return
	}
	forward, gain := c.forward(m.Target)
	back, other := c.back(m)
	if over := forward + back - gap; over > 0 && gain >= other {
		back -= over
	} else if over > 0 {
		forward -= over
	}
	if forward > 0 {
		c.add(delta.Copy{Target: c.at + forward, Base: c.next + forward}, true)
	}
	if back > 0 {
		c.add(delta.Copy{Target: m.Target - back, Base: m.Base - back}, false)
	}
	c.add(m, back > 0)
}

// extension finds how far bytes are worth to be differences.
type extension struct{ n, best, score, gain int64 }

// step adds a byte, and reports whether to go on.
func (e *extension) step(same bool) bool {
	e.n++
	e.score--
	if same {
		e.score += 2
	}
	if e.score > e.gain {
		e.gain, e.best = e.score, e.n
	}
	return e.score > -mostLoss && e.n < mostExtended
}

// result returns how many bytes the extension has, and how much they gain.
func (e *extension) result() (n, gain int64) {
	if e.gain < leastGain {
		return 0, 0
	}
	return e.best, e.gain
}

// forward extends the last copy, to end at most.
func (c *chooser) forward(end int64) (n, gain int64) {
	var e extension
	t, b := c.content[c.at:end], c.base[c.next:]
	for i := range min(len(t), len(b)) {
		if !e.step(t[i] == b[i]) {
			break
		}
	}
	return e.result()
}

// back extends a copy to its front.
func (c *chooser) back(m delta.Copy) (n, gain int64) {
	var e extension
	t, b := c.content[c.at:m.Target], c.base[:m.Base]
	for i := 1; i <= min(len(t), len(b)) && e.step(t[len(t)-i] == b[len(b)-i]); i++ {
	}
	return e.result()
}

// reads returns the range of the base's content that a command reads.
func (c command) reads() (at, length int64) {
	if c.differs {
		return c.base - c.run, c.run + c.length
	}
	return c.base, c.length
}

// limiter keeps the commands of groups to the limits.
type limiter struct {
	base *space
	last []int32 // the last group that read a block, from 1 on
	now  int32
}

// limit cuts off the commands that are too many for a group of a length, and returns which
// blocks of the base the others read.
func (l *limiter) limit(commands []command, length int64) ([]command, []int32) {
	l.now++
	var blocks []int32
	parts, budget := wire.GroupParts, wire.Unpackable(length)
	for i, c := range commands {
		kept := len(blocks)
		at, n := c.reads()
		lo, hi := l.base.within(at, n)
		for k := lo; k < hi; k++ {
			if l.last[k] != l.now {
				l.last[k] = l.now
				budget -= l.base.blocks[k].content
				blocks = append(blocks, int32(k))
			}
		}
		if parts -= 2 + 2*(hi-lo); parts < 0 || budget < 0 {
			return commands[:i], blocks[:kept]
		}
	}
	return commands, blocks
}

// appendCommands appends what parseCommands reads.
func appendCommands(dst []byte, commands []command) []byte {
	for _, c := range commands {
		run := c.run << 1
		if c.differs {
			run |= 1
		}
		dst = binary.AppendUvarint(dst, uint64(run))
		dst = binary.AppendUvarint(dst, uint64(c.length))
		dst = binary.AppendUvarint(dst, uint64(c.base))
	}
	return dst
}

func parseCommands(dst []command, record []byte) ([]command, error) {
	c := wire.Cursor{Bytes: record}
	for len(c.Bytes) > 0 && c.Err() == nil {
		run := c.Int(wire.MaxSize)
		dst = append(dst, command{run: run >> 1, differs: run&1 != 0, length: c.Int(wire.MaxSize), base: c.Int(wire.MaxSize)})
	}
	return dst, c.Err()
}
