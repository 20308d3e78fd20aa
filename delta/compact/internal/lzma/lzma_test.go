package lzma

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz/lzma"

	"puavo-image-repository/testdata"
)

// contents are what is compressed in tests.
func contents(t testing.TB) map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	few := bytes.Clone(noise)
	var table []byte
	for i := range few {
		few[i] &= 3
	}
	for i := range 5000 {
		table = binary.LittleEndian.AppendUint32(table, uint32(i*i))
		table = append(table, "and text"...)
	}
	root := strings.TrimSpace(string(testdata.Run(t, "go", "env", "GOROOT")))
	source, err := os.ReadFile(filepath.Join(root, "src/net/http/server.go"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{
		"nothing": nil, "a byte": {1}, "two": {1, 1}, "three": {1, 2, 1}, "short": []byte("abcabcabc"), "noise": noise, "few values": few, "table": table,
		"source": source, "zeros": make([]byte, 300_000), "period": bytes.Repeat([]byte("abcde"), 50_000), "twice": append(bytes.Clone(noise), noise...),
		"runs": bytes.Repeat(append(make([]byte, 500), noise[:300]...), 20),
	}
	for name, content := range all {
		all[name] = content[:min(len(content), testdata.Scale(1<<20, 40_000))]
	}
	return all
}

// unpack returns what a kept library makes of a stream.
func unpack(t testing.TB, b []byte, n int) []byte {
	t.Helper()
	if n == 0 {
		return nil // which the library does not read
	}
	header := []byte{Properties}
	header = binary.LittleEndian.AppendUint32(header, uint32(max(n, 4096)))
	header = binary.LittleEndian.AppendUint64(header, uint64(n))
	r, err := lzma.NewReader(io.MultiReader(bytes.NewReader(header), bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %d bytes of %d: %v", len(out), n, err)
	}
	return out
}

func TestAppend(t *testing.T) {
	t.Parallel()
	for name, content := range contents(t) {
		b := Append([]byte("before"), content)
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatalf("%s: it does not append", name)
		}
		b = b[len("before"):]
		if got := unpack(t, b, len(content)); !bytes.Equal(got, content) {
			t.Errorf("%s: another content", name)
		}
		got := make([]byte, len(content))
		if err := Decode(got, b, Properties); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: we read another content, %v", name, err)
		}
		if again := Append(nil, content); !bytes.Equal(again, b) {
			t.Errorf("%s: another stream", name)
		}
		if len(b) > len(content)+len(content)/50+10 {
			t.Errorf("%s: %d bytes of %d", name, len(b), len(content))
		}
	}
}

// What the xz tool makes, with any properties and with a marker of the end, is read; cut or
// with more behind it, it is not.
func TestDecode(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "xz")
	for name, content := range contents(t) {
		for _, p := range []struct {
			options    string
			properties byte
		}{{"lc=4,lp=0,pb=0", 4}, {"lc=3,lp=0,pb=2", 93}, {"lc=0,lp=4,pb=4", (4*5 + 4) * 9}, {"lc=2,lp=2,pb=1", (1*5+2)*9 + 2}} {
			cmd := exec.CommandContext(t.Context(), "xz", "--format=raw", "--lzma1=preset=1,"+p.options, "-c")
			cmd.Stdin = bytes.NewReader(content)
			b, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(content))
			if err := Decode(got, b, p.properties); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %s: %v", name, p.options, err)
			}
			for n := len(b) - 1; n > 0; n -= 1 + len(b)/20 {
				if err := Decode(got, b[:n], p.properties); err == nil {
					t.Errorf("%s, %s: %d of %d bytes are enough", name, p.options, n, len(b))
				}
			}
			if err := Decode(got, append(b, 0), p.properties); err == nil {
				t.Errorf("%s, %s: a byte more", name, p.options)
			}
			if len(content) > 0 && Decode(got[1:], b, p.properties) == nil || Decode(make([]byte, len(content)+1), b, p.properties) == nil {
				t.Errorf("%s, %s: another length", name, p.options)
			}
		}
	}
	for _, properties := range []byte{5, 9*5*5 + 4, 255, 4*9 + 1} {
		if err := Decode(make([]byte, 1), Append(nil, []byte{1}), properties); err == nil {
			t.Errorf("no error for the properties %d", properties)
		}
	}
}

// It is nearly as good as the xz tool at its best.
func TestPeer(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "xz")
	for name, content := range contents(t) {
		cmd := exec.CommandContext(t.Context(), "xz", "--format=raw", "--lzma1=preset=9e,lc=4,lp=0,pb=0", "-c")
		cmd.Stdin = bytes.NewReader(content)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		n := len(Append(nil, content))
		t.Logf("%s: %d bytes, xz %d", name, n, len(out))
		if n > len(out)+len(out)/40+60 {
			t.Errorf("%s: %d bytes, xz %d", name, n, len(out))
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, content := range contents(f) {
		if len(content) < 1000 {
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		b := Append(nil, content)
		got := make([]byte, len(content))
		if err := Decode(got, b, Properties); err != nil || !bytes.Equal(got, content) || !bytes.Equal(unpack(t, b, len(content)), content) {
			t.Errorf("another content, %v", err)
		}
	})
}

// FuzzDecode compares what is read of any stream with what a kept library reads.
func FuzzDecode(f *testing.F) {
	for _, content := range contents(f) {
		if len(content) < 1000 {
			f.Add(Append(nil, content), byte(Properties), uint16(len(content)))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, properties byte, n uint16) {
		got := make([]byte, n)
		if n == 0 || Decode(got, stream, properties) != nil {
			return
		}
		header := binary.LittleEndian.AppendUint32([]byte{properties}, max(uint32(n), 4096))
		header = binary.LittleEndian.AppendUint64(header, uint64(n))
		r, err := lzma.NewReader(io.MultiReader(bytes.NewReader(header), bytes.NewReader(stream)))
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, n)
		if _, err := io.ReadFull(r, want); err != nil || !bytes.Equal(got, want) {
			t.Errorf("another content, %v", err)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	content := contents(b)["source"]
	stream := Append(nil, content)
	got := make([]byte, len(content))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if err := Decode(got, stream, Properties); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	content := contents(b)["source"]
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		Append(nil, content)
	}
}
