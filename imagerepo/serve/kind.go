package serve

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"

	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
)

// kind is how a kind of file is served.
type kind struct{ contentType, cacheControl string }

const (
	forADay  = "public, max-age=86400"
	askAgain = "no-cache"

	bytesType = "application/octet-stream"
	textType  = "text/plain; charset=utf-8"
)

// kinds are by the extensions of files, or by whole names.
var kinds = map[string]kind{
	".img":        {bytesType, forADay},
	".rdiff":      {bytesType, forADay},
	".cdelta":     {bytesType, forADay},
	".torrent":    {"application/x-bittorrent", forADay},
	".json":       {"application/json", askAgain},
	".html":       {"text/html; charset=utf-8", askAgain},
	mirror.CKSUMS: {textType, askAgain},
	mirror.SHA256: {textType, askAgain},
}

// kindOf returns how the file at a path is served.
func kindOf(name string) kind {
	for _, key := range []string{path.Base(name), path.Ext(name)} {
		if k, ok := kinds[key]; ok {
			return k
		}
	}
	return kind{bytesType, askAgain}
}

// etag returns the ETag of a file: a digest, so that it tells nobody the inode.
func etag(info fs.FileInfo) string {
	s := state.StampOf(info)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %d", s.Size, s.MTime, s.CTime, s.Inode))
	return fmt.Sprintf(`"%x"`, sum[:12])
}
