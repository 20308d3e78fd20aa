package command

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestGiven(t *testing.T) {
	for _, c := range []struct{ args, flag, want string }{
		{"", "url", ""},
		{"a b", "url", ""},
		{"a --url x b", "url", "x"},
		{"-r x a --url=y", "url", "x y"},
		{"--url=", "url", ""},
		{"--url", "url", ""},
		{"--config --url a", "url", ""}, // the value of another
		{"-- --url x", "url", ""},
		{"-q a", "quiet", "true"},
		{"-q=false a", "quiet", "false"},
		{"-q keys add a --jobs 3", "jobs", "3"},
		{"-q keys add a --out 3", "out", "3"},
		{"a --out 3", "out", ""}, // no flag of the app
		{"--nope --jobs 3", "jobs", "3"},
	} {
		if got := strings.Join(Given(testApp(nil), strings.Fields(c.args), c.flag), " "); got != c.want {
			t.Errorf("%s: --%s is given %q, want %q", c.args, c.flag, got, c.want)
		}
	}
}

// A name that is both a command's and a directory's is taken for the one that the
// arguments fit, and refused where they fit both.
func TestSettle(t *testing.T) {
	count := func(least, most int) func([]string) bool {
		return func(names []string) bool { return len(names) >= least && len(names) <= most }
	}
	forms := map[string]func([]string) bool{
		"": count(1, 2), "apply": count(0, 0),
		"keys": func(names []string) bool { return slices.Equal(names, []string{"add"}) },
	}
	for _, c := range []struct{ args, directories, want string }{
		{"", "apply", ""},
		{"a b", "apply", "a b"},
		{"apply", "", "apply"},
		{"apply", "apply", "refused"},
		{"-q apply", "apply", "refused"},
		{"-- apply", "apply", "-- apply"},
		{"./apply", "./apply", "./apply"},
		{"b apply", "apply", "b apply"},
		{"apply b", "apply", "./apply b"},
		{"-q apply b -j 1", "apply", "-q ./apply b -j 1"},
		{"apply b c", "apply", "apply b c"},         // fits neither
		{"apply --out x", "apply", "apply --out x"}, // an option of the command alone
		{"apply --url x", "apply", "refused"},       // an option of both
		{"apply b --url x", "apply", "./apply b --url x"},
		{"apply --nope", "apply", "apply --nope"},
		{"keys b", "keys", "./keys b"},
		{"keys add", "keys", "refused"},
		{"keys add --out x", "keys", "keys add --out x"},
		{"keys", "keys", "./keys"},
	} {
		got, err := Settle(testApp(nil), strings.Fields(c.args), func(name string) bool { return name == c.directories }, forms)
		if errors.Is(err, ErrUsage) && strings.Contains(err.Error(), "write ./") {
			got = []string{"refused"}
		} else if err != nil {
			t.Errorf("%s: %v", c.args, err)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s, a directory %q: %q, want %q", c.args, c.directories, s, c.want)
		}
	}
	delete(forms, "apply")
	args := []string{"apply", "b"}
	if got, err := Settle(testApp(nil), args, func(string) bool { return true }, forms); err != nil || !slices.Equal(got, args) {
		t.Errorf("a command without a form: %q, %v", got, err)
	}
}
