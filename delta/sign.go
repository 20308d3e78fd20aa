package delta

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"runtime"
	"slices"

	"puavo-image-repository/delta/internal/blocks"
	"puavo-image-repository/delta/internal/sums"
)

// Magic is the magic number of a signature, which names its weak and strong sums.
type Magic uint32

const (
	RollsumMD4      Magic = 0x72730136
	RollsumBLAKE2   Magic = 0x72730137
	RabinKarpMD4    Magic = 0x72730146
	RabinKarpBLAKE2 Magic = 0x72730147 // rdiff's default
)

// SignBlockLen is rdiff's block length for a base of unknown size, in bytes.
const SignBlockLen = 2048

// Kept is the form of the signatures that this project keeps. Every rdiff since
// librsync 1.0 reads them: 36 bytes for each 2048 of the base.
var Kept = Signature{Magic: RollsumBLAKE2, BlockLen: SignBlockLen, StrongLen: sums.MaxStrong}

// Signature is the form of a signature, and the number of blocks that it signs.
type Signature struct {
	Magic               Magic
	BlockLen, StrongLen int   // bytes
	Blocks              int64 // how many blocks are signed
}

// Shortest, as the strong length, is the shortest that is safe.
const Shortest = -1

// NewSignature returns the form that rdiff gives the signature of a base of size
// bytes, -1 if that is not known. A block length of 0 is about the square root of
// the size, and 2048 for an unknown one. A strong length of 0 is the longest.
// Shortest is the shortest that makes a delta with a wrong block practically
// impossible, unless somebody makes sums collide by intent.
func NewSignature(magic Magic, blockLen, strongLen int, size int64) (Signature, error) {
	s := Signature{Magic: magic, BlockLen: blockLen, StrongLen: strongLen}
	if blockLen == 0 {
		s.BlockLen = recommendedBlockLen(size)
	}
	switch strongLen {
	case 0:
		s.StrongLen = sums.StrongLen(s.md4())
	case Shortest:
		s.StrongLen = shortestStrongLen(s.BlockLen, size)
	}
	return s, s.check()
}

// recommendedBlockLen is librsync's: the root of the size, 256 at least, in whole
// blocks of BLAKE2b.
func recommendedBlockLen(size int64) int {
	switch {
	case size < 0:
		return SignBlockLen
	case size <= 256*256:
		return 256
	default:
		return root(size) &^ 127
	}
}

// root returns the square root of n, rounded down.
func root(n int64) int {
	r := int64(math.Sqrt(float64(n)))
	for r*r > n {
		r--
	}
	for (r+1)*(r+1) <= n {
		r++
	}
	return int(r)
}

// shortestStrongLen is librsync's: with each position of a target compared with
// each block, 32 bits more than what makes a false match likely, of which the
// weak sum is worth 16.
func shortestStrongLen(blockLen int, size int64) int {
	if size < 0 || blockLen < 1 {
		return 12
	}
	log2 := func(n int64) int { return bits.Len64(uint64(n)) - 1 }
	return 2 + (log2(size+1<<24)+log2(size/int64(blockLen)+1)+7)/8
}

func (s Signature) md4() bool { return s.Magic == RollsumMD4 || s.Magic == RabinKarpMD4 }

func (s Signature) weak() sums.Weak {
	return s.Magic == RabinKarpMD4 || s.Magic == RabinKarpBLAKE2
}

// check reports what is wrong with a signature's form.
func (s Signature) check() error {
	switch s.Magic {
	case RollsumMD4, RollsumBLAKE2, RabinKarpMD4, RabinKarpBLAKE2:
	default:
		return fmt.Errorf("%w: magic number %08x is not a signature's", ErrMagic, uint32(s.Magic))
	}
	if longest := sums.StrongLen(s.md4()); s.StrongLen < 1 || s.StrongLen > longest {
		return malformed("strong sums of %d bytes, want 1 to %d", s.StrongLen, longest)
	}
	if s.BlockLen < 1 || s.BlockLen > math.MaxInt32 {
		return malformed("block length %d, want 1 to %d", s.BlockLen, math.MaxInt32)
	}
	return nil
}

// each is the length of one block's sums in bytes.
func (s Signature) each() int { return 4 + s.StrongLen }

// Fits reports whether the signature can be that of a base of size bytes.
func (s Signature) Fits(size int64) bool { return s.Blocks == s.blocks(size) }

// blocks returns how many blocks a base of size bytes has.
func (s Signature) blocks(size int64) int64 {
	n := int64(s.BlockLen)
	return size/n + min(1, size%n)
}

// SignatureSize returns the size in bytes of the signature, in the form Kept, of
// a base of size bytes.
func SignatureSize(size int64) int64 {
	return signatureHeader + Kept.blocks(size)*int64(Kept.each())
}

// signatureHeader is the length of a signature's header in bytes.
const signatureHeader = 12

func (s Signature) appendHeader(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(s.Magic))
	b = binary.BigEndian.AppendUint32(b, uint32(s.BlockLen))
	return binary.BigEndian.AppendUint32(b, uint32(s.StrongLen))
}

// readHeader reads the header of a signature and checks it.
func readHeader(r io.Reader) (s Signature, err error) {
	var b [signatureHeader]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return s, cut(err, "the signature ends within its header")
	}
	s.Magic = Magic(binary.BigEndian.Uint32(b[0:]))
	s.BlockLen = int(binary.BigEndian.Uint32(b[4:]))
	s.StrongLen = int(binary.BigEndian.Uint32(b[8:]))
	if err := s.check(); err != nil {
		return Signature{}, err
	}
	return s, nil
}

// count sets the number of blocks from the length of their sums.
func (s *Signature) count(length int64) error {
	each := int64(s.each())
	if length%each != 0 {
		return cut(io.ErrUnexpectedEOF, "the signature ends within a block's sums")
	}
	s.Blocks = length / each
	if s.Blocks > blocks.MaxBlocks {
		return malformed("a signature of %d blocks is more than the %d that are supported", s.Blocks, int64(blocks.MaxBlocks))
	}
	return nil
}

// ReadSignature reads a whole signature and checks its form, not the sums in it.
// Errors in the signature wrap ErrFormat.
func ReadSignature(r io.Reader) (Signature, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	s, err := readHeader(br)
	if err != nil {
		return Signature{}, err
	}
	// What is longer is refused, however long it is.
	length, err := io.Copy(io.Discard, io.LimitReader(br, (blocks.MaxBlocks+1)*int64(s.each())))
	if err != nil {
		return Signature{}, err
	}
	if err := s.count(length); err != nil {
		return Signature{}, err
	}
	return s, nil
}

// Signer is an io.WriteCloser that writes the rdiff signature of the bytes written
// to it. It signs blocks on all cores, in batches of 256 KiB, or of one block if
// that is longer, and holds one batch a core and one more in memory. It is not for
// concurrent use.
type Signer struct {
	Signature
	w       *bufio.Writer
	batch   *signBatch        // the one begun
	limit   int               // of a batch's data
	pending []chan *signBatch // those that are being signed, in order
	free    []*signBatch      // to be used again
	err     error
}

// signBatch is whole blocks, but for the base's last one, and their sums.
type signBatch struct{ data, sums []byte }

// NewSigner returns a Signer that writes a signature of this form to w. It ignores
// form.Blocks. A later Write, or Close, returns errors in the form and those of w.
func NewSigner(w io.Writer, form Signature) *Signer {
	s := &Signer{Signature: form, w: bufio.NewWriter(w), batch: new(signBatch), err: form.check()}
	if s.err != nil {
		s.err = fmt.Errorf("no signature can be made: %w", s.err)
		return s
	}
	s.limit = max(1, 256<<10/form.BlockLen) * form.BlockLen
	_, s.err = s.w.Write(form.appendHeader(nil))
	return s
}

// Write signs p.
func (s *Signer) Write(p []byte) (n int, err error) {
	for s.err == nil && n < len(p) {
		part := min(len(p)-n, s.limit-len(s.batch.data))
		s.batch.data = append(s.batch.data, p[n:n+part]...)
		n += part
		if len(s.batch.data) == s.limit {
			s.sign()
		}
	}
	return n, s.err
}

// Close signs the last, short block and writes all sums that are left. It does not
// close the underlying writer.
func (s *Signer) Close() error {
	if len(s.batch.data) > 0 {
		s.sign()
	}
	for len(s.pending) > 0 {
		s.writeNext()
	}
	if s.err != nil {
		return s.err
	}
	return s.w.Flush()
}

// sign begins to sign the batch, and waits for the first of those that are being
// signed if they are many.
func (s *Signer) sign() {
	b, done := s.batch, make(chan *signBatch, 1)
	// It ends by itself, also where nobody waits: the channel has room.
	go func() {
		s.sum(b)
		done <- b
	}()
	s.pending = append(s.pending, done)
	if len(s.pending) > runtime.GOMAXPROCS(0) {
		s.writeNext()
	}
	s.batch = new(signBatch)
	if n := len(s.free); n > 0 {
		s.batch, s.free = s.free[n-1], s.free[:n-1]
	}
}

// writeNext waits for the sums that are next and writes them.
func (s *Signer) writeNext() {
	b := <-s.pending[0]
	s.pending = s.pending[1:]
	if s.err == nil {
		_, s.err = s.w.Write(b.sums)
	}
	b.data, b.sums = b.data[:0], b.sums[:0]
	s.free = append(s.free, b)
}

// sum computes the sums of a batch.
func (s *Signer) sum(b *signBatch) {
	strong := sums.NewStrong(s.md4())
	for block := range slices.Chunk(b.data, s.BlockLen) {
		b.sums = binary.BigEndian.AppendUint32(b.sums, s.weak().Sum(block))
		b.sums = append(b.sums, strong.Sum(block)[:s.StrongLen]...)
	}
}
