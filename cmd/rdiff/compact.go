package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/squashfs"
)

// compactMemory is what the index takes for a compact delta unless an option says
// otherwise, in bytes: what is searched is several times as large as the files.
const compactMemory = 512 << 20

// makeCompact writes the compact delta of two files.
func (j *job) makeCompact(ctx context.Context, out *output, base, target []byte) error {
	start := time.Now()
	info, err := compact.Encode(ctx, out, imageOf(base), imageOf(target), compact.Options{
		Memory: cmp.Or(j.memory, compactMemory) + int64(runtime.GOMAXPROCS(0))*32<<20, Effort: j.effort, Scratch: temporary,
	})
	if err != nil {
		return fmt.Errorf("making the compact delta: %w", err)
	}
	j.statistics("delta", describeCompact(info), info.Target.Size, out.n, start)
	return out.commit()
}

func imageOf(b []byte) compact.Image { return compact.Image{Bytes: b, Blocks: squashfs.Blocks(b)} }

func describeCompact(i compact.Info) string {
	return fmt.Sprintf("compact[%d groups, %d bytes unpacked, %d bytes packed]", i.Groups, i.Unpacked, i.Coded)
}

// isCompact reports whether what is read begins as a compact delta does.
func isCompact(r *bufio.Reader) bool {
	magic, _ := r.Peek(len(compact.Magic)) // what reads on returns the error
	return string(magic) == compact.Magic
}

// patchCompact applies a compact delta.
func (j *job) patchCompact(ctx context.Context, out *output, base io.ReaderAt, d *bufio.Reader, names []string) error {
	start := time.Now()
	file, err := compact.Open(d)
	if err == nil {
		err = file.Decode(ctx, d, base, out, compact.DecodeOptions{})
	}
	if errors.Is(err, compact.ErrBase) {
		return fmt.Errorf("the compact delta %s is for another file than %s: %w", nameOf(names[1]), nameOf(names[0]), err)
	}
	if err != nil {
		return fmt.Errorf("applying the compact delta %s to %s: %w", nameOf(names[1]), nameOf(names[0]), err)
	}
	if _, err := d.ReadByte(); err == nil {
		j.warnTrailing(names[1])
	}
	j.statistics("patch", describeCompact(file.Info()), file.Info().Length, out.n, start)
	return out.commit()
}

// compactInfo is what info prints of a compact delta.
type compactInfo struct {
	Kind     string  `json:"kind"` // "compact delta"
	Size     int64   `json:"size"` // all sizes in bytes
	Target   int64   `json:"targetSize"`
	BLAKE3   string  `json:"targetBLAKE3"`
	Base     int64   `json:"baseSize"`
	BaseSum  string  `json:"baseBLAKE3"`
	Memory   int64   `json:"memory"`
	Unpacked int64   `json:"unpackedBytes"`
	Packed   int64   `json:"packedBytes"`
	Groups   int     `json:"groups"`
	Share    float64 `json:"share"` // of the target's size
}

func readCompactInfo(_ context.Context, r io.Reader, size int64) (doc any, text string, err error) {
	d, err := compact.Open(r)
	if err != nil {
		return nil, "", err
	}
	s := d.Info()
	if size < s.Length {
		return nil, "", fmt.Errorf("it has %d bytes of %d: %w", size, s.Length, io.ErrUnexpectedEOF)
	}
	i := compactInfo{
		Kind: "compact delta", Size: s.Length, Target: s.Target.Size, BLAKE3: s.Target.BLAKE3.String(),
		Base: s.Base.Size, BaseSum: s.Base.BLAKE3.String(), Memory: s.Memory, Unpacked: s.Unpacked, Packed: s.Coded,
		Groups: s.Groups, Share: share(s.Length, s.Target.Size),
	}
	return i, table(
		"compact delta", fmt.Sprintf("%d bytes, %.2f %% of the new file", i.Size, 100*i.Share),
		"new file", fmt.Sprintf("%d bytes, BLAKE3 %s", i.Target, i.BLAKE3),
		"basis", fmt.Sprintf("%d bytes, BLAKE3 %s", i.Base, i.BaseSum),
		"groups", fmt.Sprintf("%d", i.Groups),
		"memory", fmt.Sprintf("%d bytes with four workers", i.Memory),
		"work", fmt.Sprintf("%d bytes unpacked, %d packed", i.Unpacked, i.Packed),
	), nil
}
