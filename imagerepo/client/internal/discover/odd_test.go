package discover

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// A file of the domain that is a pipe of which the writer is mute is waited at no longer
// than the search may take, or is wanted.
func TestDomainFromAPipe(t *testing.T) {
	m := machine(t, silent(t), "", "")
	if err := testdata.PutOdd("pipe", m.DomainFile); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(m.DomainFile, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	testdata.Promptly(t, "cancelled", func() {
		if got, err := m.Find(ctx); got != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %q, %v", got, err)
		}
	})
	m.Limit = 100 * time.Millisecond
	testdata.Promptly(t, "the limit", func() {
		got, err := m.Find(t.Context())
		wantNone(t, got, err, `.* domain: read \S*: context canceled.*`)
	})
}
