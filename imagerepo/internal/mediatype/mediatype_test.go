package mediatype_test

import (
	"testing"

	"puavo-image-repository/imagerepo/internal/mediatype"
)

func TestOf(t *testing.T) {
	const (
		kept  = "public, max-age=86400"
		bytes = "application/octet-stream"
		text  = "text/plain; charset=utf-8"
	)
	for _, c := range []struct{ name, contentType, cacheControl string }{
		{"puavo-os-amxa-buster-2022-01-20-173248-amd64.img", bytes, kept},
		{"rdiffs/a.rdiff", bytes, kept},
		{"compact/a.cdelta", bytes, kept},
		{"torrents/a.img.torrent", "application/x-bittorrent", kept},
		{"meta/a.json", "application/json", "no-cache"},
		{"index.html", "text/html; charset=utf-8", "no-cache"},
		{"CKSUMS", text, "no-cache"},
		{"rdiffs/SHA256SUMS", text, "no-cache"},
		{"SHA256SUMS.img", bytes, kept},
		{"BEST-BEFORE-2022-01-20", bytes, "no-cache"},
		{"img", bytes, "no-cache"},
		{"", bytes, "no-cache"},
	} {
		got := mediatype.Of(c.name)
		if got != (mediatype.Type{ContentType: c.contentType, CacheControl: c.cacheControl}) {
			t.Errorf("%q: %+v", c.name, got)
		}
		if got.IsPayload() != (c.cacheControl == kept) {
			t.Errorf("%q is payload: %t", c.name, got.IsPayload())
		}
	}
}
