package chain

import (
	"math/rand/v2"
	"testing"
)

// parse returns versions written as W and d, oldest first.
func parse(s string) (whole []bool) {
	for _, r := range s {
		whole = append(whole, r == 'W')
	}
	return whole
}

func format(whole []bool) (s string) {
	for _, w := range whole {
		if w {
			s += "W"
		} else {
			s += "d"
		}
	}
	return s
}

func TestArrange(t *testing.T) {
	for _, c := range []struct {
		is   string
		most int
		want string
	}{
		{"", 2, ""},
		{"W", 2, "W"},
		{"d", 2, "W"},
		{"ddW", 2, "ddW"},
		{"dddW", 2, "WddW"},
		{"dddddddW", 2, "dWddWddW"},
		{"ddWddW", 2, "ddWddW"},
		{"WWW", 2, "WWW"},
		{"ddW", 0, "WWW"},
	} {
		if got := format(Arrange(parse(c.is), c.most)); got != c.want {
			t.Errorf("%q, %d: %q, want %q", c.is, c.most, got, c.want)
		}
	}
}

func TestCanBeDelta(t *testing.T) {
	for _, c := range []struct {
		is   string
		i    int
		most int
		want bool
	}{
		{"W", 0, 9, false}, {"WW", 0, 1, true}, {"WW", 0, 0, false}, {"dWW", 1, 2, true}, {"ddWW", 2, 2, false}, {"WdWW", 2, 2, true},
		{"ddWdWW", 4, 2, true}, {"dWdW", 1, 3, true}, {"dWdW", 1, 2, false}, {"WWdW", 1, 2, true}, {"WWdW", 1, 1, false},
	} {
		if got := CanBeDelta(parse(c.is), c.i, c.most); got != c.want {
			t.Errorf("%s, %d, %d: %v", c.is, c.i, c.most, got)
		}
	}
}

// However versions come and go, none takes more deltas than it may, and as few as it can are
// whole: one of most+1.
func TestLength(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		most := 1 + random.IntN(6)
		var whole []bool
		for range 100 {
			whole = append(whole, true)
			if i := len(whole) - 2; i >= 0 && CanBeDelta(whole, i, most) {
				whole[i] = false
			}
		}
		count := 0
		for i := range whole {
			if n := Length(whole, i); n > most || whole[i] != (n == 0) {
				t.Fatalf("%s: %d takes %d deltas", format(whole), i, n)
			}
			if whole[i] {
				count++
			}
		}
		if count > 100/(most+1)+1 {
			t.Fatalf("%s: %d of 100 are whole, with chains of up to %d", format(whole), count, most)
		}
		for range 50 {
			i := random.IntN(len(whole) - 1)
			whole = Arrange(append(whole[:i:i], whole[i+1:]...), most)
			for i := range whole {
				if n := Length(whole, i); n > most {
					t.Fatalf("%s: %d takes %d deltas", format(whole), i, n)
				}
			}
		}
	}
}
