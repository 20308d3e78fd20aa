package assemble

import (
	"errors"
	"testing"
	"time"
)

// Checkpoints are saved one at a time and not too often, and an error comes from the
// next offer, and in the end.
func TestCheckpointer(t *testing.T) {
	broken := errors.New("broken")
	var saved []string
	going, gate := make(chan bool), make(chan error)
	s := newCheckpointer(func(j journal) error {
		going <- true
		saved = append(saved, j.Wrong[0].Mirror)
		return <-gate
	})
	offer := func(name string) error { return s.offer(journal{Wrong: []Wrong{{Mirror: name}}}) }
	if err := offer("first"); err != nil {
		t.Fatal(err)
	}
	<-going
	s.next = time.Time{}
	if err := offer("while the first is saved"); err != nil {
		t.Error(err)
	}
	gate <- nil
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	s.next = time.Now().Add(time.Hour)
	if err := offer("too soon"); err != nil {
		t.Error(err)
	}
	s.next = time.Time{}
	if err := offer("second"); err != nil {
		t.Error(err)
	}
	<-going
	gate <- broken
	if err := s.wait(); err != broken {
		t.Errorf("in the end: %v", err)
	}
	s.next = time.Time{}
	for range 2 {
		if err := offer("after an error"); err != broken {
			t.Errorf("after an error: %v", err)
		}
	}
	if len(saved) != 2 || saved[0] != "first" || saved[1] != "second" {
		t.Errorf("saved %q", saved)
	}
}
