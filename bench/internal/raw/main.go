// Command raw writes the parts of the raw corpus that no tool is needed for. It
// is a part of bench/raw.sh, which makes images of the trees:
//
//	raw DIR [PERCENT]
//
// DIR, which exists, gets
//
//	trees/a, trees/b             two states of a tree of files; what is in both is
//	                             one file with two names
//	trees/make, trees/update     scripts for debugfs: the first fills an empty file
//	                             system with a, the second changes a into b, file
//	                             by file, so that blocks change where they are
//	disk-VERSION-amd64.img       two states of a sparse disk image: some content in
//	                             holes of hundreds of MB, which grow and move
//	records-VERSION-amd64.img    two states of a table of records of 16 bytes, in
//	                             long stretches of the same record, which grow, move
//	                             and change
//
// The sizes are PERCENT of what the corpus has, of 100 by default. The bytes are
// the same each time: they come from ChaCha8 with fixed seeds.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// versions are those of the two states, as images' names have them.
var versions = [2]string{"2024-01-20-120000", "2024-02-03-120000"}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "raw:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 {
		args = append(args, "100")
	}
	if len(args) != 2 {
		return errors.New("want DIR [PERCENT]; see go doc ./internal/raw")
	}
	percent, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil || percent < 1 || percent > 1000 {
		return fmt.Errorf("%q is no percentage from 1 to 1000", args[1])
	}
	dir := args[0]
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if err := writeTrees(filepath.Join(dir, "trees"), percent); err != nil {
		return err
	}
	if err := writeDisks(dir, percent); err != nil {
		return err
	}
	return writeRecords(dir, percent)
}

// image returns the path of an image of the corpus, of the first or second state.
func image(dir, prefix string, state int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%s-amd64.img", prefix, versions[state]))
}

// when returns the time that a state has.
func when(state int) time.Time {
	t, _ := time.Parse("2006-01-02-150405", versions[state])
	return t
}

// seeded returns a source of bytes that are the same for the same seed.
func seeded(of string, n uint64) *rand.ChaCha8 {
	var seed [32]byte
	copy(seed[:24], of)
	for i := range 8 {
		seed[24+i] = byte(n >> (8 * i))
	}
	return rand.NewChaCha8(seed)
}

// create writes a file through a buffer.
func create(path string, write func(w io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// words are what texts are made of, those in front more often.
var words = makeWords()

func makeWords() (all []string) {
	r := rand.New(seeded("words", 0))
	for range 4096 {
		var b strings.Builder
		for range 2 + r.IntN(9) {
			b.WriteByte("etaoinshrdlucmfwypvbgkjqxz"[min(r.IntN(26), r.IntN(26))])
		}
		all = append(all, b.String())
	}
	return all
}

// writeText writes words, which compress to about a third.
func writeText(w io.Writer, r *rand.Rand, size int64) error {
	line := make([]byte, 0, 128)
	for size > 0 {
		line = line[:0]
		for len(line) < 64 {
			line = append(append(line, words[min(r.IntN(len(words)), r.IntN(len(words)), r.IntN(len(words)))]...), ' ')
		}
		line[len(line)-1] = '\n'
		n := min(size, int64(len(line)))
		if _, err := w.Write(line[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}
