package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/bits"
)

// Diff writes to dst the delta that makes target from the index's base, and
// tells what it consists of. The same base, budget and target always give the
// same delta. progress, which may be nil, is called with the number of bytes of
// target that were dealt with since its last call. Errors are those of dst and
// ctx; the bytes written before one are no delta. A literal's bytes are written
// from target, so memory does not grow with them.
func (x *Index) Diff(ctx context.Context, dst io.Writer, target []byte, progress func(n int)) (Stats, error) {
	if progress == nil {
		progress = func(int) {}
	}
	d := &differ{Index: x, target: target, out: newEncoder(ctx, dst, target), progress: progress}
	if err := d.run(ctx); err != nil {
		return Stats{}, err
	}
	return d.out.finish()
}

// differ is the state of one Diff. Bytes of target before out.done are in the
// delta, those from there are to become a literal unless a match reaches back.
type differ struct {
	*Index
	target   []byte
	out      *encoder
	diagonal int // of the last match: its place in the base less that in target
	progress func(n int)
}

func (d *differ) run(ctx context.Context) error {
	var batch samples
	at, err := d.match(0, 0)
	if err != nil {
		return err
	}
	d.progress(at)
	// After a match few samples are taken at once, as the next match may be near
	// and what was scanned behind its start is scanned again.
	most := 1
	for at+seedLen <= len(d.target) {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := batch.scan(d.target, at, most, d.limit)
		end, err := d.tryAll(&batch)
		if err != nil {
			return err
		}
		if end > at {
			next, most = end, 1
		} else {
			most = min(2*most, len(batch.pos))
		}
		d.progress(next - at)
		at = next
	}
	d.progress(len(d.target) - at)
	return d.suffix()
}

// tryAll emits the first match that one of the samples leads to and returns its
// end in the target, or 0 where there is none.
func (d *differ) tryAll(s *samples) (end int, err error) {
	var found [len(s.pos)]int
	for i, h := range s.hash[:s.n] {
		found[i] = d.lookup(h)
	}
	for i, p := range s.pos[:s.n] {
		for _, b := range [...]int{p + d.diagonal, found[i]} {
			if end, err := d.match(b, p); end > 0 || err != nil {
				return end, err
			}
		}
	}
	return 0, nil
}

// match emits the longest match around base[b:] and target[t:] if these begin
// with the same seed, and returns its end in the target, or 0.
func (d *differ) match(b, t int) (end int, err error) {
	if b < 0 || len(d.base)-b < seedLen || len(d.target)-t < seedLen ||
		!bytes.Equal(d.base[b:b+seedLen], d.target[t:t+seedLen]) {
		return 0, nil
	}
	n := seedLen + commonPrefix(d.base[b+seedLen:], d.target[t+seedLen:])
	back := commonSuffix(d.base[:b], d.target[d.out.done:t])
	d.diagonal = b - t
	return t + n, d.out.copy(b-back, t-back, n+back)
}

// suffix emits the common end of base and target, which may hold no sample.
func (d *differ) suffix() error {
	n := commonSuffix(d.base, d.target[d.out.done:])
	if n < seedLen {
		return nil
	}
	return d.out.copy(len(d.base)-n, len(d.target)-n, n)
}

// commonPrefix returns how many bytes a and b have in common at their starts.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	// Long matches by memory comparison, then words, then bytes.
	for n-i >= 256 && bytes.Equal(a[i:i+256], b[i:i+256]) {
		i += 256
	}
	for ; n-i >= 8; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// commonSuffix returns how many bytes a and b have in common at their ends.
func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[len(a)-n:], b[len(b)-n:]
	for ; n >= 8; n -= 8 {
		if x := binary.LittleEndian.Uint64(a[n-8:]) ^ binary.LittleEndian.Uint64(b[n-8:]); x != 0 {
			return len(a) - n + bits.LeadingZeros64(x)/8
		}
	}
	for n > 0 && a[n-1] == b[n-1] {
		n--
	}
	return len(a) - n
}
