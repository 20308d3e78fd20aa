package selection

import (
	"maps"
	"strings"
	"testing"

	"puavo-image-repository/meta"
)

func TestParseUses(t *testing.T) {
	const id = "puavo-os-amxa-buster-2022-01-20-173248-amd64"
	for _, c := range []struct {
		text string
		want Uses
		says string
	}{
		{"", Uses{}, ""},
		{"# nothing\n\n", Uses{}, ""},
		{id + ".img 12\n", Uses{id: 12}, ""},
		{"  12 " + id + "\n", Uses{id: 12}, ""},
		{"20220120173248\n2022-01-20-173248 4 # more\r\n", Uses{"20220120173248": 5}, ""},
		{"5 20220120173248", Uses{"20220120173248": 5}, ""},
		{"999999999 20220120173248\n999999999 20220120173248\n999999999 20220120173248", Uses{"20220120173248": 1<<31 - 1}, ""},
		{"\nx", nil, "line 2: \"x\" is no version"},
		{"1 2", nil, "\"2\" is no version"},
		{"20220120173248 x", nil, "\"x\" is no number"},
		{"20220120173248 -1", nil, "\"-1\" is no number"},
		{"20220120173248 9999999999", nil, "is no number"},
		{"20220120173248 1 2", nil, "3 words"},
		{"../x.img 1", nil, "is no version"},
		{strings.Repeat("x", 1<<17), nil, "too long"},
	} {
		got, err := ParseUses([]byte(c.text))
		if !maps.Equal(got, c.want) || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60q: %v, %v; want %v, %q", c.text, got, err, c.want, c.says)
		}
	}
	n, _ := meta.ParseName(id + ".img")
	if got := (Uses{id: 2, n.Digits(): 3}).Of(n); got != 5 {
		t.Errorf("%d devices, want 5", got)
	}
}

// Whatever a keep-list has, its versions are names or digits, and no number is negative.
func FuzzParseUses(f *testing.F) {
	f.Add([]byte("12 puavo-os-amxa-buster-2022-01-20-173248-amd64.img\n20220120173248\n# x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := ParseUses(data)
		for version, n := range u {
			if _, wrong := meta.ParseOldName(version + ".img"); n < 0 || err != nil || wrong != nil && (len(version) != 14 || strings.Trim(version, "0123456789") != "") {
				t.Errorf("%q: %d, %v", version, n, err)
			}
		}
	})
}
