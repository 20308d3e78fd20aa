package pull

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"puavo-image-repository/testdata"
)

// The steps of Puavo's bootserver, which reads the meta by its keys alone, work with a copy of
// its own: of the images of a series, oldest first, each is fetched by its urls, or made by
// rdiff from one that is there, and compared with its size and SHA-256.
func TestBootserver(t *testing.T) {
	testdata.Tool(t, "rdiff")
	p := newPlace(t, image1, image2, image3, image4, other)
	p.Build()
	server := serveMirror(t, p.Dest)
	o := p.options()
	o.URL, o.Policy = server.URL, Policy{Images: 3, Deltas: 2}
	p.pull(o)
	dir := t.TempDir()
	var doc map[string]map[string][]map[string]any
	p.Must(json.Unmarshal(p.Read("dest/meta/"+series+".json"), &doc))
	images := doc[series]["images"]
	slices.SortFunc(images, func(a, b map[string]any) int { return compareText(a["version"], b["version"]) })
	made := 0
	for _, im := range images {
		if make := p.fromBase(dir, im, images); make {
			made++
			continue
		}
		p.fetchAs(im, filepath.Join(dir, text(im["filename"])))
	}
	if len(images) != 3 || made != 2 {
		t.Errorf("%d images, %d made of others", len(images), made)
	}
}

func text(v any) string { s, _ := v.(string); return s }

func compareText(a, b any) int {
	if text(a) < text(b) {
		return -1
	}
	return 1
}

// fromBase makes an image from one that is there, if the meta has a delta for that.
func (p *place) fromBase(dir string, im map[string]any, images []map[string]any) bool {
	p.T.Helper()
	for _, d := range im["diffs"].([]any) {
		diff := d.(map[string]any)
		for _, base := range images {
			from := filepath.Join(dir, text(base["filename"]))
			if _, err := os.Stat(from); err != nil || base["version"] != diff["version"] {
				continue
			}
			delta, to := filepath.Join(dir, text(diff["filename"])), filepath.Join(dir, text(im["filename"]))
			p.fetchAs(diff, delta)
			testdata.Run(p.T, "rdiff", "patch", from, delta, to)
			data, err := os.ReadFile(to)
			p.Must(err)
			p.isAs(im, data)
			return true
		}
	}
	return false
}

// fetchAs fetches a file from the first of its urls.
func (p *place) fetchAs(file map[string]any, to string) {
	p.T.Helper()
	urls, ok := file["urls"].([]any)
	if !ok || len(urls) == 0 {
		p.T.Fatalf("no urls: %v", file)
	}
	resp, err := http.Get(text(urls[0]))
	p.Must(err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	p.Must(err)
	p.isAs(file, data)
	p.Must(os.WriteFile(to, data, 0o666))
}

// isAs compares a content with what the meta says.
func (p *place) isAs(file map[string]any, data []byte) {
	p.T.Helper()
	if file["size"] != float64(len(data)) || file["sha256"] != fmt.Sprintf("%x", sha256.Sum256(data)) {
		p.T.Errorf("%s is not what the meta says", text(file["filename"]))
	}
}
