package encode

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact/internal/wire"
)

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// records returns numbers from a start between bytes that are always the same.
func records(start uint32, n int) (b []byte) {
	for i := range uint32(n) {
		b = binary.LittleEndian.AppendUint32(b, start+i*i)
		b = append(b, "the same bytes in all records"...)
	}
	return b
}

// changed returns b with every step-th byte changed.
func changed(b []byte, step int) []byte {
	b = bytes.Clone(b)
	for i := step / 2; i < len(b); i += step {
		b[i]++
	}
	return b
}

// check fails the test if commands don't make a content, and returns how much of it are
// literals and differences.
func check(t *testing.T, base, content []byte, commands []command) (literals, differences int64) {
	t.Helper()
	var at int64
	for _, c := range commands {
		from, n := c.reads()
		if c.run < 0 || c.length < 0 || from < 0 || from+n > int64(len(base)) || at+c.run+c.length > int64(len(content)) {
			t.Fatalf("%+v at %d of %d, from a base of %d", c, at, len(content), len(base))
		}
		if c.run+c.length == 0 {
			t.Errorf("a command of nothing at %d", at)
		}
		if c.differs {
			differences += c.run
		} else {
			literals += c.run
		}
		at += c.run
		if !bytes.Equal(content[at:at+c.length], base[c.base:c.base+c.length]) {
			t.Errorf("%+v at %d makes another content", c, at)
		}
		at += c.length
	}
	return literals + int64(len(content)) - at, differences
}

// copies returns copies of content[t:], each of n bytes from base[b:].
func copies(all ...[3]int64) (c []delta.Copy) {
	for _, m := range all {
		c = append(c, delta.Copy{Target: m[0], Base: m[1], Length: m[2]})
	}
	return c
}

func TestChoose(t *testing.T) {
	t.Parallel()
	base := noise(1, 10_000)
	join := slices.Concat[[]byte]
	like := join(base[:100], changed(base[5000:5030], 2), base[130:])
	for _, c := range []struct {
		name                  string
		base, content         []byte
		copies                []delta.Copy
		literals, differences int64
		commands              int
	}{
		{"nothing", base, nil, nil, 0, 0, 0},
		{"no copies", base, noise(2, 100), nil, 100, 0, 0},
		{"one copy", base, base[100:300], copies([3]int64{0, 100, 200}), 0, 0, 1},
		{"a short copy", base, join(noise(2, 50), base[:19], noise(3, 50)), copies([3]int64{50, 0, 19}), 119, 0, 0},
		{"one that is long enough", base, join(noise(2, 50), base[:20], noise(3, 50)), copies([3]int64{50, 0, 20}), 100, 0, 1},
		{"a few bytes between two that go on", base, join(base[:100], noise(2, 8), base[108:200]), copies([3]int64{0, 0, 100}, [3]int64{108, 108, 92}), 0, 8, 2},
		{"more of them", base, join(base[:100], noise(2, 60), base[160:300]), copies([3]int64{0, 0, 100}, [3]int64{160, 160, 140}), 60, 0, 2},
		{"more of them, a half of them the same", base, join(base[:100], changed(base[100:160], 2), base[160:300]), copies([3]int64{0, 0, 100}, [3]int64{160, 160, 140}), 0, 60, 2},
		{"differences behind a copy", base, join(base[:100], changed(base[100:200], 4), noise(2, 100)), copies([3]int64{0, 0, 100}), 102, 98, 2},
		{"differences before one", base, join(noise(2, 100), changed(base[1100:1200], 4), base[1200:1300]), copies([3]int64{200, 1200, 100}), 100, 100, 2},
		{"both", base, join(base[:100], changed(base[100:200], 4), changed(base[5000:5100], 4), base[5100:5200]), copies([3]int64{0, 0, 100}, [3]int64{300, 5100, 100}), 2, 198, 4},
		{"a detour", like, join(base[:100], base[5000:5030], base[130:300]), copies([3]int64{0, 0, 100}, [3]int64{100, 5000, 30}, [3]int64{130, 130, 170}), 0, 30, 2},
		{"what is no detour", base, join(base[:100], base[5000:5030], base[130:300]), copies([3]int64{0, 0, 100}, [3]int64{100, 5000, 30}, [3]int64{130, 130, 170}), 0, 0, 3},
		{"a detour of what is nearly the same", base, join(base[:100], changed(base[100:200], 9), base[200:300]),
			copies([3]int64{0, 0, 100}, [3]int64{200, 200, 100}), 0, 100, 2},
	} {
		x := chooser{content: c.content, base: c.base}
		commands := x.choose(nil, c.copies, 0, int64(len(c.content)))
		literals, differences := check(t, c.base, c.content, commands)
		if literals != c.literals || differences != c.differences || len(commands) != c.commands {
			t.Errorf("%s: %d literals, %d differences, %d commands, want %d, %d, %d: %+v", c.name, literals, differences, len(commands), c.literals, c.differences, c.commands, commands)
		}
	}
}

// Copies from a wrong place of a table are left out where the right one goes on.
func TestChooseRecords(t *testing.T) {
	t.Parallel()
	const size = 33
	base, content := records(1<<20, 500), records(1<<20+4711, 500)
	all := copies([3]int64{4, 4, 29})
	for i := int64(1); i < 500; i++ {
		all = append(all, delta.Copy{Target: size*i + 4, Base: 4, Length: 29}) // always the first
	}
	x := chooser{content: content, base: base}
	commands := x.choose(nil, all, 0, int64(len(content)))
	if literals, _ := check(t, base, content, commands); literals > 10 || len(commands) > 5 {
		t.Errorf("%d literals, %d commands", literals, len(commands))
	}
}

// Commands come back from their records.
func TestRecords(t *testing.T) {
	t.Parallel()
	commands := []command{{0, 5, 9, false}, {7, 0, 1 << 40, true}, {1 << 30, 1, 0, false}}
	got, err := parseCommands(nil, appendCommands(nil, commands))
	if err != nil || !slices.Equal(got, commands) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseCommands(nil, appendCommands(nil, commands)[:4]); err == nil {
		t.Error("a record that is cut")
	}
	all := copies([3]int64{100, 5, 10}, [3]int64{110, 0, 1}, [3]int64{500, 1 << 40, 7})
	back, err := parseCopies(nil, appendCopies(nil, all, 50), 50)
	if err != nil || !slices.Equal(back, all) {
		t.Errorf("%+v, %v", back, err)
	}
}

// A group has no more commands than it may, and unpacks no more.
func TestLimit(t *testing.T) {
	t.Parallel()
	var parts []part
	for i := range int64(100) {
		parts = append(parts, part{offset: i * 10, size: 10, packed: true, at: i << 20, content: 1 << 20})
	}
	far := make([]command, 0, 200)
	for i := range int64(200) {
		far = append(far, command{length: 1, base: i % 100 << 20})
	}
	many := slices.Repeat([]command{{length: 1, base: 5}}, wire.GroupParts)
	long := []command{{length: 1}, {length: 90 << 20}, {length: 1}}
	for _, c := range []struct {
		name              string
		commands          []command
		length            int64
		commandsN, blocks int
	}{
		{"nothing", nil, 1, 0, 0},
		{"few", far[:10], 1, 10, 10},
		{"the same again", append(slices.Clone(far[:10]), far[100:110]...), 1, 20, 10},
		{"more than it may unpack", far, 1, 16, 16},
		{"what a larger one may", far, 1 << 20, 80, 80},
		{"what a still larger one may", far, 2 << 20, 200, 100},
		{"many", many, 1 << 20, wire.GroupParts / 4, 1},
		{"one of many blocks", long, 1, 1, 1},
	} {
		base := newSpace(nil, parts)
		l := limiter{base: base, last: make([]int32, len(base.blocks))}
		for range 2 { // groups, each of which counts for itself
			commands, blocks := l.limit(c.commands, c.length)
			if len(commands) != c.commandsN || len(blocks) != c.blocks {
				t.Errorf("%s: %d commands, %d blocks, want %d, %d", c.name, len(commands), len(blocks), c.commandsN, c.blocks)
			}
		}
	}
}
