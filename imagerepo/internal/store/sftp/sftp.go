// Package sftp publishes to a server by SFTP, as OpenSSH's sftp-server speaks it.
//
// # What the server must have
//
// posix-rename@openssh.com, which replaces a file as a whole; without it Open fails. What
// else is used where the server has it:
//
//	hardlink@openssh.com  gives a whole file its name only if no other has it (Create);
//	                      without it a reader can see a part of the file
//	fsync@openssh.com     flushes files, and folders, to the disk of the server
//	statvfs@openssh.com   explains that the disk is full: SFTP itself only says "failure"
//
// # Payload
//
// Stage writes to .publish in chunks of 8 MiB:
//
//	.publish/<name>       the bytes, with mode 0644
//	.publish/<name>.sums  the SHA-256 of each chunk that is certainly there, 32 bytes each,
//	                      in order; 0s, or nothing, for the others
//
// The writes within a chunk are concurrent, so what was interrupted may have holes in it.
// Only when the server has acknowledged all of them, and flushed the file to its disk, is
// the digest of the chunk written. When Stage continues, it sends all chunks but those
// whose digest is that of the chunk that it would send. So what counts as there is what
// was sent then and would be sent now, whatever came between: the end of a connection or
// of a process, or a power cut at the server that has fsync@openssh.com.
//
// Stage does not truncate what it finds: writes of an interrupted connection may still
// arrive, and leave a hole at the end of a shorter file.
//
// # Connections
//
// All calls share one connection. It ends when the context of a call ends that waits for the
// server, and when the server is silent for 45 seconds although it is asked to answer every
// 15 seconds. Calls that go on connect again, up to five times without progress.
//
// # Modes
//
// Files have mode 0644 and folders 0755, whatever the umask of the server, so that a web
// server can read them. .publish has mode 0700.
package sftp

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"sync"
	"time"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/meta/untrusted"
)

// Options say where a destination is and how to log in.
type Options struct {
	User string // "" is the current login name
	Host string
	Port int    // 0 is 22
	Path string // absolute, as the server sees it
	Look bool   // makes no folder
	// KnownHosts is a file with the keys of hosts; "" stands for ~/.ssh/known_hosts and
	// /etc/ssh/ssh_known_hosts.
	KnownHosts string
	// KeyFile is a private key; "" stands for all keys of the SSH agent, ~/.ssh/id_ed25519,
	// id_ecdsa and id_rsa.
	KeyFile string
	// Pace, unless it is nil, is called before n bytes of payload are sent, and waits until
	// they may be. It is called concurrently.
	Pace func(ctx context.Context, n int) error
}

// A Store is a folder of an SFTP server.
type Store struct {
	o     Options
	clock clock

	dialing chan struct{} // holds an element while a connection is made

	mu      sync.Mutex // protects the following
	current *link
	folders map[string]bool // that exist
}

// clock says how long to wait for what.
type clock struct {
	connect time.Duration // to be connected and logged in
	ask     time.Duration // between questions whether the server is there
	silence time.Duration // until it is not
	retry   time.Duration // before the first attempt to connect again, doubled each time
}

var usual = clock{connect: 30 * time.Second, ask: 15 * time.Second, silence: 45 * time.Second, retry: time.Second}

var _ store.Store = (*Store)(nil)

// Open connects to the server, and makes the folder if it is missing. The caller
// calls Close. It fails if the server cannot be reached at once, if its key is not known,
// if it accepts none of the user's keys, and if it lacks an extension that is needed.
func Open(ctx context.Context, o Options) (*Store, error) { return open(ctx, o, usual) }

func open(ctx context.Context, o Options, clock clock) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Store{o: o, clock: clock, dialing: make(chan struct{}, 1), folders: make(map[string]bool)}
	l, err := s.connected(ctx)
	if err == nil {
		err = l.run(ctx, s.prepare)
	}
	if err != nil {
		s.Close()
		return nil, s.failed("opening", "", err)
	}
	return s, nil
}

// complete checks the options and sets those that have a default.
func (o *Options) complete() error {
	if o.User == "" {
		o.User = loginName()
	}
	if o.Port == 0 {
		o.Port = 22
	}
	switch {
	case o.User == "":
		return fmt.Errorf("no user to log in as: write sftp://USER@%s", untrusted.Show(o.Host))
	case o.Host == "":
		return fmt.Errorf("no host in the destination: write sftp://USER@HOST/PATH")
	case !path.IsAbs(o.Path) || path.Clean(o.Path) != o.Path || o.Path[:min(len(o.Path), 2)] == "/~":
		return fmt.Errorf("%s: write the whole path of the folder, as the server sees it", untrusted.Quote(o.Path))
	}
	return nil
}

// String returns the URL, without the port if it is the usual one.
func (s *Store) String() string {
	u := url.URL{Scheme: "sftp", User: url.User(s.o.User), Host: s.o.Host, Path: s.o.Path}
	if s.o.Port != 22 {
		u.Host = s.o.address()
	}
	return u.String()
}

func (o Options) address() string { return net.JoinHostPort(o.Host, strconv.Itoa(o.Port)) }

// path returns the path of a file at the server.
func (s *Store) path(name string) string { return path.Join(s.o.Path, name) }

// failed adds what was being done, and to which file of which destination.
func (s *Store) failed(doing, name string, err error) error {
	if err == nil {
		return nil
	}
	where := s.String()
	if name != "" {
		where += "/" + name
	}
	return fmt.Errorf("%s %s: %w", doing, untrusted.Show(where), untrusted.Error(err))
}

// Requests returns the number of packets, most of which have 32 KiB of the file.
func (s *Store) Requests(size int64) int64 {
	return size/packet + 2*(size/chunk) + perFile
}

const (
	packet  = 32 << 10 // of one write, in bytes
	perFile = 12       // requests for a file of whatever size
)

// Close ends the connection.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	l := s.current
	s.current = nil
	return l.end()
}
