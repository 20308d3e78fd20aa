package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"puavo-image-repository/delta"
	"puavo-image-repository/delta/compact"
)

// signatureInfo is what info prints of a signature.
type signatureInfo struct {
	Kind      string `json:"kind"` // "signature"
	Size      int64  `json:"size"` // all sizes and lengths in bytes
	Weak      string `json:"weak"`
	Strong    string `json:"strong"`
	BlockLen  int    `json:"blockLength"`
	StrongLen int    `json:"strongLength"`
	Blocks    int64  `json:"blocks"`
	BaseLeast int64  `json:"baseSizeLeast"`
	BaseMost  int64  `json:"baseSizeMost"`
}

// deltaInfo is what info prints of a delta.
type deltaInfo struct {
	Kind         string  `json:"kind"` // "delta"
	Size         int64   `json:"size"`
	Target       int64   `json:"targetSize"`
	BaseLeast    int64   `json:"baseSizeLeast"`
	Copies       int64   `json:"copies"`
	CopyBytes    int64   `json:"copyBytes"`
	Literals     int64   `json:"literals"`
	LiteralBytes int64   `json:"literalBytes"`
	Share        float64 `json:"share"` // of the target's size
}

// info is: info [FILE].
func info(ctx context.Context, j *job, names []string) error {
	f, size, err := j.whole(ctx, names[0])
	if err != nil {
		return err
	}
	magic := make([]byte, len(compact.Magic))
	n, _ := f.ReadAt(magic, 0) // the read proper returns the error
	read := readSignatureInfo
	switch {
	case isDelta(magic[:n]):
		read = readDeltaInfo
	case string(magic[:n]) == compact.Magic:
		read = readCompactInfo
	}
	doc, text, err := read(ctx, io.NewSectionReader(f, 0, size), size)
	if err != nil {
		return fmt.Errorf("reading %s: %w", nameOf(names[0]), err)
	}
	if j.json {
		b, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return err
		}
		_, err = j.stdout.Write(append(b, '\n'))
		return err
	}
	_, err = io.WriteString(j.stdout, text)
	return err
}

func readSignatureInfo(_ context.Context, r io.Reader, size int64) (doc any, text string, err error) {
	s, err := delta.ReadSignature(r)
	if err != nil {
		return nil, "", err
	}
	i := signatureInfo{
		Kind: "signature", Size: size, Weak: "RabinKarp", Strong: "BLAKE2b",
		BlockLen: s.BlockLen, StrongLen: s.StrongLen, Blocks: s.Blocks,
		BaseMost: s.Blocks * int64(s.BlockLen),
	}
	if s.Magic == delta.RollsumMD4 || s.Magic == delta.RollsumBLAKE2 {
		i.Weak = "rollsum"
	}
	if s.Magic == delta.RollsumMD4 || s.Magic == delta.RabinKarpMD4 {
		i.Strong = "MD4"
	}
	if i.Blocks > 0 {
		i.BaseLeast = i.BaseMost - int64(i.BlockLen) + 1
	}
	return i, table(
		"signature", fmt.Sprintf("%d bytes", size),
		"sums", fmt.Sprintf("%s, %d bytes of %s", i.Weak, i.StrongLen, i.Strong),
		"blocks", fmt.Sprintf("%d of %d bytes", i.Blocks, i.BlockLen),
		"basis", fmt.Sprintf("%d to %d bytes", i.BaseLeast, i.BaseMost),
	), nil
}

func readDeltaInfo(ctx context.Context, r io.Reader, size int64) (doc any, text string, err error) {
	s, err := delta.Inspect(ctx, r)
	if err != nil {
		return nil, "", err
	}
	i := deltaInfo{
		Kind: "delta", Size: size, Target: s.Target(), BaseLeast: s.BaseEnd,
		Copies: s.Copies, CopyBytes: s.CopyBytes, Literals: s.Literals, LiteralBytes: s.LiteralBytes,
		Share: share(size, s.Target()),
	}
	commands := func(n, bytes int64) string {
		return fmt.Sprintf("%d of %d bytes, %.2f %% of the new file", n, bytes, 100*share(bytes, i.Target))
	}
	return i, table(
		"delta", fmt.Sprintf("%d bytes, %.2f %% of the new file", size, 100*i.Share),
		"new file", fmt.Sprintf("%d bytes", i.Target),
		"basis", fmt.Sprintf("%d bytes or more", i.BaseLeast),
		"copies", commands(i.Copies, i.CopyBytes),
		"literals", commands(i.Literals, i.LiteralBytes),
	), nil
}

// share returns n as a part of all, 0 if that is nothing.
func share(n, all int64) float64 { return float64(n) / float64(max(all, 1)) }

// table returns pairs of names and values as text.
func table(cells ...string) string {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i := 0; i < len(cells); i += 2 {
		fmt.Fprintf(t, "%s\t%s\n", cells[i], cells[i+1])
	}
	t.Flush() // a bytes.Buffer never fails
	return b.String()
}
