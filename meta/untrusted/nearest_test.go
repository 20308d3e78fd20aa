package untrusted

import (
	"strings"
	"testing"
)

// A word is meant if at most a third of it differs.
func TestNearest(t *testing.T) {
	words := []string{"images", "extra_rdiffs"}
	for wrong, want := range map[string]string{
		"images": "images", "image": "images", "imagess": "images", "imges": "images", "imagse": "images", "imgs": "images", "img": "",
		"extra_diffs": "extra_rdiffs", "extra-rdiffs": "extra_rdiffs", "extrardiff": "extra_rdiffs", "extra_deltas": "", "extra": "", "": "",
	} {
		if got := Nearest(wrong, words); got != want {
			t.Errorf("%q: %q, want %q", wrong, got, want)
		}
	}
	long := strings.Repeat("images", 1<<10)
	if n := testing.AllocsPerRun(1, func() { Nearest(long, words) }); n > 0 { // it is not compared
		t.Errorf("of a long word: %v allocations", n)
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"abc", "abc", 0}, {"ab", "ba", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
