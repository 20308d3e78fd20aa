package version

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "6d7f853abcdef0123456789"}
	for _, c := range []struct {
		stamped string
		built   []debug.BuildSetting
		want    string
	}{
		{"", nil, "devel"},
		{"1.2", nil, "1.2"},
		{"1.2", []debug.BuildSetting{revision}, "1.2"},
		{"", []debug.BuildSetting{revision, {Key: "vcs.modified", Value: "false"}}, "devel-6d7f853abcde"},
		{"", []debug.BuildSetting{{Key: "vcs.modified", Value: "true"}, revision}, "devel-6d7f853abcde-modified"},
		{"", []debug.BuildSetting{{Key: "vcs.revision", Value: "6d7f"}, {Key: "-tags", Value: "x"}}, "devel-6d7f"},
		{"", []debug.BuildSetting{{Key: "vcs.revision"}}, "devel"},
	} {
		if got := of(c.stamped, c.built); got != c.want {
			t.Errorf("%q, %v: %s, want %s", c.stamped, c.built, got, c.want)
		}
	}
	if got := String(); got == "" || strings.ContainsAny(got, " \n") {
		t.Errorf("this program is version %q", got)
	}
}
