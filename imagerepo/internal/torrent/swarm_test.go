package torrent_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/torrent"
	"puavo-image-repository/testdata"
)

// networkVariable is set, to the network that the test was called in, in the process that
// is in a network of its own, from which nothing gets out.
const networkVariable = "PUAVO_TEST_NETWORK"

// Installed clients get a delta by our torrent: the first one from the seed on the web,
// and the others from it when the host has the delta no more. They find each other by a
// tracker, or without one, as in a school, by asking all in their network.
func TestSwarm(t *testing.T) {
	outer, network := os.Getenv(networkVariable), namespace(t)
	if outer == "" {
		t.Parallel()
		runInNetwork(t, network)
		return
	}
	if outer == network {
		t.Fatalf("%s is set, but this is no network of its own", networkVariable)
	}
	testdata.Run(t, "ip", "link", "set", "lo", "up")
	t.Run("by a tracker", func(t *testing.T) { testSwarm(t, true) })
	testdata.Run(t, "ip", "link", "set", "lo", "multicast", "on")
	testdata.Run(t, "ip", "route", "add", "224.0.0.0/4", "dev", "lo")
	t.Run("without a tracker", func(t *testing.T) { testSwarm(t, false) })
}

func testSwarm(t *testing.T, tracked bool) {
	const name = "puavo-os-amxa-buster-2021-04-13-193910--2022-01-20-173248-amd64.rdiff"
	content := random(3<<20 + 11)
	h := newHost(t, name, content, tracked)
	first := newClient(t, h)
	stop := first.fetch(t, content)
	if h.lose(); testdata.Scale(2, 1) == 1 { // peers wait for seconds before they connect
		stop()
		return
	}
	newClient(t, h).fetch(t, content)()
	stop()
	if tracked { // one that comes back has all of it, and passes it on
		defer first.fetch(t, content)()
		newClient(t, h).fetch(t, content)()
	}
}

// namespace returns the network that this process is in.
func namespace(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// runInNetwork runs the test again, in a process with a network of its own. It skips the
// test where that is not allowed; where CI is set, it fails instead.
func runInNetwork(t *testing.T, outer string) {
	testdata.Tool(t, "ip")
	testdata.Tool(t, "aria2c")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSwarm$", "-test.v", fmt.Sprintf("-test.short=%t", testing.Short()))
	cmd.Env = append(os.Environ(), networkVariable+"="+outer)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, fs.ErrPermission) && os.Getenv("CI") == "":
		t.Skipf("a network of its own: %v", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// host is a repository, with one delta and its torrent.
type host struct {
	*httptest.Server
	name    string
	torrent []byte

	mu      sync.Mutex
	content []byte // nil if it is lost
}

func newHost(t *testing.T, name string, content []byte, tracked bool) *host {
	t.Helper()
	h := &host{name: name, content: content}
	h.Server = httptest.NewTLSServer(h)
	t.Cleanup(h.Close)
	var trackers []string
	if tracked {
		server := httptest.NewServer(&swarm{peers: make(map[string]string)})
		t.Cleanup(server.Close)
		trackers = []string{server.URL + "/announce"}
	}
	data, err := torrent.Make(made(name, content), trackers, []string{h.URL + "/rdiffs/" + name})
	if err != nil {
		t.Fatal(err)
	}
	h.torrent = data
	return h
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case r.URL.Path == "/torrents/"+h.name+".torrent":
		w.Header().Set("Content-Type", "application/x-bittorrent")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.torrent))
	case r.URL.Path == "/rdiffs/"+h.name && h.content != nil:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(h.content))
	default:
		http.NotFound(w, r)
	}
}

// lose has the host lose the delta.
func (h *host) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.content = nil
}

// swarm is a tracker of one torrent, see BEP 3 and BEP 23.
type swarm struct {
	mu    sync.Mutex
	peers map[string]string // by id: address and port, as BEP 23 has them
}

func (s *swarm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ask := r.URL.Query()
	id := ask.Get("peer_id")
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	port, err := strconv.ParseUint(ask.Get("port"), 10, 16)
	if err != nil || len(ask.Get("info_hash")) != 20 {
		http.Error(w, "d14:failure reason11:bad requeste", http.StatusOK)
		return
	}
	s.peers[id] = string(net.ParseIP(address).To4()) + string([]byte{byte(port >> 8), byte(port)})
	if ask.Get("event") == "stopped" {
		delete(s.peers, id)
	}
	var others strings.Builder
	for other, peer := range s.peers {
		if other != id {
			others.WriteString(peer)
		}
	}
	fmt.Fprintf(w, "d8:intervali2e5:peers%d:%se", others.Len(), &others)
}

// client is an installed client, in the directory of its images.
type client struct {
	dir, authority, hook, complete string
	url                            string // of the delta, as the meta has it
}

func newClient(t *testing.T, h *host) client {
	t.Helper()
	dir, etc := t.TempDir(), t.TempDir()
	c := client{dir, filepath.Join(etc, "rootca.pem"), filepath.Join(etc, "complete"), filepath.Join(etc, "path"), h.URL + "/rdiffs/" + h.name}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	hook := fmt.Appendf(nil, "#!/bin/sh\nprintf %%s \"$3\" >%s.tmp && mv %s.tmp %s\n", c.complete, c.complete, c.complete)
	if err := errors.Join(os.WriteFile(c.authority, certificate, 0o666), os.WriteFile(c.hook, hook, 0o777)); err != nil {
		t.Fatal(err)
	}
	return c
}

// args returns the command that an installed client runs. Its own are the paths of three
// options, which are /etc/puavo-conf/rootca.pem, /images and the hook in /usr/lib there.
func (c client) args() []string {
	name := path.Base(c.url)
	return []string{
		"/usr/bin/env", "LANG=C", fmt.Sprintf("PUAVO_TORRENT_UPDATE_PID=%d", os.Getpid()),
		"aria2c",
		"--bt-enable-lpd=true",
		"--bt-stop-timeout=300",
		"--ca-certificate=" + c.authority,
		"--check-integrity=true",
		"--dir=" + c.dir,
		"--enable-color=false",
		"--file-allocation=none",
		"--follow-torrent=mem",
		"--human-readable=false",
		"--index-out=1=" + name + ".tmp",
		"--no-conf=true",
		"--on-bt-download-complete=" + c.hook,
		"--seed-ratio=0.0",
		"--summary-interval=1",
		strings.TrimSuffix(c.url, "/rdiffs/"+name) + "/torrents/" + name + ".torrent",
	}
}

// fetch runs the client until it has all of the content. It passes on what it has until
// stop is called.
func (c client) fetch(t *testing.T, content []byte) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	args := c.args()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var says bytes.Buffer
	cmd.Stdout, cmd.Stderr = &says, &says
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the client
		cmd.Wait()
		close(ended)
	}()
	stop = func() { cancel(); <-ended }
	c.wait(t, ended, func() { stop(); t.Fatalf("%q: %s", args, &says) })
	got, err := os.ReadFile(filepath.Join(c.dir, path.Base(c.url)+".tmp"))
	if err != nil || !bytes.Equal(got, content) {
		stop()
		t.Fatalf("%d bytes that are the content: %v; %v\n%s", len(got), bytes.Equal(got, content), err, &says)
	}
	return stop
}

// wait waits for the hook to be called, with the path of what was fetched, or for the
// client to end.
func (c client) wait(t *testing.T, ended <-chan struct{}, failed func()) {
	t.Helper()
	for {
		if fetched, err := os.ReadFile(c.complete); err == nil {
			if want := filepath.Join(c.dir, path.Base(c.url)+".tmp"); string(fetched) != want {
				t.Errorf("the hook is called with %q, want %q", fetched, want)
			}
			os.Remove(c.complete)
			return
		}
		select {
		case <-ended:
			failed()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
