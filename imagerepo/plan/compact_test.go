package plan

import "testing"

func TestParseCompactMode(t *testing.T) {
	for _, c := range []struct {
		text string
		want CompactMode
		err  bool
	}{
		{"none", "", false},
		{"newest", CompactNewest, false},
		{"all", CompactAll, false},
		{"", "", true},
		{"full", "", true},
		{"Newest", "", true},
	} {
		if got, err := ParseCompactMode(c.text); got != c.want || (err != nil) != c.err {
			t.Errorf("%q: %q, %v", c.text, got, err)
		}
	}
}

func TestThere(t *testing.T) {
	for action, want := range map[Action]bool{Keep: true, Check: true, Await: true, Make: false, Drop: false, "": false} {
		if (CompactDelta{Action: action}).There() != want {
			t.Errorf("%q: %v", action, !want)
		}
	}
}

// Compact deltas have torrents wherever deltas have them.
func TestCompactTorrents(t *testing.T) {
	for of, want := range map[TorrentsOf]bool{"": false, TorrentsOfDeltas: true, TorrentsOfAll: true} {
		for _, file := range []string{"a.rdiff", "a.cdelta"} {
			if (Torrents{Of: of}).Wants(file) != want {
				t.Errorf("%s of %q: %v", file, of, !want)
			}
		}
	}
}
