// Package page makes index.html, the page about a mirror for people: its series, images,
// deltas and digests, and how to point a client at it.
//
// # What it is made of
//
// The documents of the mirror, the names of its torrents, and the root that signs it. The page is a pure function
// of these: it has no clock, so the same documents make the same bytes. Of what is signed
// it names the root alone, since every renewal changes the other dates. The URL of the
// host is what the documents give before the names of images; where they give none, or
// several, the page shows a placeholder.
//
// # What it is
//
// One file without scripts, pictures or anything else to fetch. Links are relative, so the
// page works on every host and from a disk; the URL of the host is only in the
// command to copy. Its Content-Security-Policy permits its own style, by digest, and
// nothing else. It has a light and a dark form, by what the reader prefers, and tables
// that scroll by themselves where the screen is narrow.
//
// Names are those that package meta has parsed. They are escaped all the same.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the page and its style
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"
	"time"

	"puavo-image-repository/meta"
)

// Root is what the page says of the root that signs a mirror.
type Root struct {
	Version   int64
	Expires   time.Time
	Keys      []string // the ids of its keys
	Threshold int      // how many of them sign
}

// ParseRoot returns what a file <n>.root.json says. It verifies nothing: the page is not
// what clients trust.
func ParseRoot(data []byte) (*Root, error) {
	var doc struct {
		Signed struct {
			Version int64     `json:"version"`
			Expires time.Time `json:"expires"`
			Roles   map[string]struct {
				Keys      []string `json:"keyids"`
				Threshold int      `json:"threshold"`
			} `json:"roles"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, meta.PlainJSON(err)
	}
	role, ok := doc.Signed.Roles["root"]
	if !ok {
		return nil, errors.New("no role root")
	}
	return &Root{doc.Signed.Version, doc.Signed.Expires, role.Keys, role.Threshold}, nil
}

// Make returns the page about series, which are in the order in which it shows them, and
// a root, nil for a mirror that is not signed. torrents has the paths of torrents, by the
// names of their images and deltas. It changes none of them.
func Make(series []meta.Series, root *Root, torrents map[string]string) ([]byte, error) {
	v := view{Style: template.CSS(style), Policy: policy, URL: hostURL(series), Root: viewRoot(root), Torrents: len(torrents)}
	for i := range series {
		v.Series = append(v.Series, viewSeries(&series[i], torrents))
	}
	v.count(series)
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("the page: %w", err)
	}
	return b.Bytes(), nil
}

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	style string

	pageTemplate = template.Must(template.New("page").Parse(pageText))

	// Only this style applies, and an icon that is empty, so that none is asked for.
	policy = "default-src 'none'; style-src 'sha256-" + digest(style) + "'; img-src data:; base-uri 'none'; form-action 'none'"
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// hostURL returns what all urls of images have before the name, "" if they do not agree
// or are no urls of a host.
func hostURL(series []meta.Series) (host string) {
	for _, s := range series {
		for _, im := range s.Images {
			if len(im.URLs) == 0 {
				return ""
			}
			base, ok := strings.CutSuffix(im.URLs[0], "/"+im.Name.String())
			if !ok || host != "" && base != host {
				return ""
			}
			host = base
		}
	}
	u, err := url.Parse(host)
	if err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Host == "" || u.User != nil {
		return ""
	}
	return host
}

// quoted returns a word for a shell, in quotes where it needs them.
func quoted(word string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~:/%+@[]", c)
	}
	if !strings.ContainsFunc(word, func(c rune) bool { return !plain(c) }) && !strings.ContainsAny(word, "[]") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
