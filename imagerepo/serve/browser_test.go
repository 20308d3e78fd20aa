package serve_test

import (
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// A browser shows the page of a mirror with its style, complains of nothing, and every
// link on it leads to a file.
func TestBrowser(t *testing.T) {
	testdata.Tool(t, "chromium")
	_, url := built(t)
	cmd := exec.CommandContext(t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(),
		"--enable-logging=stderr", "--dump-dom", url+"/")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &errs)
	}
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Error(line)
		}
	}
	dom := string(out)
	for _, want := range []string{"2 series, 5 images of", `<th scope="row">2022-01-17-120001</th>`, "<svg", "--mirror https://HOST", "SHA-256 <code"} {
		if !strings.Contains(dom, want) {
			t.Errorf("no %q in\n%s", want, dom)
		}
	}
	ids := make(map[string]bool)
	for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(dom, -1) {
		if ids[id[1]] {
			t.Errorf("two elements have the id %s", id[1])
		}
		ids[id[1]] = true
	}
	links := regexp.MustCompile(` href="([^"]*)"`).FindAllStringSubmatch(dom, -1)
	if len(links) < 2+5+9+2+3 {
		t.Errorf("%d links", len(links))
	}
	for _, link := range links {
		if id, here := strings.CutPrefix(link[1], "#"); here {
			if !ids[id] {
				t.Errorf("a link to #%s", id)
			}
			continue
		}
		if link[1] == "data:," {
			continue
		}
		res, err := http.Head(url + "/" + link[1])
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", link[1], res.Status)
		}
	}
}
