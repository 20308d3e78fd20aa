// Package servers runs the servers that mirrors are published to, each on a port of
// 127.0.0.1 and with files of its own, and a proxy that counts what is sent to them. Of
// the machine's configuration of these servers it reads nothing.
package servers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// patience is how long a server may take to begin, and to end.
const patience = 20 * time.Second

// process is a server that runs.
type process struct {
	port  int
	log   string // the file of what it says
	stop  context.CancelFunc
	ended chan struct{} // closed when it has ended
}

// start starts the command of a server at a free port, and waits until ready says that it
// answers. The command ends with ctx.
func start(ctx context.Context, log string, command func(ctx context.Context, port int) *exec.Cmd, ready func(net.Conn) bool) (*process, error) {
	var err error
	for range 3 { // another may take the port meanwhile
		var p *process
		if p, err = startOnce(ctx, log, command, ready); err == nil || ctx.Err() != nil {
			return p, err
		}
	}
	return nil, err
}

func startOnce(ctx context.Context, log string, command func(ctx context.Context, port int) *exec.Cmd, ready func(net.Conn) bool) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	says, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer says.Close()
	p := &process{port: port, log: log, ended: make(chan struct{})}
	ctx, p.stop = context.WithCancel(ctx)
	cmd := command(ctx, port)
	cmd.Stdout, cmd.Stderr = says, says
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should we be killed
	if err := cmd.Start(); err != nil {
		p.stop()
		return nil, err
	}
	go func() { // ends with the server
		defer close(p.ended)
		cmd.Wait()
	}()
	if err := p.wait(ctx, ready); err != nil {
		p.Stop()
		return nil, fmt.Errorf("%s: %w: %s", cmd.Args[0], err, p.said())
	}
	return p, nil
}

// wait waits until the server answers.
func (p *process) wait(ctx context.Context, ready func(net.Conn) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it does not answer"))
	defer cancel()
	for {
		if p.answers(ready) {
			return ctx.Err()
		}
		select {
		case <-p.ended:
			return errors.Join(errors.New("it has ended"), context.Cause(ctx))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *process) answers(ready func(net.Conn) bool) bool {
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	return ready(conn)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// said returns what the server has said.
func (p *process) said() string {
	text, _ := os.ReadFile(p.log)
	return string(bytes.TrimSpace(text))
}

// Address returns the address that the server listens at.
func (p *process) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// Stop ends the server and waits for it. Its own files stay.
func (p *process) Stop() {
	p.stop()
	<-p.ended
}
