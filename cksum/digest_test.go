package cksum

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDigestText(t *testing.T) {
	type digests struct {
		A Digest256
		B Digest512
	}
	want := digests{Digest256{1, 0xab}, Digest512{2, 0xcd}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if text := `{"A":"01ab` + strings.Repeat("0", 60) + `","B":"02cd` + strings.Repeat("0", 124) + `"}`; string(b) != text {
		t.Errorf("got %s, want %s", b, text)
	}
	for _, text := range []string{string(b), strings.ToUpper(string(b))} {
		var got digests
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "01", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("0", 63) + "g", strings.Repeat("0", 128)} {
		if err := new(Digest256).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a digest", bad)
		}
	}
}
