// Package nbd reads an export of a server of the Network Block Device protocol: the ranges that
// are asked for and no others, which nbdcopy cannot do.
//
// It knows as much of the protocol as reading takes, from
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md: the fixed newstyle
// handshake, NBD_OPT_GO, NBD_CMD_READ with simple replies, and NBD_CMD_DISC. Numbers are
// big-endian. It has neither TLS nor passwords: take a Unix socket, or a network that is
// trusted.
package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"puavo-image-repository/meta/untrusted"
)

// ErrProtocol is wrapped by the error for a server that does not do as the protocol says.
var ErrProtocol = errors.New("not what an NBD server sends")

// Address is where an export is.
type Address struct {
	network, host string // of net.Dial
	Export        string
}

// DefaultPort is that of servers whose address names none.
const DefaultPort = "10809"

// maxName bounds names of exports, in bytes.
const maxName = 4096

// ParseURI parses nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH.
func ParseURI(s string) (a Address, err error) {
	u, err := url.Parse(s)
	if err != nil {
		return a, fmt.Errorf("%s is not the address of an NBD export", untrusted.Quote(s))
	}
	a.Export = strings.TrimPrefix(u.Path, "/")
	switch socket := u.Query().Get("socket"); {
	case len(a.Export) > maxName || u.User != nil:
	case u.Scheme == "nbd+unix" && u.Host == "" && socket != "":
		a.network, a.host = "unix", socket
		return a, nil
	case u.Scheme == "nbd" && u.Hostname() != "" && socket == "":
		port := u.Port()
		if port == "" {
			port = DefaultPort
		}
		a.network, a.host = "tcp", net.JoinHostPort(u.Hostname(), port)
		return a, nil
	case u.Scheme == "nbds" || u.Scheme == "nbds+unix":
		return a, fmt.Errorf("%s: TLS is not supported; forward a Unix socket, such as by ssh -L", untrusted.Quote(s))
	}
	return a, fmt.Errorf("%s is not the address of an NBD export: want nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH", untrusted.Quote(s))
}

// Unix returns the address of an export without a name at a Unix socket.
func Unix(socket string) Address { return Address{network: "unix", host: socket} }

// URI returns the address as other programs take it.
func (a Address) URI() string {
	if a.network == "unix" {
		return "nbd+unix:///" + url.PathEscape(a.Export) + "?socket=" + url.QueryEscape(a.host)
	}
	return "nbd://" + a.host + "/" + url.PathEscape(a.Export)
}

// Patience is how long a server may take for an answer.
const Patience = 2 * time.Minute

// Client reads an export. It can be used concurrently; requests go one after the other.
type Client struct {
	mu     sync.Mutex
	conn   net.Conn
	r      *bufio.Reader
	size   int64
	least  int64 // bytes that a read must be a multiple of
	most   int64 // bytes of a read
	handle uint64
	err    error // after which nothing more can be read
	stop   func() bool
}

// Dial connects to an export. When ctx ends, reads fail with its error. Whoever calls it calls
// Close.
func Dial(ctx context.Context, a Address) (*Client, error) {
	var d net.Dialer
	dialing, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	conn, err := d.DialContext(dialing, a.network, a.host)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, r: bufio.NewReaderSize(conn, 64<<10), least: 1, most: maxRead}
	c.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if err := c.handshake(a.Export); err != nil {
		c.conn.Close()
		c.stop()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("NBD server %s: %w", a.host, err)
	}
	return c, nil
}

// Size returns the size of the export in bytes.
func (c *Client) Size() int64 { return c.size }

// The numbers of the protocol.
const (
	magicServer  = 0x4e42444d41474943 // NBDMAGIC
	magicOption  = 0x49484156454f5054 // IHAVEOPT
	magicAnswer  = 0x3e889045565a9
	magicRequest = 0x25609513
	magicReply   = 0x67446698

	fixedNewstyle = 1
	noZeroes      = 2
	optGo         = 7
	repAck        = 1
	repInfo       = 3
	repError      = 1 << 31
	infoExport    = 0
	infoBlockSize = 3
	cmdRead       = 0
	cmdDisconnect = 2
)

// maxAnswer bounds what a server answers to an option, in bytes; maxAnswers how often.
const (
	maxAnswer  = 64 << 10
	maxAnswers = 64
)

// maxRead is how much is read at a time, in bytes.
const maxRead = 1 << 20

// handshake chooses an export.
func (c *Client) handshake(export string) error {
	c.conn.SetDeadline(time.Now().Add(Patience))
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	if err := binary.Read(c.r, binary.BigEndian, &hello); err != nil {
		return ended(err)
	}
	if hello.Magic != magicServer || hello.Option != magicOption || hello.Flags&fixedNewstyle == 0 {
		return fmt.Errorf("%w: it does not greet, or is too old", ErrProtocol)
	}
	b := binary.BigEndian.AppendUint32(nil, fixedNewstyle|uint32(hello.Flags&noZeroes))
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint32(b, optGo)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(export)+2+2))
	b = binary.BigEndian.AppendUint32(b, uint32(len(export)))
	b = append(b, export...)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, infoBlockSize)
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	for range maxAnswers {
		if done, err := c.answer(); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: it does not end its answer", ErrProtocol)
}

// answer reads one part of the answer to NBD_OPT_GO, and reports whether it was the last.
func (c *Client) answer() (done bool, err error) {
	var head struct {
		Magic                uint64
		Option, Kind, Length uint32
	}
	if err := binary.Read(c.r, binary.BigEndian, &head); err != nil {
		return false, ended(err)
	}
	if head.Magic != magicAnswer || head.Option != optGo || head.Length > maxAnswer {
		return false, fmt.Errorf("%w: its answer is for another option, or too long", ErrProtocol)
	}
	data := make([]byte, head.Length)
	if _, err := io.ReadFull(c.r, data); err != nil {
		return false, ended(err)
	}
	switch {
	case head.Kind == repAck:
		if c.size < 1 {
			return false, fmt.Errorf("%w: it does not say the size of the export", ErrProtocol)
		}
		return true, nil
	case head.Kind == repInfo:
		return false, c.info(data)
	case head.Kind&repError != 0:
		return false, fmt.Errorf("it refuses the export (error %d): %s", head.Kind&^uint32(repError), untrusted.Quote(string(data)))
	}
	return false, fmt.Errorf("%w: an answer of kind %d", ErrProtocol, head.Kind)
}

// info takes what the server says about the export. What is not known is skipped.
func (c *Client) info(data []byte) error {
	if len(data) < 2 {
		return fmt.Errorf("%w: an information without a kind", ErrProtocol)
	}
	kind, data := binary.BigEndian.Uint16(data), data[2:]
	switch {
	case kind == infoExport && len(data) == 10:
		size := binary.BigEndian.Uint64(data)
		if size < 1 || size > 1<<48 {
			return fmt.Errorf("%w: an export of %d bytes", ErrProtocol, size)
		}
		c.size = int64(size)
	case kind == infoBlockSize && len(data) == 12:
		least, most := binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[8:])
		if least < 1 || least > 64<<10 || least&(least-1) != 0 || most < least {
			return fmt.Errorf("%w: blocks of %d to %d bytes", ErrProtocol, least, most)
		}
		c.least, c.most = int64(least), min(maxRead, int64(most)/int64(least)*int64(least))
	case kind == infoExport, kind == infoBlockSize:
		return fmt.Errorf("%w: an information of %d bytes", ErrProtocol, len(data))
	}
	return nil
}

// ended returns the error of a connection that ends too early.
func ended(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// ReadAt reads from the export.
func (c *Client) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= c.size {
		return 0, io.EOF
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	want := min(int64(len(p)), c.size-off)
	for int64(n) < want {
		m, err := c.read(p[n:want], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read reads some bytes by one request.
func (c *Client) read(p []byte, off int64) (int, error) {
	skip := off % c.least
	length := min((skip+int64(len(p))+c.least-1)/c.least*c.least, c.most, c.size-(off-skip))
	if c.err == nil {
		c.err = c.request(cmdRead, off-skip, length)
	}
	if c.err == nil {
		c.err = c.reply()
	}
	if c.err == nil {
		_, c.err = c.r.Discard(int(skip))
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := io.ReadFull(c.r, p[:min(int64(len(p)), length-skip)])
	if err == nil {
		_, err = c.r.Discard(int(length-skip) - n)
	}
	c.err = ended(err)
	return n, c.err
}

func (c *Client) request(command uint16, off, length int64) error {
	c.handle++
	c.conn.SetDeadline(time.Now().Add(Patience))
	b := binary.BigEndian.AppendUint32(nil, magicRequest)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, command)
	b = binary.BigEndian.AppendUint64(b, c.handle)
	b = binary.BigEndian.AppendUint64(b, uint64(off))
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	_, err := c.conn.Write(b)
	return err
}

func (c *Client) reply() error {
	var head struct {
		Magic, Error uint32
		Handle       uint64
	}
	if err := binary.Read(c.r, binary.BigEndian, &head); err != nil {
		return ended(err)
	}
	switch {
	case head.Magic != magicReply || head.Handle != c.handle:
		return fmt.Errorf("%w: a reply to another request", ErrProtocol)
	case head.Error != 0:
		return fmt.Errorf("the NBD server could not read the disk (error %d)", head.Error)
	}
	return nil
}

// Close ends the connection.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
	if c.err == nil {
		c.err = net.ErrClosed
		c.request(cmdDisconnect, 0, 0) // a courtesy, which has no reply
	}
	return c.conn.Close()
}
