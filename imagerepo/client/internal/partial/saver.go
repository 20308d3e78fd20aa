package partial

import "time"

// saveEvery is how often the journal is written.
const saveEvery = time.Second

// saver saves journals once in a while, beside the work: the disk is flushed
// before each, which takes as long as it takes.
type saver struct {
	save func(journal) error
	busy chan error // holds the result of the last save, nothing while one goes on
	next time.Time  // is not saved before
}

func newSaver(save func(journal) error) saver {
	s := saver{save: save, busy: make(chan error, 1)}
	s.busy <- nil
	return s
}

// offer saves a journal if it is time, and none is being saved. The error is that
// of an earlier one.
func (s *saver) offer(j journal) error {
	if time.Now().Before(s.next) {
		return nil
	}
	select {
	case err := <-s.busy:
		if err != nil {
			s.busy <- err
			return err
		}
	default:
		return nil
	}
	s.next = time.Now().Add(saveEvery)
	// It ends with the save; wait waits for it.
	go func() { s.busy <- s.save(j) }()
	return nil
}

// wait waits until no journal is being saved, and returns the error of the last.
func (s *saver) wait() error {
	err := <-s.busy
	s.busy <- err
	return err
}
