package pull

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/compacts/compacttest"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// Puavo's bootserver, which reads the meta by its keys alone, updates from a copy of its own:
// testdata/bootserver.rb does its steps, with the Ruby, rdiff and aria2c of Debian.
func TestBootserver(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "rdiff")
	testdata.Tool(t, "aria2c")
	p := newPlace(t, image1, image2, image3, other)
	p.Compact.Mode = plan.CompactNewest
	p.Build()
	server := serveMirror(t, p.Dest)
	o := p.options()
	o.URL, o.Policy = server.URL, Policy{Images: 2, Deltas: 2}
	p.pull(o)
	dir := t.TempDir()
	steps := func(want string) {
		t.Helper()
		out := testdata.Run(t, "ruby", filepath.Join("testdata", "bootserver.rb"), server.URL+"/meta/"+series+".json", dir)
		if string(out) != want {
			t.Errorf("it says\n%swant\n%s", out, want)
		}
	}
	steps("fetched " + image2 + "\nmade " + image3 + "\n")
	p.PutFixture(image4)
	p.Build()
	compact := compacttest.Put(t, p.Mirror, image3, image4)
	p.pull(o)
	if !strings.Contains(string(p.Read("dest/meta/"+series+".json")), compact) {
		t.Errorf("the meta of the copy does not name %s", compact)
	}
	steps("made " + image4 + "\n")
	steps("")
	for _, name := range []string{image2, image3, image4} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		p.Must(err)
		if string(data) != string(testdata.Read(t, "images/"+name)) {
			t.Errorf("%s is another image", name)
		}
	}
}
