package delta

import (
	"bufio"
	"encoding/binary"
	"io"

	"golang.org/x/crypto/blake2b"
)

// The magic numbers of signatures: weak sum and strong sum.
const (
	rollsumMD4      = 0x72730136
	rollsumBLAKE2   = 0x72730137
	rabinKarpMD4    = 0x72730146
	rabinKarpBLAKE2 = 0x72730147
)

// SignBlockLen is the block length of the signatures this project keeps, in
// bytes: 36 bytes of signature for each 2048 of the base, rdiff's own default.
const SignBlockLen = 2048

// Signer is an io.WriteCloser that writes the rdiff signature, rollsum and
// BLAKE2b-256, of the bytes written to it. It holds one block in memory. It is
// not for concurrent use.
type Signer struct {
	w     *bufio.Writer
	block []byte // the block begun
}

// NewSigner returns a Signer that writes to w. Errors of w come from a later
// Write or from Close.
func NewSigner(w io.Writer, blockLen int) *Signer {
	s := &Signer{w: bufio.NewWriter(w), block: make([]byte, 0, blockLen)}
	var header [12]byte
	binary.BigEndian.PutUint32(header[0:], rollsumBLAKE2)
	binary.BigEndian.PutUint32(header[4:], uint32(blockLen))
	binary.BigEndian.PutUint32(header[8:], blake2b.Size256)
	s.w.Write(header[:]) // a bufio.Writer keeps its error for Flush
	return s
}

// Write signs p.
func (s *Signer) Write(p []byte) (n int, err error) {
	n = len(p)
	for len(p) > 0 {
		part := min(len(p), cap(s.block)-len(s.block))
		s.block = append(s.block, p[:part]...)
		p = p[part:]
		if len(s.block) == cap(s.block) {
			if err := s.sign(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// Close signs the last, short block and writes out all there is. It does not
// close the underlying writer.
func (s *Signer) Close() error {
	if len(s.block) > 0 {
		if err := s.sign(); err != nil {
			return err
		}
	}
	return s.w.Flush()
}

func (s *Signer) sign() error {
	var weak [4]byte
	binary.BigEndian.PutUint32(weak[:], rollsum(s.block))
	strong := blake2b.Sum256(s.block)
	s.block = s.block[:0]
	s.w.Write(weak[:])
	_, err := s.w.Write(strong[:])
	return err
}

// rollsum is librsync's variant of the Adler checksum: 31 is added to each byte.
func rollsum(block []byte) uint32 {
	var a, b uint32
	for _, c := range block {
		a += uint32(c) + 31
		b += a
	}
	return b<<16 | a&0xffff
}

// Signature tells what a signature file holds.
type Signature struct {
	Magic               uint32
	BlockLen, StrongLen int   // bytes
	Blocks              int64 // how many blocks are signed
}

// Fits reports whether the signature can be that of a base of size bytes.
func (s Signature) Fits(size int64) bool { return s.Blocks == s.blocks(size) }

// blocks returns how many blocks a base of size bytes has.
func (s Signature) blocks(size int64) int64 {
	n := int64(s.BlockLen)
	return size/n + min(1, size%n)
}

// ReadSignature reads a whole signature and checks its form; the sums in it are
// not looked at. Errors in the signature wrap ErrFormat.
func ReadSignature(r io.Reader) (Signature, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	var header [12]byte
	if _, err := io.ReadFull(br, header[:]); err != nil {
		return Signature{}, cut(err, "the signature ends within its header")
	}
	s := Signature{
		Magic:     binary.BigEndian.Uint32(header[0:]),
		BlockLen:  int(binary.BigEndian.Uint32(header[4:])),
		StrongLen: int(binary.BigEndian.Uint32(header[8:])),
	}
	if err := s.check(); err != nil {
		return Signature{}, err
	}
	sums, err := io.Copy(io.Discard, br)
	if err != nil {
		return Signature{}, err
	}
	each := int64(4 + s.StrongLen)
	if sums%each != 0 {
		return Signature{}, malformed("the signature ends within a block's sums")
	}
	s.Blocks = sums / each
	return s, nil
}

func (s Signature) check() error {
	var longest int
	switch s.Magic {
	case rollsumMD4, rabinKarpMD4:
		longest = 16
	case rollsumBLAKE2, rabinKarpBLAKE2:
		longest = blake2b.Size256
	default:
		return malformed("magic number %08x is not a signature's", s.Magic)
	}
	if s.StrongLen < 1 || s.StrongLen > longest {
		return malformed("strong sums of %d bytes, want 1 to %d", s.StrongLen, longest)
	}
	if s.BlockLen < 1 {
		return malformed("block length 0")
	}
	return nil
}

// SignatureSize returns the size in bytes of the signature that a Signer with
// SignBlockLen makes of a base of size bytes.
func SignatureSize(size int64) int64 {
	s := Signature{BlockLen: SignBlockLen}
	return 12 + s.blocks(size)*(4+blake2b.Size256)
}
