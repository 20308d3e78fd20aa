package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Cursor reads varints from bytes. After an error it reads zeros.
type Cursor struct {
	Bytes []byte // what is left
	err   error
}

// Int reads a number that is at most most.
func (c *Cursor) Int(most int64) int64 {
	n, k := binary.Uvarint(c.Bytes)
	return c.took(int64(n), k, n <= uint64(most))
}

// Signed reads a number that is at most most away from 0.
func (c *Cursor) Signed(most int64) int64 {
	n, k := binary.Varint(c.Bytes)
	return c.took(n, k, -most <= n && n <= most)
}

func (c *Cursor) took(n int64, k int, good bool) int64 {
	switch {
	case c.err != nil:
	case k <= 0:
		c.err = errors.New("a number is cut off")
	case !good:
		c.err = fmt.Errorf("the number %d is out of bounds", n)
	default:
		c.Bytes = c.Bytes[k:]
		return n
	}
	return 0
}

// Err returns the first error.
func (c *Cursor) Err() error { return c.err }

// End returns the first error, or one if there are bytes left.
func (c *Cursor) End() error {
	if c.err == nil && len(c.Bytes) > 0 {
		c.err = fmt.Errorf("%d bytes too many", len(c.Bytes))
	}
	return c.err
}
