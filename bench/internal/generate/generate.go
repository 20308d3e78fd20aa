// Package generate writes corpora that no tool is needed for: the same bytes each
// time, of ChaCha8 with a fixed seed.
package generate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Pair writes a base and a target together, block by block: incompressible bytes,
// of which about a third changes in pieces of all lengths, moves, or is new.
func Pair(base, target string, size int64) error {
	b, err := os.Create(base)
	if err != nil {
		return err
	}
	defer b.Close()
	t, err := os.Create(target)
	if err != nil {
		return err
	}
	defer t.Close()
	bw, tw := bufio.NewWriterSize(b, 1<<20), bufio.NewWriterSize(t, 1<<20)
	noise := rand.NewChaCha8([32]byte([]byte(strings.Repeat("rs\x02\x36", 8))))
	r := rand.New(noise)
	block, fresh := make([]byte, 1<<20), make([]byte, 1<<20)
	for done := int64(0); done < size; done += int64(len(block)) {
		noise.Read(block)
		bw.Write(block)
		switch r.IntN(6) {
		case 0: // new
			noise.Read(fresh)
			tw.Write(fresh[:r.IntN(len(fresh))])
		case 1: // changed in many places
			for at := 0; at < len(block); at += 16 + r.IntN(4096) {
				block[at]++
			}
			tw.Write(block)
		default:
			tw.Write(block)
		}
	}
	if err := bw.Flush(); err != nil {
		return err
	}
	return tw.Flush()
}

// Images tells of a directory of images.
type Images struct {
	Series, Versions int
	Size             int64 // about that of each image, in bytes
	Packs            bool  // whether the bytes can be compressed, to half their number
}

// Write makes a directory of images of incompressible bytes, unless they shall pack. When ctx ends, it
// returns an error, and leaves what there is.
func (s Images) Write(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte([]byte(strings.Repeat("rs\x02\x36", 8))))
	for i := range s.Series {
		before := ""
		for v := range s.Versions {
			if err := ctx.Err(); err != nil {
				return err
			}
			version := time.Date(2024, 1, 1+v, 12, 0, 0, 0, time.UTC).Format("2006-01-02-150405")
			path := filepath.Join(dir, fmt.Sprintf("puavo-os-series%02d-%s-amd64.img", i, version))
			if err := s.create(path, before, noise); err != nil {
				return err
			}
			before = path
		}
	}
	return nil
}

// create writes an image, as a change of the one before it if there is one.
func (s Images) create(path, before string, noise *rand.ChaCha8) error {
	var fresh io.Reader = noise
	if s.Packs {
		fresh = digits{noise}
	}
	r := io.LimitReader(fresh, s.Size)
	if before != "" {
		f, err := os.Open(before)
		if err != nil {
			return err
		}
		defer f.Close()
		r = f
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := change(w, bufio.NewReaderSize(r, 1<<20), fresh, noise); err != nil {
		return err
	}
	return w.Flush()
}

// digits has a hexadecimal digit for each byte of a reader.
type digits struct{ io.Reader }

func (d digits) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	for i, b := range p[:n] {
		p[i] = "0123456789abcdef"[b&15]
	}
	return n, err
}

// change copies, and replaces about a tenth: stretches of up to 32 KiB with fresh
// ones of another length.
func change(w io.Writer, r *bufio.Reader, fresh io.Reader, noise *rand.ChaCha8) error {
	const stretch = 32 << 10
	random := rand.New(noise)
	for {
		if _, err := io.CopyN(w, r, random.Int64N(9*stretch)); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := io.CopyN(w, fresh, random.Int64N(stretch)); err != nil {
			return err
		}
		if _, err := r.Discard(random.IntN(stretch)); err != nil && err != io.EOF {
			return err
		}
	}
}
