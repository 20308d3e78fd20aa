package plan

import "testing"

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		globs Globs
		name  string
		want  bool
	}{
		{nil, "a-amd64", true},
		{Globs{}, "a-amd64", true},
		{Globs{"a-amd64"}, "a-amd64", true},
		{Globs{"a-*"}, "a-amd64", true},
		{Globs{"b-*", "?-amd64"}, "a-amd64", true},
		{Globs{"b-*"}, "a-amd64", false},
		{Globs{"a"}, "a-amd64", false},
		{Globs{"["}, "[", false},
		{Globs{""}, "a", false},
	} {
		if got := c.globs.Match(c.name); got != c.want {
			t.Errorf("%q and %s: %v", c.globs, c.name, got)
		}
	}
	if (Globs{"a*", "[a-c]?"}).Check() != nil || (Globs{"a*", "[a"}).Check() == nil {
		t.Error("a good glob is refused, or a bad one is not")
	}
}
