// Package cksum computes the digests of a stream in one read, chooses the one to check
// a content by, and parses and formats the two lists of digests of a mirror.
//
// # Digests
//
//   - CRC: the checksum of cksum(1) as POSIX specifies it, a CRC with the
//     polynomial 0x04C11DB7, most significant bit first, initial value 0, over
//     the bytes of the stream followed by its length (least significant byte
//     first, as few bytes as hold it, none for 0), and complemented.
//     It finds accidents, not attacks.
//   - SHA256 and SHA512: FIPS 180-4.
//   - BLAKE3: the default hash mode with 32 bytes of output; the fast one.
//
// [Read] computes them of a stream, [Group] of several streams that are read at the same
// time, and [Hash] of what is written to it. With AVX-512VL, four calls in a Group take
// little more than half the CPU time of four of Read. With AVX2 the CRC costs next to
// nothing. On other processors the digests are the same, and take longer.
//
// # Which digest is compared
//
// A content is proven by one digest of those that a document names for it, the fastest
// ([Sums.Fastest]):
//
//  1. BLAKE3
//  2. SHA-256, where the processor has instructions for it
//  3. SHA-512
//  4. SHA-256
//
// A zero digest is one that the document does not name. Digests of several documents are
// never combined: what one document's digest proves says nothing about another's. For the
// same reason only computed digests of a content are remembered, not those that were named
// with them.
//
// # CKSUMS
//
// The output of cksum(1): a line for each file, of its CRC and its size in
// bytes, both decimal without sign or leading zeros, and its base name,
// separated by one space each.
//
//	930766865 9 a.img
//
// # SHA256SUMS
//
// The output of sha256sum(1) in text mode, which "sha256sum -c" checks: a line
// for each file, of its digest in lower-case hexadecimal, two spaces, and its
// slash-separated path relative to the directory of the list. What writes mirrors writes a
// list for each folder, of base names alone, because systemd-sysupdate(8) of Debian 13 refuses
// a list with a slash.
//
//	15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225  a.rdiff
//
// # Both lists
//
// Every line ends in a newline, the last one too, and is at most 4096 bytes long
// without it. An empty list is valid, an empty line is not. Names and paths are
// valid UTF-8 and have no control character, no backslash (for which sha256sum(1)
// has an escape that is not supported), no leading or trailing slash, and no
// element that is empty, "." or "..". No name has two lines, except that a line may
// be repeated unchanged, as the predecessor does for an image of two series: it
// counts once. Lists are written in the byte order of the names, and read in any
// order.
//
// # Sources
//
//   - https://pubs.opengroup.org/onlinepubs/9799919799/utilities/cksum.html
//   - https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html
//   - https://github.com/BLAKE3-team/BLAKE3-specs
package cksum

import (
	"context"
	"hash"
	"io"

	"github.com/zeebo/blake3"
)

// Sums is the size and the digests of a stream. Two Sums are equal (==) if all
// of them are.
type Sums struct {
	Size   int64     `json:"size"`  // in bytes
	CRC    uint32    `json:"cksum"` // of cksum(1), over the bytes and the size
	SHA256 Digest256 `json:"sha256"`
	SHA512 Digest512 `json:"sha512"`
	BLAKE3 Digest256 `json:"blake3"`
}

// Read reads r to its end and returns its Sums. It checks ctx before and after each
// read of up to 256 KiB, but cannot interrupt one. It uses up to three cores while
// it reads, as [Hash] does, and none after it returns. What it reads is also written to
// each of also, see [Hash.Also].
//
// If ctx has ended, even during the last read, the error is ctx.Err(); otherwise
// Read wraps an error of r. With an error, the Sums are zero.
func Read(ctx context.Context, r io.Reader, also ...io.Writer) (Sums, error) {
	h := New()
	for _, w := range also {
		h.Also(w)
	}
	defer h.running.Wait()
	if err := h.readAll(ctx, r); err != nil {
		return Sums{}, err
	}
	return h.Sums(), nil
}

// NewBLAKE3 returns a hash whose Sum appends the BLAKE3 of [Sums], for callers that
// need no other digest. It is not safe for concurrent use.
func NewBLAKE3() hash.Hash { return blake3.New() }
