// Package compact makes and applies compact deltas, which are a fraction of an rdiff delta
// where images hold packed blocks, as squashfs images do. It works on bytes and lists of
// blocks, and knows neither paths nor squashfs; package squashfs, below it, lists blocks.
//
// One changed byte in a file changes all of its packed block, and an rdiff delta has the
// block. A compact delta has what changed in what the block holds, its content, and makes the
// packed bytes again, bit for bit, without the compressor that made them: a block of LZO1X is
// its content and a list of tokens, and whoever has the content can say nearly all of the
// tokens in advance. So they cost a fraction of a percent. What is no such block is bytes as
// they are, and then a compact delta is an rdiff delta with better matches and compressed.
//
// This is the specification of version 1.
//
// # Terms
//
//   - base, target: the images that a delta starts from and makes
//   - content: what a packed block holds, unpacked; of other bytes, these themselves
//   - extent: a block of the base that the delta unpacks
//   - space: the base with all extents replaced by their contents. A place is an offset in it
//   - group: a part of the target that is made without other groups
//   - section: a part of the file that has the streams of some groups
//
// Numbers of fixed size are little-endian. A varint is that of protobuf: seven bits a byte,
// the lowest first, the high bit set in all bytes but the last. A signed varint is a varint
// of 2n for n of at least 0, or of -2n-1. Digests are BLAKE3.
//
// # File
//
//	offset  bytes
//	     0      8  magic: 89 43 44 45 4c 54 41 0a
//	     8      1  version: 1
//	     9      1  depth of the token codec, 1 to 255
//	    10      1  allowance of the token codec, 1 to 255
//	    11      1  0
//	    12      4  flags. Whoever does not know one of the lower 16 that is set must refuse the
//	               file; the others may be ignored. Version 1 has none
//	    16      8  size of the base
//	    24     32  digest of the base
//	    56      8  size of the target
//	    64     32  digest of the target
//	    96      8  memory that applying takes with four workers, in bytes
//	   104      8  work: bytes of content of extents that are unpacked, an extent counted once
//	               for each group that needs it
//	   112      8  work: bytes of content of the target's blocks that are packed
//	   120      4  the largest content of an extent or of a block of the target
//	   124      4  number of extents
//	   128      4  number of sections
//	   132      4  number of groups
//	   136      4  length of the tables
//	   140     32  digest of the bytes before this, and of the tables
//	   172         tables
//	               sections, one after another to the end of the file
//
// The tables are a piece of the extents, a piece of the index, and 16 bytes for each group:
// the first half of the digest of what it makes.
//
// The extents are in order of their offsets and do not overlap. Each has two varints and a
// signed one: how far its packed bytes start behind the end of the extent before, or behind 0;
// their length; and the length of its content, less that of the extent before, or less 0.
//
// The index has two varints for each section, the length of the section and the number of its
// groups, and then one for each group: how many bytes of the target it makes.
//
// # Pieces
//
// A piece is a list of bytes, compressed on its own:
//
//	1 byte   codec: 0 stored, 1 zstd, 2 LZMA; others are refused
//	varint   number of the bytes, at most 8 MiB
//	varint   length of what follows, less than the number; not if it is stored
//	         what the codec makes of the bytes
//
// zstd is one frame of RFC 8878 without a dictionary and with a window of at most 8 MiB. LZMA
// is one byte of properties, (5pb + lp) * 9 + lc with lc + lp of at most 4, and an LZMA stream
// without a header, which may have a marker of its end.
//
// # Sections
//
// A section is eight pieces. The first is the table of its groups: for each group, the lengths
// of its parts of the seven streams as varints. The others are the streams, in this order; the
// parts of the groups lie in them one after another.
//
//	operations   what the group makes
//	runs         lengths of runs of new bytes, which commands begin with
//	lengths      lengths of copies, which commands end with
//	places       where these copies come from
//	literals     new bytes
//	differences  what is added to bytes of the base
//	tokens       how blocks are packed
//
// # Groups
//
// A group has content, and operations that make bytes of the target of it, in order. An
// operation is a varint, 4n + kind, with an n of at least 1:
//
//	0  n bytes of the base as they are. A signed varint follows: where they start, less where
//	   the bytes of the last such operation of the group ended, or less the offset of the
//	   group in the target
//	1  the next n bytes of the content, packed as one block of LZO1X
//	2  the next n bytes of the content as they are
//	3  reserved, and refused
//
// The content of a group is made by commands, until it has as many bytes as the operations
// ask for. A command is a run and a copy. It has a varint of runs, the length of the run, a
// varint of lengths, the length of the copy, and a varint of places. The copy, and what it
// has before it, starts at a place that is counted from where the last copy of the group
// ended, or from 0, plus the length of the run:
//
//	0       there. The run is as many bytes of the space before that place, to each of which
//	        a byte of differences is added, modulo 256
//	1       there. The run is literals
//	2d      d behind. The run is literals
//	2d + 1  d before. The run is literals
//
// with d of at least 1. A copy may be of nothing, to change the place. Bytes that a copy or
// differences need must be within the space. The last command is a run of literals alone, if
// the content is complete then and the group has no more lengths. All streams of a group are
// used to their ends.
//
// For example, where the space has "abcdefghijklmnopqrstuvwxyz", the runs 0 2 1, lengths 4 5,
// places 4 0, literals "!" and differences 00 01 make "cdef" "gi" "ijklm" "!".
//
// # Blocks
//
// Of a block the content is made first. Its tokens are coded by how they differ from those
// that the content suggests: package internal/token specifies how, and the probabilities that
// each group starts with. The block is the canonical one of package internal/lzo. Blocks for
// which this would not give the block of the target are bytes as they are, as are all blocks
// that are longer than their content or shorter than a 32nd of it.
//
// # Limits
//
// A decoder refuses what is beyond them, before it allocates memory for it:
//
//	base and target              2^48 bytes
//	content of a block, extent   1 MiB, and packed no more than it
//	blocks                       packed no less than a 32nd of their content
//	extents, groups              2^20, 2^18
//	content of a group           8 MiB
//	of the target, a group       1 byte to 64 MiB
//	blocks, operations           64, 4096 a group
//	commands                     131072 a group; as many parts of copies, cut at the ends of
//	                             extents
//	groups of a section          1 to 4096
//	streams of a section         12 MiB, each 8 MiB
//	unpacked content, a group    16 MiB, and 64 times what the group makes of the target
//	work                         what the head says
//
// So applying takes memory that the head implies: with workers w, extents and groups n, and
// the largest content b,
//
//	2 * 12 MiB + 8 MiB + 64n + w * (8 MiB + 3 MiB + 3 MiB + 28b + 256 KiB)
//
// bytes at most, which is 109 MB for images of some gigabytes with blocks of 128 KiB and four
// workers. It takes time for the bytes of the base that are unpacked, the content that is
// packed, and the target.
//
// # What a delta cannot do
//
// A compact delta is not trusted. The head's digest is that of the head as it stands in the
// file, so it finds accidents, not attacks: who applies a delta knows its digest, or that of
// the target. No group is written before what it makes was compared with its digest, and the
// base is compared before the first, so that a wrong base leaves nothing behind.
//
// # How a delta is applied
//
//	a goroutine             a worker a core                    in the order of groups
//	file -> streams of   -> group n:   content -> target    -> w
//	two sections            group n+1: content -> target
//
// Of two sections the streams are in memory: of the one that is read, and of the one whose
// groups are made. Each worker has the content of one group. It sorts the copies by their
// places, so that it unpacks each extent once, packs the content where it stands, compares the
// digest, waits for its turn, and writes. Bytes of the base as they are are read twice: for
// the digest, and to be written.
//
// A download that broke off goes on in the middle: what was written is a number of groups,
// and Start says where the section begins that has the next.
//
// # How a delta is made
//
// What of the target the base has as it is, is found first, by blocks and by stretches at the
// same distance. The rest is unpacked, and so is all of the base, since a new file
// resembles an old one that is still there. Then the engine of package delta finds copies.
// Short ones are left out where they are dearer than the bytes. A copy is extended over
// bytes that differ here and there, and what lies between two copies that go on is made of
// differences where they are mostly zeros: in tables whose numbers are shifted, and in
// programs whose addresses are, these repeat and become next to nothing. A stream is
// compressed by zstd, and, unless speed is asked for, by LZMA, which is taken where it is
// smaller by three percent.
package compact
