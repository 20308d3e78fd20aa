package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Jobs is the builder's end of the queue. It can be used concurrently.
type Jobs struct {
	conn *Conn

	mu        sync.Mutex
	stream    jetstream.Stream
	consumers map[string]*consumer // by name
}

// consumer is what a consumer of the queue hands out.
type consumer struct {
	jobs    map[uint64]bool // by their numbers
	putting int             // jobs of which the number is not known yet
}

// Fresh returns an empty queue, in the place of what an earlier builder has left.
func (c *Conn) Fresh(ctx context.Context) (*Jobs, error) {
	j := &Jobs{conn: c}
	return j, j.reset(ctx)
}

func (j *Jobs) reset(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	name := j.conn.stream()
	if err := j.conn.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("the queue: %w", err)
	}
	s, err := j.conn.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{j.conn.name + ".job.>"}, Retention: jetstream.WorkQueuePolicy,
		Storage: jetstream.MemoryStorage, MaxBytes: 64 << 20, MaxMsgSize: 64 << 10, Discard: jetstream.DiscardNew,
	})
	if err != nil {
		return fmt.Errorf("the queue: %w", err)
	}
	j.stream, j.consumers = s, make(map[string]*consumer)
	return nil
}

// Item is what is put into the queue.
type Item struct {
	ID     string   // two of the same are one
	Urgent bool     // done before those that are not, as far as a worker holds their base
	Base   string   // digits of the base's digest
	Memory int64    // bytes that the job takes on one core
	Not    []string // names of workers that must not do it
	Data   []byte
}

// kind returns what of an item tells workers whether it is for them.
func (it Item) kind() kind {
	k := kind{class: usual, base: fmt.Sprintf("%.16s", it.Base), mib: (it.Memory + 1<<20 - 1) >> 20, not: nobody}
	if it.Urgent {
		k.class = urgent
	}
	var not []string
	for _, name := range it.Not {
		not = append(not, short(name))
	}
	if len(not) > 0 {
		k.not = strings.Join(not, "_")
	}
	return k
}

// Put puts a job into the queue, and returns its number there.
func (j *Jobs) Put(ctx context.Context, it Item) (number uint64, err error) {
	name := it.kind().consumer()
	subject := j.conn.name + ".job." + strings.ReplaceAll(name, "-", ".")
	c, err := j.consumer(ctx, name, subject)
	if err != nil {
		return 0, fmt.Errorf("the queue: %w", err)
	}
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		c.putting--
		if err == nil {
			c.jobs[number] = true
		}
	}()
	m := nats.NewMsg(subject)
	m.Data = it.Data
	ack, err := j.conn.js.PublishMsg(ctx, m, jetstream.WithMsgID(it.ID), jetstream.WithExpectStream(j.conn.stream()))
	if err != nil {
		return 0, fmt.Errorf("the queue: %w", err)
	}
	return ack.Sequence, nil
}

// consumer returns a consumer, which it makes unless it is there, and keeps it for a job that is put.
func (j *Jobs) consumer(ctx context.Context, name, subject string) (*consumer, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c := j.consumers[name]; c != nil {
		c.putting++
		return c, nil
	}
	_, err := j.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: -1,
		MemoryStorage: true,
	})
	if err != nil {
		return nil, err
	}
	c := &consumer{jobs: make(map[uint64]bool), putting: 1}
	j.consumers[name] = c
	return c, nil
}

// Remove takes a job out of the queue by its number, and its consumer if that has no other job. One
// that has left it, by Message.Done, is no error.
func (j *Jobs) Remove(ctx context.Context, number uint64) error {
	j.mu.Lock()
	s := j.stream
	j.mu.Unlock()
	err := s.DeleteMsg(ctx, number)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return fmt.Errorf("the queue: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, c := range j.consumers {
		if !c.jobs[number] {
			continue
		}
		if err := j.leave(ctx, name, c, number); err != nil {
			return fmt.Errorf("the queue: %w", err)
		}
	}
	return nil
}

// leave notes that jobs of a consumer have left the queue, and removes it if it has no other. The
// caller holds the mutex.
func (j *Jobs) leave(ctx context.Context, name string, c *consumer, numbers ...uint64) error {
	if c.putting == 0 && len(c.jobs) <= len(numbers) {
		err := j.stream.DeleteConsumer(ctx, name)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return err
		}
		delete(j.consumers, name)
	}
	for _, number := range numbers {
		delete(c.jobs, number)
	}
	return nil
}

// Clear removes all jobs, and their consumers.
func (j *Jobs) Clear(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.stream.Purge(ctx); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("the queue: %w", err)
	}
	for name, c := range j.consumers {
		if err := j.leave(ctx, name, c, slices.Collect(maps.Keys(c.jobs))...); err != nil {
			return fmt.Errorf("the queue: %w", err)
		}
	}
	return nil
}

// Lost reports whether the queue has vanished, as when its server began again; it is there
// then, and empty.
func (j *Jobs) Lost(ctx context.Context) (bool, error) {
	_, err := j.conn.js.Stream(ctx, j.conn.stream())
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return false, err
	}
	return true, j.reset(ctx)
}

// Delete removes the queue.
func (j *Jobs) Delete(ctx context.Context) error {
	err := j.conn.js.DeleteStream(ctx, j.conn.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}
