package archive

import (
	"testing"
)

// The newest is whole, the others are deltas, and one between is whole after MaxChain deltas.
func TestAdd(t *testing.T) {
	for _, c := range []struct {
		name  string
		chain int
		days  [][]int // that are there at each add
		want  string
	}{
		{"one", 0, [][]int{{1}}, "W"},
		{"at once", 0, [][]int{{1, 2, 3}}, "rrW"},
		{"one after another", 0, [][]int{{1}, {2}, {3}}, "rrW"},
		{"with a whole one between", 2, [][]int{{1, 2, 3, 4, 5, 6, 7}}, "rrWrrWW"},
		{"an older one", 0, [][]int{{1, 3}, {2}}, "rrW"},
		{"the oldest", 0, [][]int{{2, 3}, {1}}, "rrW"},
		{"an older one into a chain that is full", 2, [][]int{{1, 3, 4}, {2}}, "rWrW"},
		{"the same again", 0, [][]int{{1, 2}, {1, 2}}, "rW"},
	} {
		p := newPlace(t)
		p.o.MaxChain = c.chain
		for _, days := range c.days {
			p.leave()
			for _, day := range days {
				if content := p.contents["os-amd64/"+versionOf(day)]; content != nil {
					p.write("os-amd64", day, content)
				} else {
					p.put("os-amd64", day)
				}
			}
			p.add()
		}
		if got := p.forms("os-amd64"); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		p.check()
	}
}
