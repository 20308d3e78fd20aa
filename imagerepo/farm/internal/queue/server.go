package queue

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"puavo-image-repository/imagerepo/farm/internal/secret"
	"puavo-image-repository/imagerepo/internal/scratch"
)

// Server is a NATS server in the builder's process.
type Server struct {
	server *server.Server
	remove func() error
}

// Serve begins a server at host:port; port 0 is any free one. With TLS it accepts no connection
// without. Whoever calls it calls Close.
func Serve(address string, token secret.Token, withTLS bool) (*Server, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the port: %w", err)
	}
	if err := isFree(address); err != nil {
		return nil, fmt.Errorf("the queue: %w; choose another address with --farm embedded:HOST:PORT", err)
	}
	dir, remove, err := scratch.Make("farm") // JetStream wants one, and keeps nothing of ours in it
	if err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: "puavo-farm", Host: host, Port: int(n), Authorization: token.Queue(),
		JetStream: true, StoreDir: dir, JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: 1 << 20,
		NoLog: true, NoSigs: true, MaxPayload: 64 << 10, MaxConn: 4096, WriteDeadline: 10 * time.Second, PingInterval: 10 * time.Second,
		TLSTimeout: 10, AuthTimeout: 10,
	}
	if n == 0 {
		o.Port = server.RANDOM_PORT
	}
	if withTLS {
		if o.TLSConfig, err = token.Server(); err != nil {
			return nil, errors.Join(err, remove())
		}
		o.TLS, o.TLSVerify = true, false
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the queue: %w", err), remove())
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, errors.Join(fmt.Errorf("the queue does not listen at %s", address), remove())
	}
	return &Server{s, remove}, nil
}

// isFree returns an error if nobody can listen at an address, which the server would not say.
func isFree(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// Address returns where the server listens, as host:port.
func (s *Server) Address() string { return s.server.Addr().String() }

// Close ends the server.
func (s *Server) Close() error {
	s.server.Shutdown()
	s.server.WaitForShutdown()
	return s.remove()
}
