// Package mediatype says how the files of a mirror are served, by any server of ours and
// by any host that is given headers with a file.
//
//	file                          type                       Cache-Control
//
//	*.img, *.rdiff, *.cdelta      application/octet-stream   public, max-age=86400
//	*.torrent                     application/x-bittorrent   public, max-age=86400
//	*.json                        application/json           no-cache
//	*.html                        text/html; charset=utf-8   no-cache
//	CKSUMS, SHA256SUMS            text/plain; charset=utf-8  no-cache
//	anything else                 application/octet-stream   no-cache
//
// Payload may be kept for a day, since its name says what it is. A document must be asked
// for again.
package mediatype

import (
	"path"

	"puavo-image-repository/imagerepo/internal/mirror"
)

// A Type is how a kind of file is served: the values of two headers.
type Type struct{ ContentType, CacheControl string }

const (
	forADay  = "public, max-age=86400"
	askAgain = "no-cache"

	bytesType = "application/octet-stream"
	textType  = "text/plain; charset=utf-8"
)

// types are by the extensions of files, or by whole names.
var types = map[string]Type{
	".img":        {bytesType, forADay},
	".rdiff":      {bytesType, forADay},
	".cdelta":     {bytesType, forADay},
	".torrent":    {"application/x-bittorrent", forADay},
	".json":       {"application/json", askAgain},
	".html":       {"text/html; charset=utf-8", askAgain},
	mirror.CKSUMS: {textType, askAgain},
	mirror.SHA256: {textType, askAgain},
}

// Of returns how the file at a path is served.
func Of(name string) Type {
	for _, key := range []string{path.Base(name), path.Ext(name)} {
		if t, ok := types[key]; ok {
			return t
		}
	}
	return Type{bytesType, askAgain}
}

// IsPayload reports whether files of the type are payload, whose names say what they are.
func (t Type) IsPayload() bool { return t.CacheControl == forADay }
