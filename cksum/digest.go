package cksum

import (
	"encoding/hex"
	"fmt"
)

// Digest256 is a digest of 256 bits. As text, in JSON too, it is 64 lower-case
// hexadecimal digits; upper-case ones are read as well.
type Digest256 [32]byte

// Digest512 is a digest of 512 bits. As text, in JSON too, it is 128 lower-case
// hexadecimal digits; upper-case ones are read as well.
type Digest512 [64]byte

// String returns the digest as text.
func (d Digest256) String() string { return hex.EncodeToString(d[:]) }

// String returns the digest as text.
func (d Digest512) String() string { return hex.EncodeToString(d[:]) }

// MarshalText returns the digest as text.
func (d Digest256) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// MarshalText returns the digest as text.
func (d Digest512) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText parses the digest from text.
func (d *Digest256) UnmarshalText(text []byte) error { return decodeHex(d[:], text) }

// UnmarshalText parses the digest from text.
func (d *Digest512) UnmarshalText(text []byte) error { return decodeHex(d[:], text) }

func decodeHex(digest, text []byte) error {
	if len(text) != hex.EncodedLen(len(digest)) {
		return fmt.Errorf("a digest of %d characters, want %d", len(text), hex.EncodedLen(len(digest)))
	}
	if _, err := hex.Decode(digest, text); err != nil {
		return fmt.Errorf("a digest that is not hexadecimal: %w", err)
	}
	return nil
}
