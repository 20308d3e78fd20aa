package kernel

import (
	"bytes"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestReverseBits compares the kernel, the Go code and math/bits around the sizes of
// their turns.
func TestReverseBits(t *testing.T) {
	for size := range 300 {
		src := random(size)
		want := make([]byte, size)
		for i, b := range src {
			want[i] = bits.Reverse8(b)
		}
		apart, inPlace, generic := make([]byte, size+100), bytes.Clone(src), make([]byte, size)
		ReverseBits(apart, src)
		ReverseBits(inPlace, inPlace)
		reverseGeneric(generic, src)
		if !bytes.Equal(apart[:size], want) || !bytes.Equal(inPlace, want) || !bytes.Equal(generic, want) {
			t.Errorf("%d bytes: got\n%x\nin place\n%x\nfrom Go\n%x\nwant\n%x", size, apart, inPlace, generic, want)
		}
		if !bytes.Equal(apart[size:], make([]byte, 100)) {
			t.Errorf("%d bytes: more are written: %x", size, apart[size:])
		}
	}
}

func TestReverseBitsShort(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for 64 bytes into 63")
		}
	}()
	ReverseBits(make([]byte, 63), make([]byte, 64))
}

// TestSwitchedOff runs the tests of this package again on the processor that GODEBUG
// leaves: without a kernel, and with all that are here.
func TestSwitchedOff(t *testing.T) {
	if os.Getenv("KERNEL_TEST_AGAIN") != "" {
		fmt.Printf("kernels: %q\n", kernels())
		return
	}
	const all = "ReverseBits SHA512"
	if here := kernels(); here != all {
		t.Skipf("without all kernels: %q", here)
	}
	for godebug, want := range map[string]string{
		"":                              all,
		"cpu.avx512vl=off":              "ReverseBits",
		"cpu.avx2=off,cpu.avx512vl=off": "",
		"cpu.avx2=off,cpu.avx512bw=off": "",
		"cpu.avx512f=off":               "ReverseBits",
	} {
		t.Run(godebug, func(t *testing.T) {
			again := exec.CommandContext(t.Context(), os.Args[0], "-test.short", "-test.run=^Test")
			again.Env = append(os.Environ(), "KERNEL_TEST_AGAIN=1", "GODEBUG="+godebug)
			out, err := again.CombinedOutput()
			if err != nil || !strings.Contains(string(out), fmt.Sprintf("kernels: %q\n", want)) {
				t.Errorf("got %v, want kernels %q in\n%s", err, want, out)
			}
		})
	}
}

// kernels returns the names of the kernels that are used here.
func kernels() string {
	var names []string
	if probe := make([]byte, 64); reverseVectors(probe, probe) > 0 {
		names = append(names, "ReverseBits")
	}
	if HasSHA512() {
		names = append(names, "SHA512")
	}
	return strings.Join(names, " ")
}

func FuzzReverseBits(f *testing.F) {
	f.Add([]byte("123456789"))
	f.Add(random(200))
	f.Fuzz(func(t *testing.T, src []byte) {
		got, want := make([]byte, len(src)), make([]byte, len(src))
		ReverseBits(got, src)
		reverseGeneric(want, src)
		if !bytes.Equal(got, want) {
			t.Errorf("%x: got %x, want %x", src, got, want)
		}
	})
}

// random returns the same n bytes for the same n.
func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), 31: 1}).Read(p)
	return p
}
