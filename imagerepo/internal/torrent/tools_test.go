package torrent_test

import (
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/testdata"
)

// contents are of a byte, of a whole piece, of one and a byte, and of many pieces.
var contents = map[string][]byte{
	"one.rdiff": random(1), "whole.rdiff": random(1 << 15), "more.rdiff": random(1<<15 + 1), "many ä.img": random(1<<20 - 3),
}

// mktorrent makes a torrent with the same info hash, and nothing but its name besides.
func TestMktorrent(t *testing.T) {
	t.Parallel()
	for name, content := range contents {
		dir := t.TempDir()
		file, theirs := filepath.Join(dir, name), filepath.Join(dir, "theirs.torrent")
		if err := os.WriteFile(file, content, 0o666); err != nil {
			t.Fatal(err)
		}
		f := made(name, content)
		testdata.Run(t, "mktorrent", "-d", "-l", fmt.Sprint(bits.TrailingZeros64(uint64(f.PieceLength))),
			"-a", tracker, "-a", backup, "-w", seed+","+other, "-o", theirs, file)
		data, err := os.ReadFile(theirs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := torrent.Parse(data)
		if err != nil {
			t.Errorf("%s: theirs: %v", name, err)
			continue
		}
		ours, err := torrent.Make(f, []string{tracker, backup}, []string{seed, other})
		if err != nil {
			t.Fatal(err)
		}
		want, err := torrent.Parse(ours)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: theirs %+v\nours %+v, %v", name, got, want, err)
		}
		if without := strings.Replace(string(data), "10:created by13:mktorrent 1.1", "", 1); without != string(ours) {
			t.Errorf("%s: mktorrent writes %q, want %q", name, without, ours)
		}
	}
}

// transmission-show reads what we make, and says of it what is in it.
func TestTransmission(t *testing.T) {
	t.Parallel()
	for name, content := range contents {
		f := made(name, content)
		data, err := torrent.Make(f, []string{tracker, backup}, []string{seed, other})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := torrent.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "a.torrent")
		if err := os.WriteFile(file, data, 0o666); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(testdata.Run(t, "transmission-show", file))) {
			lines = append(lines, strings.TrimSpace(line))
		}
		for _, want := range []string{
			"Name: " + name, fmt.Sprintf("Hash: %x", parsed.InfoHash), fmt.Sprintf("Piece Count: %d", len(f.Pieces)/20),
			"Piece Size: 32.00 KiB", "Privacy: Public torrent", "Created on: Unknown", "Tier #1", "Tier #2", tracker, backup, seed, other,
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("%s: no line %q in %q", name, want, lines)
			}
		}
	}
}
