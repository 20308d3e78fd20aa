package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// signDiff returns the delta that makes target from the base of this signature.
func signDiff(t testing.TB, signature, target []byte) ([]byte, Stats) {
	t.Helper()
	b, err := LoadSignature(t.Context(), signature)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var d bytes.Buffer
	sum := 0
	stats, err := b.Diff(t.Context(), &d, target, func(n int) { sum += n })
	if err != nil {
		t.Fatal(err)
	}
	if sum != len(target) || stats.Target() != int64(len(target)) {
		t.Errorf("progress of %d bytes, %+v, for a target of %d", sum, stats, len(target))
	}
	return d.Bytes(), stats
}

// Deltas from a signature are applied by all decoders, stock rdiff among them,
// and are no larger than stock rdiff's from the same signature.
func TestSignDiffIsRdiff(t *testing.T) {
	testdata.Tool(t, "rdiff")
	dir := t.TempDir()
	for name, p := range pairs() {
		base, target := write(t, dir, "base", p.base), write(t, dir, "target", p.target)
		for magic, args := range magics {
			for _, blockLen := range []string{"128", "7", "2048"}[:testdata.Scale(3, 1)] {
				sig, theirs := filepath.Join(dir, "sig"), filepath.Join(dir, "theirs")
				testdata.Run(t, "rdiff", append(slices.Clone(args), "-f", "-b", blockLen, "-S", "12", "signature", base, sig)...)
				testdata.Run(t, "rdiff", "-f", "delta", sig, target, theirs)
				signature, err := os.ReadFile(sig)
				if err != nil {
					t.Fatal(err)
				}
				d, _ := signDiff(t, signature, p.target)
				if info, err := os.Stat(theirs); err != nil || int64(len(d)) > info.Size() {
					t.Errorf("%s, %08x, %s: delta of %d bytes, %d by rdiff", name, magic, blockLen, len(d), info.Size())
				}
				made := testdata.Run(t, "rdiff", "patch", base, write(t, dir, "ours", d), "-")
				if !bytes.Equal(made, p.target) {
					t.Errorf("%s, %08x, %s: rdiff makes another target", name, magic, blockLen)
				}
				checkDelta(t, name, p.base, d, p.target)
			}
			if testdata.Scale(1, 0) == 0 {
				break // any one of them
			}
		}
	}
}

// checkDelta applies a delta with both decoders.
func checkDelta(t *testing.T, name string, base, d, target []byte) {
	t.Helper()
	for decoder, patch := range decoders {
		var out bytes.Buffer
		err := patch(t.Context(), &out, bytes.NewReader(base), bytes.NewReader(d), int64(len(target)))
		if err != nil || !bytes.Equal(out.Bytes(), target) {
			t.Errorf("%s: %s: %v, or another target", name, decoder, err)
		}
	}
}

// Blocks across the borders of pieces are found, and the number of cores does
// not matter.
func TestSignDiffPieces(t *testing.T) {
	base := random(1, 6<<20+77)
	target := slices.Concat(random(2, 1001), base[:3<<20+5], random(3, 2000), base[1<<20:])
	for _, blockLen := range []int{128, 2048, 300_000} {
		signature := sign(t, Signature{RabinKarpBLAKE2, blockLen, 32, 0}, base, 1<<20)
		want, stats := signDiff(t, signature, target)
		checkDelta(t, "pieces", base, want, target)
		if most := int64(3001 + 4*blockLen); stats.LiteralBytes > most || stats.Copies > 4 {
			t.Errorf("blocks of %d: %+v, want at most %d bytes in literals", blockLen, stats, most)
		}
		for _, cores := range []int{1, 3, 8} {
			func() {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
				if got, _ := signDiff(t, signature, target); !bytes.Equal(got, want) {
					t.Errorf("blocks of %d, %d cores: another delta", blockLen, cores)
				}
			}()
		}
	}
}

func TestSignDiffFails(t *testing.T) {
	p := pairs()["block inserted"]
	signature := sign(t, Kept, p.base, 1<<20)
	b, err := LoadSignature(t.Context(), signature)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		dst  io.Writer
		want error
	}{
		{"cancelled", cancelled, io.Discard, context.Canceled},
		{"disk full", t.Context(), &full{1000}, errDisk},
		{"disk full at once", t.Context(), &full{0}, errDisk},
	} {
		if _, err := b.Diff(c.ctx, c.dst, p.target, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := LoadSignature(cancelled, signature); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: LoadSignature: %v", err)
	}
}

func TestLoadSignature(t *testing.T) {
	whole := string(sign(t, Kept, random(1, 10_000), 10_000))
	for _, c := range []struct {
		name, signature string
		want            error
	}{
		{"whole", whole, nil},
		{"no blocks", whole[:12], nil},
		{"empty", "", io.ErrUnexpectedEOF},
		{"header cut", whole[:11], io.ErrUnexpectedEOF},
		{"weak sum cut", whole[:14], io.ErrUnexpectedEOF},
		{"strong sum cut", whole[:len(whole)-1], io.ErrUnexpectedEOF},
		{"a delta", "rs\x02\x36" + whole[4:], ErrMagic},
		{"block length 0", strings.Replace(whole, "\x00\x00\x08\x00", "\x00\x00\x00\x00", 1), ErrFormat},
		{"strong length 33", strings.Replace(whole, "\x00\x00\x00\x20", "\x00\x00\x00\x21", 1), ErrFormat},
	} {
		_, err := LoadSignature(t.Context(), []byte(c.signature))
		if !errors.Is(err, c.want) || c.want != nil && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// FuzzLoadSignature gives any bytes as a signature: those that ReadSignature
// takes are taken, and a delta made with them is well formed.
func FuzzLoadSignature(f *testing.F) {
	for _, p := range testdata.Glob(f, "signatures/*.sig") {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	target := testdata.Read(f, "deltas/mixed.bin")
	// Blocks with the weak sum of each of the target's, but other strong ones.
	for _, magic := range []Magic{RollsumMD4, RabinKarpBLAKE2} {
		b := sign(f, Signature{magic, 16, 1, 0}, target, len(target))
		for i := signatureHeader + 4; i < len(b); i += 5 {
			b[i]++
		}
		f.Add(b)
	}
	f.Add([]byte("rs\x01\x47\x7f\xff\xff\xff\x00\x00\x00\x20" + strings.Repeat("x", 36)))
	f.Fuzz(func(t *testing.T, signature []byte) {
		want, wantErr := ReadSignature(bytes.NewReader(signature))
		b, err := LoadSignature(t.Context(), signature)
		if (err == nil) != (wantErr == nil) || err != nil && !errors.Is(err, ErrFormat) || err == nil && b.Signature != want {
			t.Fatalf("%v, ReadSignature: %+v, %v", err, want, wantErr)
		}
		if err != nil {
			return
		}
		b.Close()
		d, stats := signDiff(t, signature, target)
		if got, err := Inspect(t.Context(), bytes.NewReader(d)); err != nil || got != stats {
			t.Errorf("%+v, %v, want %+v", got, err, stats)
		}
		if most := want.Blocks * int64(want.BlockLen); stats.BaseEnd > most {
			t.Errorf("a copy up to %d of a base of at most %d", stats.BaseEnd, most)
		}
	})
}

// FuzzSignDiff signs, makes a delta and applies it, for any base and target.
func FuzzSignDiff(f *testing.F) {
	for _, p := range pairs() {
		f.Add(p.base[:min(len(p.base), 2000)], p.target[:min(len(p.target), 2000)], uint16(16), true)
		f.Add(p.base[:min(len(p.base), 2000)], p.target[:min(len(p.target), 2000)], uint16(1), false)
	}
	f.Fuzz(func(t *testing.T, base, target []byte, blockLen uint16, rabinKarp bool) {
		form := Signature{RollsumMD4, int(blockLen) + 1, 16, 0}
		if rabinKarp {
			form = Signature{RabinKarpBLAKE2, int(blockLen) + 1, 32, 0}
		}
		d, _ := signDiff(t, sign(t, form, base, 1+len(base)), target)
		if len(d) > len(target)+20 {
			t.Errorf("delta of %d bytes for a target of %d", len(d), len(target))
		}
		checkDelta(t, "fuzz", base, d, target)
	})
}

func BenchmarkSign(b *testing.B) {
	data := random(1, 64<<20)
	for magic := range magics {
		b.Run(fmt.Sprintf("%08x", uint32(magic)), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				sign(b, Signature{magic, SignBlockLen, 16, 0}, data, 256<<10)
			}
		})
	}
}
