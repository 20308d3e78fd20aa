package token

import (
	"crypto/sha512"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/delta/compact/internal/lzo"
	"puavo-image-repository/delta/compact/internal/squash"
)

// groupBlocks are the blocks of a group in the benchmarks, as in compact deltas.
const groupBlocks = 64

// benchBlocks returns groups of blocks from all over the image that TOKEN_IMAGE names, or those
// of what Go installs.
func benchBlocks(b *testing.B) []block {
	b.Helper()
	const groups = 6
	path := os.Getenv("TOKEN_IMAGE")
	if path == "" {
		return realBlocks(b)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	packed, err := squash.Packed(image)
	if err != nil {
		b.Fatal(err)
	}
	var blocks []block
	for g := range groups {
		at := len(packed) / groups * g
		for _, p := range packed[at:min(at+groupBlocks, len(packed))] {
			tokens, content, err := lzo.Parse(p, MaxBlock)
			if err != nil {
				b.Fatal(err)
			}
			blocks = append(blocks, block{content, tokens})
		}
	}
	return blocks
}

// streams codes blocks in groups.
func streams(b *testing.B, e *Encoder, blocks []block, group int) (all [][]byte, size int) {
	b.Helper()
	for i, k := range blocks {
		if err := e.Add(k.content, k.tokens); err != nil {
			b.Fatal(err)
		}
		if i%group == group-1 || i == len(blocks)-1 {
			all = append(all, e.Finish(nil))
			size += len(all[len(all)-1])
		}
	}
	return all, size
}

// report says how many bits a match takes, and what part of the packed blocks.
func report(b *testing.B, blocks []block, size int) {
	b.Helper()
	matches, packed := 0, 0
	for _, k := range blocks {
		for _, t := range k.tokens {
			matches += min(1, int(t.Distance))
		}
		p, err := lzo.Append(nil, k.content, k.tokens)
		if err != nil {
			b.Fatal(err)
		}
		packed += len(p)
	}
	b.ReportMetric(8*float64(size)/float64(matches), "bits/match")
	b.ReportMetric(100*float64(size)/float64(packed), "%packed")
}

// measure runs do, and says how much content that is for a second of processor time: where other
// programs run, time alone says little.
func measure(b *testing.B, content int64, do func()) {
	b.Helper()
	b.SetBytes(content)
	used, n := -processorTime(b), 0
	for b.Loop() {
		do()
		n++
	}
	used += processorTime(b)
	b.ReportMetric(float64(content)*float64(n)/1e6/used.Seconds(), "MB/cpu-s")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func contentBytes(blocks []block) (n int64) {
	for _, k := range blocks {
		n += int64(len(k.content))
	}
	return n
}

// BenchmarkCodec is about the content of blocks of a real image: its MB/s are those of what
// they make. SHA512 is what to hold it against, on the same machine.
func BenchmarkCodec(b *testing.B) {
	blocks := benchBlocks(b)
	n := contentBytes(blocks)
	b.Run("SHA512", func(b *testing.B) {
		measure(b, n, func() {
			for _, k := range blocks {
				sha512.Sum512(k.content)
			}
		})
	})
	for _, effort := range []Effort{{8, 8}, {16, 8}, {32, 8}, {64, 8}, {128, 16}} {
		e, d := codec(b, effort)
		all, size := streams(b, e, blocks, groupBlocks)
		b.Run(fmt.Sprintf("encode/%d", effort.Depth), func(b *testing.B) {
			measure(b, n, func() { streams(b, e, blocks, groupBlocks) })
			report(b, blocks, size)
		})
		b.Run(fmt.Sprintf("decode/%d", effort.Depth), func(b *testing.B) {
			measure(b, n, func() { decodeAll(b, d, blocks, all) })
		})
	}
}

// decodeAll decodes groups of blocks.
func decodeAll(b *testing.B, d *Decoder, blocks []block, streams [][]byte) {
	b.Helper()
	var got []lzo.Token
	for i, k := range blocks {
		if i%groupBlocks == 0 {
			d.Start(streams[i/groupBlocks])
		}
		var err error
		if got, err = d.Next(got[:0], k.content); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart is about what groups cost, and what the trained start gains.
func BenchmarkStart(b *testing.B) {
	blocks := benchBlocks(b)
	for _, effort := range []Effort{{16, 8}, Default} {
		for _, group := range []int{groupBlocks, len(blocks)} {
			for name, start := range map[string]func(Effort) (*Encoder, error){"trained": NewEncoder, "untrained": NewUntrained} {
				e, err := start(effort)
				if err != nil {
					b.Fatal(err)
				}
				b.Run(fmt.Sprintf("%s/%d/%d", name, effort.Depth, group), func(b *testing.B) {
					size := 0
					measure(b, contentBytes(blocks), func() { _, size = streams(b, e, blocks, group) })
					report(b, blocks, size)
				})
			}
		}
	}
}
