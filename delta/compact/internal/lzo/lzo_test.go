package lzo_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	oracle "github.com/anchore/go-lzo"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/squashtest"
)

// most is what the tests allow a block to make.
const most = 1 << 20

// blocks are canonical ones, with what they make and of which tokens.
var blocks = []struct {
	name, block, content string
	tokens               []lzo.Token
}{
	{"nothing", "\x11\x00\x00", "", nil},
	{"one literal", "\x12a\x11\x00\x00", "a", []lzo.Token{{1, 0}}},
	{"four literals, which are many", "\x15abcd" + "\x00\x00" + "\x11\x00\x00", "", nil}, // a match from 2049 before
	{"a first run of 238", "\xff" + alphabet(238) + "\x11\x00\x00", alphabet(238), []lzo.Token{{238, 0}}},
	{"a first run of 239", "\x00\xdd" + alphabet(239) + "\x11\x00\x00", alphabet(239), []lzo.Token{{239, 0}}},
	{"a first run of 528", "\x00\x00\xff" + alphabet(528) + "\x11\x00\x00", alphabet(528), []lzo.Token{{528, 0}}},
	{"a match of 2", "\x14abc" + "\x08\x00" + "\x11\x00\x00", "abcab", []lzo.Token{{3, 0}, {2, 3}}},
	{"a match of 3, and a literal", "\x14abc" + "\x49\x00d" + "\x11\x00\x00", "abcabcd", []lzo.Token{{3, 0}, {3, 3}, {1, 0}}},
	{"a match of 4 into itself", "\x12a" + "\x60\x00" + "\x11\x00\x00", "aaaaa", []lzo.Token{{1, 0}, {4, 1}}},
	{"a match of 8", "\x13ab" + "\xe4\x00" + "\x11\x00\x00", "abababab" + "ab", []lzo.Token{{2, 0}, {8, 2}}},
	{"a match of 9", "\x13ab" + "\x27\x04\x00" + "\x11\x00\x00", "ababababab" + "a", []lzo.Token{{2, 0}, {9, 2}}},
	{"a match of 33", "\x12a" + "\x3f\x00\x00" + "\x11\x00\x00", strings.Repeat("a", 34), []lzo.Token{{1, 0}, {33, 1}}},
	{"a match of 34", "\x12a" + "\x20\x01\x00\x00" + "\x11\x00\x00", strings.Repeat("a", 35), []lzo.Token{{1, 0}, {34, 1}}},
	{"a match of 289", "\x12a" + "\x20\x00\x01\x00\x00" + "\x11\x00\x00", strings.Repeat("a", 290), []lzo.Token{{1, 0}, {289, 1}}},
	{"literals after a match", "\x12a" + "\x62\x00bc" + "\x11\x00\x00", "aaaaabc", []lzo.Token{{1, 0}, {4, 1}, {2, 0}}},
	{"literals in the operands", "\x12a" + "\x27\x03\x00bcd" + "\x11\x00\x00", "aaaaaaaaaabcd", []lzo.Token{{1, 0}, {9, 1}, {3, 0}}},
	{"many literals after a match", "\x12a" + "\x60\x00" + "\x01bcde" + "\x11\x00\x00", "aaaaabcde", []lzo.Token{{1, 0}, {4, 1}, {4, 0}}},
	{"the example", "\x17hello " + "\x29\x14\x00" + "\x11\x00\x00", "hello hello hello", []lzo.Token{{6, 0}, {11, 6}}},
}

// alphabet returns n bytes of which no three are anywhere a second time soon.
func alphabet(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>3 ^ i)
	}
	return string(b)
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	for _, c := range blocks {
		tokens, content, err := lzo.Parse([]byte(c.block), most)
		if c.content == "" && len(c.block) > 3 {
			if err == nil {
				t.Errorf("%s: no error", c.name)
			}
			continue
		}
		if err != nil || string(content) != c.content || !slices.Equal(tokens, c.tokens) {
			t.Errorf("%s: %q of %v, %v", c.name, content, tokens, err)
		}
		if b, err := lzo.Append([]byte("x"), content, tokens); string(b) != "x"+c.block || err != nil {
			t.Errorf("%s: packed as %q, %v", c.name, b, err)
		}
		check(t, c.name, []byte(c.block))
	}
}

// Matches of all lengths and distances that have forms of their own come back.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, literals := range []int{0, 1, 3, 4, 18, 19, 273, 274} {
		for _, length := range []int{2, 3, 4, 5, 8, 9, 10, 33, 34, 288, 289, 543, 544} {
			for _, distance := range []int{1, 2, 1024, 1025, 2048, 2049, 3072, 3073, 16384, 16385, 32767, 32768, 49151, 49152} {
				tokens := []lzo.Token{{60_000, 0}, {3, 9}, {uint32(literals), 0}, {uint32(length), uint32(distance)}}
				if literals == 0 {
					tokens = slices.Delete(tokens, 2, 3)
				}
				content := made(tokens)
				b, err := lzo.Append(nil, content, tokens)
				if ok := lzo.Writable(length, distance, literals); ok != (err == nil) {
					t.Fatalf("%d at %d after %d literals: writable %v, %v", length, distance, literals, ok, err)
				} else if !ok {
					continue
				}
				got, same, err := lzo.Parse(b, len(content))
				if err != nil || !bytes.Equal(same, content) || !slices.Equal(got, tokens) {
					t.Fatalf("%d at %d after %d literals: %v", length, distance, literals, err)
				}
				check(t, "a form", b)
			}
		}
	}
}

// made returns the content of tokens, whose literals are those of alphabet.
func made(tokens []lzo.Token) (content []byte) {
	for _, t := range tokens {
		if t.Distance == 0 {
			content = append(content, alphabet(int(t.Length))...)
			continue
		}
		for range t.Length {
			content = append(content, content[len(content)-int(t.Distance)])
		}
	}
	return content
}

// check compares what a block makes with the oracle, unless both see an error.
func check(t *testing.T, name string, block []byte) {
	t.Helper()
	tokens, content, err := lzo.Parse(block, most)
	want := make([]byte, most)
	n, failed := oracle.Decompress(block, want)
	switch {
	case err != nil:
		return // it takes more: blocks with something behind their end, say
	case failed != nil || !bytes.Equal(content, want[:n]):
		t.Errorf("%s: %d bytes; the oracle has %d, %v", name, len(content), n, failed)
	}
	again, err := lzo.Append(nil, content, tokens)
	if err != nil {
		t.Errorf("%s: what was parsed can't be packed: %v", name, err)
	}
	if len(again) > len(block) {
		t.Errorf("%s: the canonical block has %d bytes, this one %d", name, len(again), len(block))
	}
	back, same, err := lzo.Parse(again, len(content))
	if err != nil || !slices.Equal(back, tokens) || !bytes.Equal(same, content) {
		t.Errorf("%s: it does not come back: %v", name, err)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	const limit = 300
	for _, c := range []struct{ name, block, want string }{
		{"nothing at all", "", "cut off"},
		{"no end", "\x12a", "cut off"},
		{"half an end", "\x12a\x11\x00", "cut off"},
		{"more than the end", "\x12a\x11\x00\x00x", "1 bytes follow the end"},
		{"too few literals", "\x16ab\x11\x00\x00", "cut off"},
		{"no operand", "\x12a\x60", "cut off"},
		{"no end of a length", "\x12a\x20\x00", "cut off"},
		{"a match before the start", "\x12a\x64\x00\x11\x00\x00", "a match from 2 bytes before byte 1"},
		{"a match at the start", "\x10\x01\x04\x00\x11\x00\x00", "a match from 16385 bytes before byte 0"},
		{"an end of another length", "\x12a\x12\x00\x00", "an end that is not"},
		{"an end with literals in it", "\x12a\x11\x01\x00a", "an end that is not"},
		{"LZO-RLE", "\x11\x01\x12a\x11\x00\x00", "LZO-RLE"},
		{"too much in a match", "\x12a\x20\x00\x80\x00\x00\x11\x00\x00", "more than 300 bytes"},
		{"too many literals", "\x00\x00\xff" + alphabet(528) + "\x11\x00\x00", "more than 300 bytes"},
		{"too long a length", "\x12a\x20" + strings.Repeat("\x00", 1000) + "\x01\x00\x00\x11\x00\x00", "more than 300 bytes"},
	} {
		if _, _, err := lzo.Parse([]byte(c.block), limit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, _, err := lzo.Parse([]byte("\x12a\x11\x00\x00"), -1); err == nil {
		t.Error("a negative limit was kept")
	}
}

func TestAppendErrors(t *testing.T) {
	t.Parallel()
	content := []byte(alphabet(100))
	for _, c := range []struct {
		want   string
		tokens []lzo.Token
	}{
		{"leave 100 bytes", nil},
		{"leave 1 bytes", []lzo.Token{{99, 0}}},
		{"101 bytes of the 100", []lzo.Token{{101, 0}}},
		{"0 bytes of the 1", []lzo.Token{{99, 0}, {0, 1}}},
		{"literals after literals", []lzo.Token{{99, 0}, {1, 0}}},
		{"no match of 100 bytes", []lzo.Token{{100, 1}}},
		{"no match of 2 bytes at distance 1 ", []lzo.Token{{98, 0}, {2, 1}}},
		{"no match of 2 bytes at distance 1025 ", []lzo.Token{{3, 0}, {2, 1025}, {95, 0}}},
		{"no match of 2 bytes at distance 1 can be written after 0", []lzo.Token{{3, 0}, {3, 1}, {2, 1}, {92, 0}}},
		{"no match of 1 bytes", []lzo.Token{{3, 0}, {1, 1}, {96, 0}}},
		{"no match of 9 bytes at distance 49152", []lzo.Token{{91, 0}, {9, 49152}}},
	} {
		if _, err := lzo.Append(nil, content, c.tokens); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.tokens, err)
		}
	}
}

// Blocks that are not canonical make what they should, and come back shorter.
func TestNotCanonical(t *testing.T) {
	t.Parallel()
	for name, block := range map[string]string{
		"a first run as an instruction": "\x01abcd\x11\x00\x00",
		"a match of 3 in three bytes":   "\x13ab\x21\x04\x00\x11\x00\x00",
		"a far form for a near match":   "\x12a\x3e\x00\x00" + "\x11\x00\x00",
	} {
		tokens, content, err := lzo.Parse([]byte(block), most)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		again, err := lzo.Append(nil, content, tokens)
		if name == "a far form for a near match" {
			if string(again) != block { // of 32 bytes, it has no shorter form
				t.Errorf("%s: %q", name, again)
			}
		} else if err != nil || string(again) == block {
			t.Errorf("%s: %q, %v", name, again, err)
		}
		check(t, name, []byte(block))
	}
}

// What mksquashfs packs comes back bit for bit; the oracle makes the same of it.
func TestReal(t *testing.T) {
	t.Parallel()
	for i, block := range squashtest.Sample(t) {
		tokens, content, err := lzo.Parse(block, most)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := lzo.Append(nil, content, tokens); err != nil || !bytes.Equal(again, block) {
			t.Fatalf("block %d does not come back: %v", i, err)
		}
		check(t, "a block", block)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range blocks {
		f.Add([]byte(c.block))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		tokens, content, err := lzo.Parse(block, 1<<16)
		if err != nil {
			return
		}
		if len(content) > 1<<16 || len(tokens) > 2*len(block) {
			t.Fatalf("%d bytes and %d tokens of %d bytes", len(content), len(tokens), len(block))
		}
		check(t, "the block", block)
	})
}
