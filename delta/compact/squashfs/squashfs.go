// Package squashfs lists the packed blocks of squashfs images, which a compact delta takes
// apart. Package internal/squash says how.
package squashfs

import (
	"puavo-image-repository/delta/compact"
	"puavo-image-repository/delta/compact/internal/squash"
)

// Blocks returns the packed blocks of an image, in order. Of what is no squashfs with LZO it
// returns none, and of a damaged one those that are found.
func Blocks(image []byte) []compact.Block {
	found := squash.Blocks(image)
	blocks := make([]compact.Block, len(found))
	for i, b := range found {
		blocks[i] = compact.Block{Offset: b.Offset, Size: b.Size, Codec: compact.LZO}
	}
	return blocks
}
