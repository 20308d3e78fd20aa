// Package queue hands jobs to workers over NATS JetStream, and passes what workers say of
// themselves to the builder.
//
//	builder                        NATS                              worker
//	   |-- Put(job) -------> stream FARM-<name>, in memory             |
//	   |                     one consumer for each subject ----------->|-- Next
//	   |-- Remove (taken back, or ended) ->                            |-- Working, every second
//	   |                                                     <---------|-- Done, or Back
//	   |<-------------------- <name>.state, request and reply ---------|-- Ask
//
// # Subjects
//
// A job has the subject
//
//	<name>.job.<class>.<base>.<MiB>.<not>
//
//	name   of the farm, 16 hexadecimal digits, by the token and the program's version: so farms
//	       share a cluster, and a worker of another version sees no jobs
//	class  urgent or usual, see below
//	base   the first 16 digits of the base's BLAKE3
//	MiB    that the job takes on one core
//	not    who must not do it: 8 digits of the BLAKE3 of each name, joined by _, or 0
//
// and its consumer the same after job, joined by -. A consumer is made with its first job, and
// removed with its last one, as each worker that looks for a job lists them all. So a worker sees
// what waits without taking it: it takes jobs of a base that it holds first, then others, each time
// the urgent ones first, and of equals one of the base of which most wait. Images are what takes
// long to move.
//
// # What is kept
//
// Nothing. A job that its worker has neither done nor worked on for 30 s is handed to another one.
// The stream is made when a builder begins, and made again if it is lost: the builder knows what it
// wants. One builder at a time may use a token, as it removes what another has put there.
package queue

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"puavo-image-repository/imagerepo/farm/internal/secret"
)

// Options say how the queue is reached.
type Options struct {
	URL     string  // as package nats takes it: nats://host:port or tls://host:port, with a user and a password or without
	Server  *Server // the embedded one, in place of a URL
	Token   secret.Token
	Version string // of the program
	// Pinned says that the server is that of a builder, whose certificate follows from the
	// token; else that must be one that the system trusts.
	Pinned bool
	// TLS refuses a server without TLS.
	TLS bool
	// Patient keeps on trying to reach the server.
	Patient bool
}

// Conn is a connection to the queue, which comes back by itself. It can be used concurrently.
type Conn struct {
	nats *nats.Conn
	js   jetstream.JetStream
	name string // of the farm
}

// ackWait is the time until a job that nobody works on is handed to another worker. It is a
// variable since tests do not wait so long.
var ackWait = 30 * time.Second

// patience is how long an answer of the server may take.
const patience = 10 * time.Second

// Dial connects to the queue. Whoever calls it calls Close.
func Dial(o Options) (*Conn, error) {
	name := o.Token.Name(o.Version)
	options := []nats.Option{
		nats.Name("puavo farm"), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second), nats.ReconnectJitter(time.Second, time.Second),
		nats.RetryOnFailedConnect(o.Patient), nats.Timeout(patience), nats.PingInterval(10 * time.Second), nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // each call has its own error
	}
	if u, err := url.Parse(o.URL); err == nil && u.User == nil {
		options = append(options, nats.Token(o.Token.Queue()))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.Pinned {
		config = o.Token.Client()
	}
	options = append(options, func(n *nats.Options) error {
		n.TLSConfig, n.Secure = config, n.Secure || o.TLS
		return nil
	})
	if o.Server != nil {
		options = append(options, nats.InProcessServer(o.Server.server))
	}
	nc, err := nats.Connect(o.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("the queue at %s: %w", Redacted(o.URL), err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &Conn{nc, js, name}, nil
}

// Redacted returns a URL without its password.
func Redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "its URL"
	}
	return u.Redacted()
}

// Close closes the connection. What it waits for ends with an error.
func (c *Conn) Close() { c.nats.Close() }

// Connected reports whether the server can be reached.
func (c *Conn) Connected() bool { return c.nats.IsConnected() }

// Trouble returns why the server cannot be reached, nil if it can. The error wraps ErrRefused if it
// will not be tried again.
func (c *Conn) Trouble() error {
	err := c.nats.LastError()
	switch {
	case c.nats.IsConnected():
		return nil
	case c.nats.IsClosed():
		return fmt.Errorf("%w: %w", ErrRefused, cmp.Or(err, nats.ErrConnectionClosed))
	}
	return cmp.Or(err, nats.ErrDisconnected)
}

// ErrRefused is wrapped by the error for a server that another token is for.
var ErrRefused = errors.New("the queue does not take this token; copy the builder's token file")

// Host returns the name or address of the host that the connection is to, "" if it is not known.
func (c *Conn) Host() string {
	u, err := url.Parse(c.nats.ConnectedUrl())
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// Local returns the address of this end of the connection, as host:port.
func (c *Conn) Local() string { return c.nats.LocalAddr() }

func (c *Conn) stream() string { return "FARM-" + c.name }

func (c *Conn) states() string { return c.name + ".state" }

// ErrNobody is wrapped by the error of Ask where no builder listens.
var ErrNobody = errors.New("no builder of this version is at work")

// Ask sends the builder what a worker says of itself, and returns its answer.
func (c *Conn) Ask(ctx context.Context, state []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := c.nats.RequestWithContext(ctx, c.states(), state)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, ErrNobody
	} else if err != nil {
		return nil, err
	}
	return m.Data, nil
}

// Answer has what workers say answered by calling answer, one at a time, until the connection is
// closed.
func (c *Conn) Answer(answer func(state []byte) []byte) error {
	_, err := c.nats.Subscribe(c.states(), func(m *nats.Msg) {
		_ = m.Respond(answer(m.Data)) // a worker without an answer asks again
	})
	return err
}
