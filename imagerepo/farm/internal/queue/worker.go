package queue

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"puavo-image-repository/cksum"
)

// The parts of a subject, see the documentation of the package.
const (
	urgent = "urgent"
	usual  = "usual"
	nobody = "0"
)

// kind is what the subject of a job says.
type kind struct {
	class, base string
	mib         int64
	not         string
}

func (k kind) consumer() string { return fmt.Sprintf("%s-%s-%d-%s", k.class, k.base, k.mib, k.not) }

func parseKind(consumer string) (k kind, ok bool) {
	parts := strings.Split(consumer, "-")
	if len(parts) != 4 {
		return kind{}, false
	}
	mib, err := strconv.ParseInt(parts[2], 10, 40)
	return kind{parts[0], parts[1], mib, parts[3]}, err == nil && mib >= 0
}

// short returns the digits that stand for a worker.
func short(name string) string {
	h := cksum.NewBLAKE3()
	h.Write([]byte(name)) // never fails
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// isFor reports whether a worker may do such a job, with that memory in bytes.
func (k kind) isFor(worker string, memory int64) bool {
	return k.mib <= memory>>20 && !slices.Contains(strings.Split(k.not, "_"), short(worker))
}

// waiting is where jobs wait.
type waiting struct {
	kind
	jobs uint64
}

// Message is a job that a worker has got.
type Message struct{ m jetstream.Msg }

// Data is what Put was given.
func (m *Message) Data() []byte { return m.m.Data() }

// Working keeps the job from being handed to another worker for a while.
func (m *Message) Working() { _ = m.m.InProgress() } // else another worker gets it

// Done takes the job out of the queue.
func (m *Message) Done() { _ = m.m.Ack() } // else another worker gets it, and learns that it is done

// Back gives the job back to the queue, which hands it out when the delay is over.
func (m *Message) Back(delay time.Duration) { _ = m.m.NakWithDelay(delay) } // else that happens later

// ErrEmpty is returned by Next where no job waits that the worker can do.
var ErrEmpty = errors.New("no job waits")

// Next returns a job that a worker may do and that takes at most that memory, in bytes. holds
// reports whether the worker holds the base of which the digest begins so.
func (c *Conn) Next(ctx context.Context, worker string, memory int64, holds func(base string) bool) (*Message, error) {
	all, left, err := c.waiting(ctx, worker, memory)
	if err != nil {
		return nil, err
	}
	rank := func(w waiting) int {
		switch held := holds(w.base); {
		case held && w.class == urgent:
			return 0
		case held:
			return 1
		case w.class == urgent:
			return 2
		}
		return 3
	}
	slices.SortFunc(all, func(a, b waiting) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.jobs, a.jobs), cmp.Compare(a.consumer(), b.consumer()))
	})
	// Each time a few are enough, as all workers look.
	rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	for _, w := range append(all, left[:min(2, len(left))]...) {
		m, err := c.take(ctx, w.consumer())
		if !errors.Is(err, ErrEmpty) {
			return m, err
		}
	}
	return nil, cmp.Or(ctx.Err(), ErrEmpty)
}

// waiting returns where jobs wait that the worker may do, and where it may find one that another has
// left, which only taking it shows.
func (c *Conn) waiting(ctx context.Context, worker string, memory int64) (all, left []waiting, err error) {
	s, err := c.js.Stream(ctx, c.stream())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil, ErrEmpty
	} else if err != nil {
		return nil, nil, err
	}
	list := s.ListConsumers(ctx)
	for info := range list.Info() {
		k, ok := parseKind(info.Name)
		switch {
		case !ok || !k.isFor(worker, memory):
		case info.NumPending > 0:
			all = append(all, waiting{k, info.NumPending})
		case info.NumAckPending > 0:
			left = append(left, waiting{k, 0})
		}
	}
	return all, left, cmp.Or(ctx.Err(), list.Err())
}

func (c *Conn) take(ctx context.Context, consumer string) (*Message, error) {
	k, err := c.js.Consumer(ctx, c.stream(), consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, ErrEmpty
	} else if err != nil {
		return nil, err
	}
	return fetch(k)
}

// fetch takes a job of a consumer, which may have been removed meanwhile.
func fetch(k jetstream.Consumer) (*Message, error) {
	batch, err := k.FetchNoWait(1)
	if err != nil {
		return nil, err
	}
	for m := range batch.Messages() {
		return &Message{m}, nil
	}
	err = batch.Error()
	if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, nats.ErrNoResponders) {
		err = nil
	}
	return nil, cmp.Or(err, ErrEmpty)
}
