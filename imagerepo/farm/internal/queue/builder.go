package queue

import (
	"context"
	"errors"
	"fmt"
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
	consumers map[string]bool
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
	j.stream, j.consumers = s, make(map[string]bool)
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
	consumer := it.kind().consumer()
	subject := j.conn.name + ".job." + strings.ReplaceAll(consumer, "-", ".")
	if err := j.consumer(ctx, consumer, subject); err != nil {
		return 0, fmt.Errorf("the queue: %w", err)
	}
	m := nats.NewMsg(subject)
	m.Data = it.Data
	ack, err := j.conn.js.PublishMsg(ctx, m, jetstream.WithMsgID(it.ID), jetstream.WithExpectStream(j.conn.stream()))
	if err != nil {
		return 0, fmt.Errorf("the queue: %w", err)
	}
	return ack.Sequence, nil
}

func (j *Jobs) consumer(ctx context.Context, name, subject string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.consumers[name] {
		return nil
	}
	_, err := j.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: -1,
		MemoryStorage: true,
	})
	if err == nil {
		j.consumers[name] = true
	}
	return err
}

// Remove takes a job out of the queue by its number. One that has left it is no error.
func (j *Jobs) Remove(ctx context.Context, number uint64) error {
	j.mu.Lock()
	s := j.stream
	j.mu.Unlock()
	err := s.DeleteMsg(ctx, number)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) && !errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return fmt.Errorf("the queue: %w", err)
	}
	return nil
}

// Clear removes all jobs.
func (j *Jobs) Clear(ctx context.Context) error {
	j.mu.Lock()
	s := j.stream
	j.mu.Unlock()
	if err := s.Purge(ctx); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("the queue: %w", err)
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
