package tuf

import (
	"testing"
	"time"
)

func TestExpires(t *testing.T) {
	for text, want := range map[string]time.Time{
		`{"signed": {"expires": "2024-01-02T03:04:05Z"}}`: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC),
		`{"signed": {}}`: {},
	} {
		if got, err := Expires([]byte(text)); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", `{"signed": {"expires": "tomorrow"}}`} {
		if got, err := Expires([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
