package cksum

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"io"
	"sync"
)

// bufferSize is the size of each of the two buffers of a [Hash], in bytes.
const bufferSize = 256 << 10

// short is the length, in bytes, up to which a stream is digested without buffers.
// They and the goroutines would cost it more than they save.
const short = 64 << 10

// Hash computes all digests of what is written to it. Make one with [New]. It is
// not safe for concurrent use.
//
// For a stream of more than 64 KiB it computes the digests concurrently with each
// other and with the writer, on up to three cores, as fast as SHA-512 alone if
// these are free. For that it holds two buffers, 512 KiB together. Its goroutines
// end by themselves within milliseconds, so a Hash may be abandoned at any time.
type Hash struct {
	size   int64
	crc    crc
	sha256 hash.Hash
	sha512 hash.Hash
	blake3 hash.Hash

	filling []byte         // what was written last; nil if nothing was buffered yet
	full    []byte         // what was written before it, for what is running
	running sync.WaitGroup // has the digests until it is done
}

// New returns a Hash to which nothing has been written.
func New() *Hash {
	return &Hash{sha256: sha256.New(), sha512: sha512.New(), blake3: NewBLAKE3()}
}

// Write adds p to all digests. It never returns an error.
func (h *Hash) Write(p []byte) (int, error) {
	written := len(p)
	if h.filling == nil && h.size+int64(written) <= short {
		h.size += int64(written)
		h.digest(p)
		return written, nil
	}
	for len(p) > 0 {
		n := copy(h.free(), p)
		h.add(n)
		p = p[n:]
	}
	return written, nil
}

// Sums returns the size and the digests of everything written so far. It does not
// change h: you may write more after it.
func (h *Hash) Sums() Sums {
	h.running.Wait()
	h.digest(h.filling)
	h.filling = h.filling[:0]
	s := Sums{Size: h.size, CRC: h.crc.sum(h.size)}
	h.sha256.Sum(s.SHA256[:0])
	h.sha512.Sum(s.SHA512[:0])
	h.blake3.Sum(s.BLAKE3[:0])
	return s
}

// readOnce adds one read of r, right into the buffer.
func (h *Hash) readOnce(r io.Reader) error {
	n, err := r.Read(h.free())
	h.add(n)
	return err
}

// free returns the free part of the buffer, which is never empty. Put bytes there,
// and then call add.
func (h *Hash) free() []byte {
	if len(h.filling) == bufferSize {
		h.swap()
	}
	if h.filling == nil {
		h.filling = make([]byte, 0, bufferSize)
	}
	return h.filling[len(h.filling):bufferSize]
}

// add adds the first n bytes of the free part.
func (h *Hash) add(n int) {
	h.filling = h.filling[:len(h.filling)+n]
	h.size += int64(n)
}

// swap empties the buffer: it waits for the digests of the other one, and then
// starts those of this one. The three goroutines wait for nothing; SHA-512 takes as
// long as the others together.
func (h *Hash) swap() {
	h.running.Wait()
	h.filling, h.full = h.full[:0], h.filling
	h.running.Go(func() { h.sha512.Write(h.full) })
	h.running.Go(func() { h.sha256.Write(h.full) })
	h.running.Go(func() {
		h.crc.write(h.full)
		h.blake3.Write(h.full)
	})
}

// digest adds p to all digests, while nothing is running.
func (h *Hash) digest(p []byte) {
	h.crc.write(p)
	h.sha256.Write(p)
	h.sha512.Write(p)
	h.blake3.Write(p)
}
