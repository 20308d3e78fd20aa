package assemble

import "time"

// checkpointEvery is how often a checkpoint is saved at most.
const checkpointEvery = time.Second

// checkpointer saves checkpoints in a goroutine of its own, one at a time: each
// needs a flush of the disk, which can take long.
type checkpointer struct {
	save func(journal) error
	idle chan error // holds the result of the last save, and is empty during one
	next time.Time  // when the next one is due
}

func newCheckpointer(save func(journal) error) checkpointer {
	c := checkpointer{save: save, idle: make(chan error, 1)}
	c.idle <- nil
	return c
}

// offer saves a checkpoint if one is due and none is being saved. It does not wait
// for that: the error is the one of an earlier checkpoint.
func (c *checkpointer) offer(j journal) error {
	if time.Now().Before(c.next) {
		return nil
	}
	select {
	case err := <-c.idle:
		if err != nil {
			c.idle <- err
			return err
		}
	default:
		return nil
	}
	c.next = time.Now().Add(checkpointEvery)
	// It ends with the save; wait waits for it.
	go func() { c.idle <- c.save(j) }()
	return nil
}

// wait waits until no checkpoint is being saved, and returns the error of the last.
func (c *checkpointer) wait() error {
	err := <-c.idle
	c.idle <- err
	return err
}
