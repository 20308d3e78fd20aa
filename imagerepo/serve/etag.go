package serve

import (
	"crypto/sha256"
	"fmt"
	"io/fs"

	"puavo-image-repository/imagerepo/internal/state"
)

// etag returns the ETag of a file: a digest, so that it does not reveal the inode.
func etag(info fs.FileInfo) string {
	s := state.StampOf(info)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %d", s.Size, s.MTime, s.CTime, s.Inode))
	return fmt.Sprintf(`"%x"`, sum[:12])
}
