package cksum

import (
	"context"
	"hash"
	"io"
	"slices"
	"sync"

	"puavo-image-repository/cksum/internal/kernel"
)

// Group reads streams at the same time for less CPU time than [Read]. The zero value is
// ready for use. It must not be copied after first use. It is safe for concurrent use:
// one Group serves all readers of a program.
//
// With AVX-512VL, SHA-512 of four streams takes as long as that of one. So the calls of
// [Group.Read] that run at the same time wait for each other: when each has filled a
// buffer of 256 KiB, SHA-512 takes a turn over all of them.
//
//	reads into        hashes a full buffer, while its call reads on
//	one buffer        into the other
//
//	r 1 --> call 1 --+-> SHA-256 1
//	                 +-> CRC and BLAKE3 1
//	                 +-> waits --+
//	r 2 --> call 2 --+-> waits --+--> turn: SHA-512 of 1, 2, 3 and 4
//	r 3 --> call 3 --+-> waits --+
//	r 4 --> call 4 --+-> waits --+
//
// Each call holds two buffers, as a [Hash] does: one that it fills, and one whose digests
// are being taken or whose SHA-512 waits for the turn. Full buffers wait nowhere else. The
// calls read in their callers' goroutines; the turn runs in the goroutine of the SHA-512
// that waits for it longest.
//
// A turn begins as soon as four buffers wait, or fewer if no more calls run. So of more
// than four calls no more than three wait, and of up to four each waits for the slowest.
// A reader that blocks for long therefore blocks up to three others, once they have read
// up to 512 KiB more.
//
// A call takes part until its reader returns an error, io.EOF too, or its context ends,
// even while its reader blocks or another call keeps it waiting. What it has waiting is
// then hashed by itself, as is its last buffer. A call that begins joins the next turn. A
// call that is alone, or runs on another processor, waits for nothing.
type Group struct {
	mu      sync.Mutex
	calls   int      // how many take part
	waiting []*place // of calls that take part, those with a full buffer, the oldest first
}

// Read returns what [Read] returns, for the same arguments. It may take longer, where
// readers of the Group are slower than r, and uses up to three cores while it reads.
func (g *Group) Read(ctx context.Context, r io.Reader, also ...io.Writer) (Sums, error) {
	if !kernel.HasSHA512() {
		return Read(ctx, r, also...)
	}
	return g.read(ctx, r, also...)
}

// read is Read on all processors.
func (g *Group) read(ctx context.Context, r io.Reader, also ...io.Writer) (Sums, error) {
	h := New()
	for _, w := range also {
		h.Also(w)
	}
	defer h.running.Wait()
	if err := g.readAll(ctx, r, h); err != nil {
		return Sums{}, err
	}
	return h.Sums(), nil
}

// readAll adds r to h, and takes part in turns meanwhile.
func (g *Group) readAll(ctx context.Context, r io.Reader, h *Hash) error {
	p := g.join(h.proof[0].hash)
	defer p.leave()
	defer context.AfterFunc(ctx, p.leave)()
	h.lanes[0] = p // that of SHA-512
	return h.readAll(ctx, r)
}

// join has a call take part, whose stream is added to sha512.
func (g *Group) join(sha512 hash.Hash) *place {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls++
	return &place{group: g, sha512: sha512, turn: make(chan []*place, 1)}
}

// place is that of a call in a [Group].
type place struct {
	group  *Group
	sha512 hash.Hash
	full   []byte        // the buffer that waits or is being hashed
	turn   chan []*place // ends the wait: these are to be hashed, or nil when they have been
	left   bool          // takes part no longer
}

// Write adds a full buffer to SHA-512, when its turn comes; after p has left, anything at
// once. It never returns an error.
func (p *place) Write(full []byte) (int, error) {
	p.full = full
	p.wait()
	if turn := <-p.turn; turn != nil {
		hashTurn(turn)
	}
	return len(full), nil
}

// wait has p wait for its turn, which may begin at once.
func (p *place) wait() {
	g := p.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.left {
		p.turn <- []*place{p}
		return
	}
	g.waiting = append(g.waiting, p)
	g.begin()
}

// leave has p take part no longer, and what it has waiting go by itself. Only the first
// time counts.
func (p *place) leave() {
	g := p.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.left {
		return
	}
	p.left = true
	g.calls--
	if i := slices.Index(g.waiting, p); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		p.turn <- []*place{p}
	}
	g.begin()
}

// begin begins a turn, if one is due; more than one never is. It holds the lock, and never
// blocks: a place that waits has nothing in its channel.
func (g *Group) begin() {
	n := min(len(g.waiting), kernel.Lanes)
	if n == 0 || n < min(g.calls, kernel.Lanes) {
		return
	}
	turn := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	turn[0].turn <- turn
}

// hashTurn hashes the buffers of a turn, which the first of them runs, and ends the wait of the
// others.
func hashTurn(turn []*place) {
	streams := make([]kernel.Stream, len(turn))
	for i, p := range turn {
		streams[i] = kernel.Stream{Hash: p.sha512, Next: p.full}
	}
	kernel.SHA512(streams...)
	for _, p := range turn[1:] {
		p.turn <- nil
	}
}
