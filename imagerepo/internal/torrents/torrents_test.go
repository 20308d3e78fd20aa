package torrents

import (
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
)

func TestComplete(t *testing.T) {
	const host, tracker = "https://images.example.org", "http://tracker.example.org/announce"
	all := func(change func(*plan.Torrents)) plan.Torrents {
		t := plan.Torrents{Of: plan.TorrentsOfAll}
		change(&t)
		return t
	}
	seeds := func(list ...string) plan.Torrents { return all(func(t *plan.Torrents) { t.Seeds = list }) }
	for _, c := range []struct {
		name  string
		of    plan.Torrents
		base  string
		seeds []string
		err   string
	}{
		{"none", plan.Torrents{Trackers: []string{"x"}, Seeds: []string{"x"}}, "https://host/path", nil, ""},
		{"the urls", seeds(), host, []string{host}, ""},
		{"with a port", seeds(), host + ":8443", []string{host + ":8443"}, ""},
		{"a path", seeds(), host + "/images", nil, "has a path"},
		{"a path, and seeds", seeds(host), host + "/images", nil, "has a path"},
		{"relative urls", seeds(), "", nil, "the urls in the meta are relative"},
		{"relative urls, and seeds", seeds("https://a", "https://b/path"), "", []string{"https://a", "https://b/path"}, ""},
		{"seeds instead of the urls", seeds("https://a"), host, []string{"https://a"}, ""},
		{"a seed that is no URL", seeds("a"), host, nil, "no URL of a seed"},
		{"a seed with a slash", seeds("https://a/"), host, nil, "must end without"},
		{"a seed with a query", seeds("https://a/?b"), host, nil, "must end without"},
		{"a tracker", all(func(t *plan.Torrents) { t.Trackers = []string{tracker} }), host, []string{host}, ""},
		{"a tracker that is no URL", all(func(t *plan.Torrents) { t.Trackers = []string{"a"} }), host, nil, "no URL of a tracker"},
		{"many seeds", seeds(slices.Repeat([]string{host}, 14)...), host, slices.Repeat([]string{host}, 14), ""},
		{"too many seeds", seeds(slices.Repeat([]string{host}, 15)...), host, nil, "give fewer"},
	} {
		got, err := Complete(c.of, c.base)
		if c.err == "" && (err != nil || !slices.Equal(got.Seeds, c.seeds)) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, %v; want %v, %q", c.name, got.Seeds, err, c.seeds, c.err)
		}
		if err == nil && (c.of.Of == "") != (got.Of == "") {
			t.Errorf("%s: of %q", c.name, got.Of)
		}
	}
}

func TestDecide(t *testing.T) {
	of := plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://a"}}
	other := plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://b"}}
	tracked := plan.Torrents{Of: plan.TorrentsOfAll, Seeds: []string{"https://a"}, Trackers: []string{"http://t"}}
	stamp, content := state.Stamp{Size: 7, Inode: 3}, cksum.Digest256{5}
	right := &state.Record{Stamp: stamp, Sums: cksum.Sums{SHA512: cksum.Digest512{1}}, Base: DigestOf(of), Target: content}
	for _, c := range []struct {
		name    string
		of      plan.Torrents
		record  *state.Record
		stamp   state.Stamp
		content cksum.Digest256
		want    plan.Action
		read    bool
	}{
		{"right", of, right, stamp, content, plan.Keep, false},
		{"no record", of, nil, stamp, content, plan.Make, true},
		{"about to be made", of, &state.Record{}, state.Stamp{}, content, plan.Make, true},
		{"gone", of, right, state.Stamp{}, content, plan.Make, true},
		{"touched", of, right, state.Stamp{Size: 7, Inode: 4}, content, plan.Make, true},
		{"of another content", of, right, stamp, cksum.Digest256{6}, plan.Make, true},
		{"another seed", other, right, stamp, content, plan.Make, false},
		{"a tracker", tracked, right, stamp, content, plan.Make, false},
		{"deltas alone", plan.Torrents{Of: plan.TorrentsOfDeltas, Seeds: of.Seeds}, right, stamp, content, plan.Keep, false},
	} {
		if got, read := Decide(c.of, c.record, c.stamp, c.content); got != c.want || read != c.read {
			t.Errorf("%s: %s, read %t; want %s, %t", c.name, got, read, c.want, c.read)
		}
	}
}
