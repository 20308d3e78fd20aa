package token

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/squashtest"
	"puavo-image-repository/testdata"
)

// block is the content of one and its tokens.
type block struct {
	content []byte
	tokens  []lzo.Token
}

// realBlocks returns the blocks of a real image.
func realBlocks(t testing.TB) (blocks []block) {
	t.Helper()
	for _, b := range squashtest.Sample(t) {
		tokens, content, err := lzo.Parse(b, MaxBlock)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, block{content, tokens})
	}
	return blocks
}

// greedy returns the block of some content whose matches are the longest of those that
// a hash of 4 bytes finds.
func greedy(content []byte) block {
	var tokens []lzo.Token
	last := make(map[uint32]int)
	literals := 0
	flush := func() {
		if literals > 0 {
			tokens = append(tokens, lzo.Token{Length: uint32(literals)})
		}
		literals = 0
	}
	for x := 0; x < len(content); {
		n, d := 0, 0
		if x+4 <= len(content) {
			key := binary.LittleEndian.Uint32(content[x:])
			if y, ok := last[key]; ok && x-y <= farthest {
				d = x - y
				for n < longestMatch && x+n < len(content) && content[x+n] == content[y+n] {
					n++
				}
			}
			last[key] = x
		}
		if n == 0 {
			literals++
			x++
			continue
		}
		flush()
		tokens = append(tokens, lzo.Token{Length: uint32(n), Distance: uint32(d)})
		x += n
	}
	flush()
	return block{content, tokens}
}

// contents returns what has been hard for other searches, of n bytes or a little less.
func contents(n int) map[string][]byte {
	r := rand.NewChaCha8([32]byte{1})
	of := func(values int) []byte {
		b := make([]byte, n)
		r.Read(b)
		for i := range b {
			b[i] %= byte(values)
		}
		return b
	}
	ones := func(every uint64) []byte {
		b := make([]byte, n)
		for i := range b {
			if r.Uint64()%every == 0 {
				b[i] = 1
			}
		}
		return b
	}
	squares, growing, thue := make([]byte, n), make([]byte, 0, n), make([]byte, n)
	for i := range squares {
		squares[i] = byte(i * i >> 8)
		if i > 0 {
			thue[i] = thue[i/2] ^ byte(i&1)
		}
	}
	for i := 1; len(growing) < n-i; i++ {
		growing = append(append(growing, bytes.Repeat([]byte{0}, i)...), 1)
	}
	fibonacci, more := []byte("a"), []byte("ab")
	for len(more) < n {
		fibonacci, more = more, append(slices.Clip(more), fibonacci...)
	}
	noise := make([]byte, n)
	r.Read(noise)
	return map[string][]byte{
		"zeros": make([]byte, n), "period 2": bytes.Repeat([]byte("ab"), n/2), "period 7": bytes.Repeat([]byte("abcdefg"), n/7),
		"noise": noise, "2 values": of(2), "4 values": of(4), "16 values": of(16),
		"a one in 1000": ones(1000), "a one in 100": ones(100), "squares": squares, "growing runs": growing,
		"Fibonacci": more[:n], "Thue-Morse": thue, "text": []byte(strings.Repeat("the quick brown fox ", n/20)),
		"one byte": {7}, "two bytes": {7, 8}, "few": []byte("abcabcab"), "nothing": {},
	}
}

// scaled is how many bytes the contents have in most tests.
func scaled() int { return testdata.Scale(1<<17, 1<<14) }

// roundTrip codes blocks as a group and decodes them.
func roundTrip(t *testing.T, e *Encoder, d *Decoder, blocks []block) []byte {
	t.Helper()
	for i, b := range blocks {
		if err := e.Add(b.content, b.tokens); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	stream := e.Finish(nil)
	d.Start(stream)
	var got []lzo.Token
	for i, b := range blocks {
		var err error
		if got, err = d.Next(got[:0], b.content); err != nil || !slices.Equal(got, b.tokens) {
			t.Fatalf("block %d of %d bytes does not come back: %v", i, len(b.content), err)
		}
	}
	if err := d.Finish(); err != nil {
		t.Error(err)
	}
	return stream
}

// The decoder of the package documentation reads what the encoder writes.
func TestReference(t *testing.T) {
	t.Parallel()
	real, all := realBlocks(t), contents(scaled())
	for _, effort := range []Effort{{8, 8}, {4, 1}, {32, 8}}[:testdata.Scale(3, 1)] {
		e, _ := codec(t, effort)
		var group []block
		for _, name := range slices.Sorted(maps.Keys(all)) {
			content := all[name]
			b := greedy(content)
			b2 := block{content, crumbs(b.tokens)}
			group = append(group, b, b2)
		}
		group = append(group, real[:testdata.Scale(16, 1)]...)
		for _, b := range group {
			if err := e.Add(b.content, b.tokens); err != nil {
				t.Fatal(err)
			}
		}
		r := newReference(e.Finish(nil), startTable(t))
		for i, b := range group {
			got, err := r.block(b.content, effort)
			if err != nil || !slices.Equal(got, b.tokens) {
				t.Fatalf("%v: block %d does not come back: %v", effort, i, err)
			}
		}
	}
}

// startTable returns the bytes of the trained start.
func startTable(t *testing.T) []byte {
	t.Helper()
	packed, err := base64.StdEncoding.DecodeString(start)
	if err != nil {
		t.Fatal(err)
	}
	table, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func codec(t testing.TB, effort Effort) (*Encoder, *Decoder) {
	t.Helper()
	e, err := NewEncoder(effort)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDecoder(effort)
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

// Blocks of any content come back, whoever chose their tokens, at any effort.
func TestContents(t *testing.T) {
	t.Parallel()
	for _, effort := range []Effort{{8, 8}, {1, 1}, {32, 8}, {255, 255}}[:testdata.Scale(4, 2)] {
		e, d := codec(t, effort)
		var group []block
		for name, content := range contents(scaled()) {
			b := greedy(content)
			group = append(group, b)
			stream := roundTrip(t, e, d, []block{b})
			t.Logf("%v: %s: %d bytes of %d tokens", effort, name, len(stream), len(b.tokens))
			literals := block{content, []lzo.Token{{Length: uint32(len(content))}}}
			if len(content) > 0 {
				roundTrip(t, e, d, []block{literals})
			}
		}
		roundTrip(t, e, d, group)
	}
}

// Blocks of mksquashfs come back, and their tokens cost next to nothing.
func TestReal(t *testing.T) {
	t.Parallel()
	blocks := realBlocks(t)
	matches := 0
	for _, b := range blocks {
		for _, token := range b.tokens {
			matches += min(1, int(token.Distance))
		}
	}
	e, d := codec(t, Default)
	stream := roundTrip(t, e, d, blocks)
	if again := roundTrip(t, e, d, blocks); !bytes.Equal(again, stream) {
		t.Error("the same group has two streams")
	}
	if bits := float64(8*len(stream)) / float64(matches); bits > 0.16 {
		t.Errorf("%.3f bits a match", bits)
	}
}

// The format is frozen: the same blocks have the same stream, in all versions and on all
// machines. Streams in other digests are those of another format.
func TestFrozen(t *testing.T) {
	t.Parallel()
	all := contents(1 << 12)
	for effort, want := range map[Effort]string{
		{8, 8}:  "c4c7a7908b0d848f231d18e794a7055805937fa4771a75e49a3e43223410ce3f",
		{32, 8}: "06e881051ca1a67753abbdb587ada83452d1becbb3efcad488b3bb00cab556ce",
		{16, 1}: "c2e2d3072867b7d30733d465c32041449a5bd7b3b2be7a5d696f06e1fbf46afd",
	} {
		e, _ := codec(t, effort)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			b := greedy(all[name])
			for _, tokens := range [][]lzo.Token{b.tokens, crumbs(b.tokens)} {
				if err := e.Add(b.content, tokens); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(e.Finish(nil))); got != want {
			t.Errorf("%v: %s", effort, got)
		}
	}
}

// What can't be coded is an error, and leaves the group as it was.
func TestRefused(t *testing.T) {
	t.Parallel()
	content := []byte("abcabcabcabc")
	good := block{content, []lzo.Token{{Length: 3}, {Length: 9, Distance: 3}}}
	long := bytes.Repeat([]byte("a"), 5000)
	e, d := codec(t, Default)
	want := roundTrip(t, e, d, []block{good, good})
	if err := e.Add(good.content, good.tokens); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want string
		block
	}{
		{"make 0 bytes of 12", block{content, nil}},
		{"make 11 bytes of 12", block{content, []lzo.Token{{Length: 3}, {Length: 8, Distance: 3}}}},
		{"do not make 12 bytes", block{content, []lzo.Token{{Length: 3}, {Length: 10, Distance: 3}}}},
		{"do not make 12 bytes", block{content, []lzo.Token{{Length: 3}, {Length: 0, Distance: 3}, {Length: 9}}}},
		{"not those of the content", block{content, []lzo.Token{{Length: 4}, {Length: 8, Distance: 4}}}},
		{"a match of 12 bytes at distance 1", block{content, []lzo.Token{{Length: 12, Distance: 1}}}},
		{"a match of 2 bytes at distance 0", block{content, []lzo.Token{{Length: 10}, {Length: 2}}}},
		{"a match of 2 bytes at distance 3", block{content, []lzo.Token{{Length: 10}, {Length: 2, Distance: 3}}}},
		{"a match of 4999 bytes", block{long, []lzo.Token{{Length: 1}, {Length: 4999, Distance: 1}}}},
		{"do not make 1048577 bytes", block{make([]byte, MaxBlock+1), []lzo.Token{{Length: MaxBlock + 1}}}},
	} {
		if err := e.Add(c.content, c.tokens); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.tokens, err)
		}
	}
	if err := e.Add(good.content, good.tokens); err != nil {
		t.Fatal(err)
	}
	if got := e.Finish(nil); !bytes.Equal(got, want) {
		t.Error("what was refused changed the group")
	}
	if _, err := d.Next(nil, make([]byte, MaxBlock+1)); err == nil {
		t.Error("too large a block was decoded")
	}
	for _, effort := range []Effort{{}, {0, 1}, {1, 0}, {256, 1}, {1, 256}, {-1, 1}} {
		_, err := NewEncoder(effort)
		if _, err2 := NewDecoder(effort); err == nil || err2 == nil {
			t.Errorf("%v was taken", effort)
		}
	}
}

// What the content contradicts, or no block can have, is refused where it is decoded, which
// is by the same code as where it is coded.
func TestContradictions(t *testing.T) {
	t.Parallel()
	const n = 60_000
	content := make([]byte, n)
	rand.NewChaCha8([32]byte{2}).Read(content)
	copy(content[n-20:], content[:20])
	copy(content[n-40:], content[n-49151-40:][:20])
	copy(content[n-70:n-68], content[n-80:])
	copy(content[n-100:n-98], content[n-2000:])
	copy(content[30:33], content[5:])
	for _, c := range []struct {
		at, length, distance int
		ok                   bool
	}{
		{n - 40, 20, 49151, true}, {n - 20, 20, n - 20, false}, {n - 40, 21, 49151, false},
		{n - 70, 2, 10, false}, {n - 100, 2, 1900, false}, {30, 3, 31, false}, {30, 3, 25, true}, {n - 40, 1, 49151, false},
	} {
		w := newWalker()
		w.coder = encodingTo(nil)
		w.reset()
		w.begin(content, 1, 1)
		w.tokens = []lzo.Token{{Length: uint32(c.at)}, {Length: uint32(c.length), Distance: uint32(c.distance)}, {Length: n}}
		if err := w.block(); (err == nil) != c.ok {
			t.Errorf("%d bytes at %d from %d before: %v", c.length, c.at, c.distance, err)
		}
	}
}

// A stream that is cut, or has more than its blocks, is an error at the end at the latest.
func TestCut(t *testing.T) {
	t.Parallel()
	e, d := codec(t, Default)
	b := greedy(contents(scaled())["16 values"])
	stream := roundTrip(t, e, d, []block{b})
	for name, s := range map[string][]byte{"cut": stream[:len(stream)/2], "longer": append(slices.Clone(stream), 1, 2, 3, 4, 5)} {
		d.Start(s)
		_, err := d.Next(nil, b.content)
		if err == nil {
			err = d.Finish()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Whatever a stream says, the work is bounded, and what comes out packs to a block of the
// content.
func FuzzDecode(f *testing.F) {
	e, d := codec(f, Effort{8, 8})
	var blocks []block
	for _, name := range []string{"16 values", "a one in 100", "growing runs", "few"} {
		content := contents(scaled())[name]
		blocks = append(blocks, greedy(content[:min(len(content), 4000)]))
	}
	blocks = append(blocks, realBlocks(f)[:3]...)
	for i, b := range blocks {
		if err := e.Add(b.content, b.tokens); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), e.Finish(nil))
	}
	f.Fuzz(func(t *testing.T, i uint8, stream []byte) {
		content := blocks[int(i)%len(blocks)].content
		d.Start(stream)
		tokens, err := d.Next(nil, content)
		if most := d.w.limit + len(content)*40; d.w.work > most {
			t.Errorf("%d units of work for %d bytes", d.w.work, len(content))
		}
		if err != nil {
			return
		}
		packed, err := lzo.Append(nil, content, tokens)
		if err != nil {
			t.Fatal(err)
		}
		if _, made, err := lzo.Parse(packed, len(content)); err != nil || !bytes.Equal(made, content) {
			t.Errorf("the tokens make another block: %v", err)
		}
	})
}
