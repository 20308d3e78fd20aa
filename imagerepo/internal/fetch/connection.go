package fetch

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// errStalled is why a connection is given up that brings nothing.
var errStalled = errors.New("hardly any data arrived for some time")

// slowest is how many bytes a second a connection must bring.
const slowest = 256

// connection is one answer of a server, which must keep coming.
type connection struct {
	resp     *http.Response
	cancel   context.CancelCauseFunc
	stall    time.Duration // within which slowest bytes a second must come
	silence  *time.Timer   // cancels if no byte at all comes
	skip     int64         // bytes that follow and are known already
	received int64         // bytes, those that were skipped left out

	// Of the period in which the speed is measured:
	waited time.Duration // for bytes
	came   int64         // bytes
}

func newConnection(resp *http.Response, cancel context.CancelCauseFunc, stall time.Duration) *connection {
	return &connection{
		resp: resp, cancel: cancel, stall: stall,
		silence: time.AfterFunc(stall, func() { cancel(errStalled) }),
	}
}

func (c *connection) close() {
	c.silence.Stop()
	c.cancel(nil)
	c.resp.Body.Close()
}

// read reads what comes after the bytes to skip.
func (c *connection) read(p []byte) (int, error) {
	for c.skip > 0 {
		n, err := c.receive(p[:min(int64(len(p)), c.skip)])
		if c.skip -= int64(n); err != nil {
			return 0, err
		}
	}
	n, err := c.receive(p)
	c.received += int64(n)
	return n, err
}

// receive reads the next bytes. Its error is errStalled if they come too slowly.
func (c *connection) receive(p []byte) (int, error) {
	start := time.Now()
	c.silence.Reset(c.stall)
	n, err := c.resp.Body.Read(p)
	c.silence.Stop()
	c.waited += time.Since(start)
	if ctx := c.resp.Request.Context(); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = c.measure(n)
	}
	return n, err
}

// measure counts bytes that came, and returns errStalled at the end of a period in
// which there were too few. Only the time of waiting for them counts, not what the
// caller takes to use them.
func (c *connection) measure(n int) error {
	c.came += int64(n)
	if c.waited < c.stall {
		return nil
	}
	enough := float64(c.came) >= slowest*c.waited.Seconds()
	c.waited, c.came = 0, 0
	if !enough {
		return errStalled
	}
	return nil
}
