// Package delta makes, applies and inspects deltas in the format of rdiff(1), and
// makes and uses rdiff signatures. It works on bytes and streams, and knows no
// paths and no images.
//
// # The delta format
//
// A delta rebuilds a target from a base. It is a magic number, 72 73 02 36,
// followed by commands. Numbers are unsigned and big-endian, lengths and
// offsets count bytes.
//
//	opcode     command
//	0x00       end of the delta; nothing follows
//	0x01-0x40  literal: the opcode is the length n; n bytes follow
//	0x41-0x44  literal: a length n of 1, 2, 4 or 8 bytes, then n bytes
//	0x45-0x54  copy: an offset in the base of 1, 2, 4 or 8 bytes, then a length
//	           of 1, 2, 4 or 8 bytes; opcode = 0x45 + 4*log2(offset bytes) +
//	           log2(length bytes)
//	others     reserved
//
// The commands yield the target from its first byte to its last. For example,
// "take 5 bytes of the base from offset 256, then XY":
//
//	72 73 02 36  49 0100 05  02 58 59  00
//
// A length of zero is an error, as it is for rdiff. So is data after the end, which
// rdiff ignores: ErrTrailing. The source of the format is
// librsync: doc/formats.md, and the table of opcodes in its prototab.c. librsync
// itself only writes copies of whole blocks; the format allows any range, and
// every rdiff patch applies any range.
//
// # What a delta cannot do
//
// A delta is not trusted: anybody may have made it, and it alone says how large its
// target is. No command reads outside the base or writes more than the target may
// have. A length allocates no memory before its bytes arrive. Time is proportional
// to the bytes of the delta and of the target; at worst, each copy, of at least 3
// bytes, reads one byte of the base and 8 KiB ahead. A signature is not trusted
// either: where its sums collide as they do only by intent, Diff omits matches.
//
// # The signature format
//
// A signature replaces a base that is not available when the delta is made:
//
//	4 bytes  magic: 72730136 rollsum and MD4, 72730137 rollsum and BLAKE2b,
//	         72730146 RabinKarp and MD4, 72730147 RabinKarp and BLAKE2b
//	4 bytes  block length
//	4 bytes  strong sum length, up to 16 (MD4) or 32 (BLAKE2b-256)
//
// and then, for each block of the base, 4 bytes of weak sum and as many bytes of
// strong sum as the header says. The last block may be short. Signer writes all
// four; package sums says what the sums are. Rollsum and BLAKE2b is what every
// rdiff since librsync 1.0 reads.
//
// # How a delta is made
//
// librsync's algorithm is for a maker who has only the base's signature. Diff
// has both files, so it needs no strong sums and no grid of blocks: it finds
// places where base and target may agree, compares the bytes, and extends each
// agreement to its true ends. It does so in two passes.
//
// The first pass finds long matches anywhere. A place to look at is called a
// seed: 32 bytes that start at some position. To remember every seed of the base
// would need many times its size, so seeds are sampled by their content: a seed
// counts only where its first four bytes, multiplied by a constant, are below a
// threshold, one position in 2^s. Since only these bytes decide, the same content is
// sampled in base and target alike, wherever it stands. An Index holds one slot a
// sampled seed of the base: 40 bits of position and 24 bits of a hash of all 32 bytes,
// which turn most misses away without a look at the base. Of two seeds that want one
// slot the one that stands first gets it. At each sample of the target the diagonal,
// where the last match would go on, is tried before the table.
//
// What is lost by sampling: a stretch that base and target share is found only
// if it holds a sample that has its slot, so one of n times 2^s bytes is missed
// with a chance of about e^-n, and what is shorter than a seed always.
//
// The second pass, the gap search, wins most of that back. What changed between two
// images often changed in place: between two matches that lie near each other in
// the target, the base has content that is nearly the gap's. So the search hashes
// the stretch of the base where it expects the gap's content, 8 bytes at every 4th
// position, into a table that fits the processor's first-level cache, and scans the
// gap for matches down to some dozen bytes. Where nothing has matched for long, it
// scans in longer and longer steps.
//
// Runs, stretches of 128 bytes or more that repeat a period of 1 to 64 bytes, as
// zeros do, would defeat both passes. All their seeds are alike, or as many as the
// period is long, and where a run is longer in the target than in the base, no match
// goes on to its end. So an Index has no seeds from within a run, but the place of the
// longest run of each kind, of 4096 kinds at most. A run in a gap of the target that
// the base does not have in place is made of copies of that longest one, each of as
// many whole periods as it has. Runs are looked for at every 60th byte, where four
// bytes that stand again 1 to 64 bytes further on give a run away.
//
// The target is searched in pieces of 4 MiB, so that all cores work; a match that
// spans pieces becomes one copy again when they are written in order. A copy that
// would take more bytes than a literal is left out.
//
// # How a delta is made from a signature
//
// Blocks.Diff does what rdiff does: the weak sum of a block's length is rolled
// over the target byte by byte, and where a block of the base has that sum and the
// strong one too, it is copied. Matches are whole blocks, and the base's last,
// short block at the target's end. What makes it fast is that the sums of a
// thousand positions are computed first and then looked up, in a filter of three
// bits a block, where no look waits for another; and that pieces of the target are
// searched on all cores. A block that spans two pieces belongs to the one where it
// begins, and what the next piece has found there too is cut off.
//
// A target that can be read only once, as from a pipe, needs no more than a window of
// it in memory: Blocks.DiffStream reads a piece, and the stretch behind it in which a
// run of blocks that began in the piece may go on, while the pieces before it are
// searched.
//
//	reads in order        a goroutine a piece      writes in order
//	target -> piece n+2   piece n+1 -> matches     piece n, its matches -> delta
//
// The caller's goroutine reads and writes; between the two at most two pieces a core
// wait. What a piece matches depends on it and the stretch alone, so the matches are
// those of Diff. Only the length of a literal must be known before its bytes are
// written; so after 1 MiB without a match a literal ends, and the next begins.
//
// A delta from a signature can be verified without the base. Blocks.Recall says what the base
// has where the delta copies from it: what the target has there, if those bytes
// have the strong sum that the signature gives for the block. That is as good as the
// base, since nobody can find two blocks with one BLAKE2b-256 sum, by chance or by
// intent: bytes with the sum of the base's block are the base's block. All else is
// an error, so a delta that is applied to it and gives the target's digest makes the
// target from the true base, as long as the signature is that of the base.
//
// # What it costs
//
// Time is linear: for most bytes of base and target a multiplication and a compare,
// eight bytes at a time where package kernel has assembly for the processor, and for
// those in gaps a hash and a load. Memory is the table, 8 bytes
// a slot and two slots or more a sample, outside of Go's heap; NewIndex chooses s so
// that the table fits its budget.
//
// A smaller table means a coarser sampling, of which the gap search makes good
// most. The sizes of deltas of images of 1.5 GB, as shares of what rdiff makes of
// them with blocks of 128 bytes, for a release to its security updates and for
// three applications fewer (rdiff diff --memory, the pairs of bench/corpus.sh):
//
//	memory    updates    applications
//	   1 MiB    0.912           1.497
//	   4 MiB    0.896           0.827
//	  16 MiB    0.886           0.665
//	  64 MiB    0.879           0.615
//	 256 MiB    0.875           0.598
//	1024 MiB    0.873           0.594
package delta
