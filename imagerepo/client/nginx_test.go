package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// nginx is the web server of that name, the one that is installed. It serves a
// directory on the loopback interface and reads nothing of the machine's
// configuration of it.
type nginx struct {
	t      testing.TB
	url    string
	dir    string // what it serves
	prefix string // its own files
	more   string // lines of the configuration
	stop   func()
	marks  int
	taken  int // bytes of the log
}

// nginxConf is of lines more, a port and a directory.
const nginxConf = `daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 8192;
pid nginx.pid;
events { worker_connections 4096; }
http {
	default_type application/octet-stream;
	log_format asked '$status $body_bytes_sent "$request" "$http_range"';
	access_log access.log asked;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	sendfile on;
	gzip on;
	gzip_types *;
	gzip_min_length 0;
	%s
	server {
		listen 127.0.0.1:%s backlog=4096;
		root "%s";
		location /.mark/ { return 204; }
	}
}
`

// newNginx serves a directory until the test ends.
func newNginx(t testing.TB, dir string) *nginx {
	t.Helper()
	testdata.Tool(t, "nginx")
	n := &nginx{t: t, dir: dir, prefix: t.TempDir()}
	t.Cleanup(func() { n.stop() })
	for range 3 { // another may take the port meanwhile
		n.url = "http://" + freeAddress()
		if n.start() {
			return n
		}
	}
	t.Fatalf("nginx does not start: %s", n.says())
	return nil
}

func freeAddress() string {
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

// start starts the server at its address, and reports whether it answers there.
func (n *nginx) start() bool {
	n.t.Helper()
	_, port, _ := strings.Cut(strings.TrimPrefix(n.url, "http://"), ":")
	config := filepath.Join(n.prefix, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConf, n.more, port, n.dir), 0o666); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "nginx", "-p", n.prefix, "-e", "error.log", "-c", config)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should the test be killed
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the server
		cmd.Wait()
		close(ended)
	}()
	n.stop = func() { cancel(); <-ended }
	for {
		select {
		case <-ended:
			return false
		case <-time.After(5 * time.Millisecond):
			if n.mark() == nil {
				return true
			}
		}
	}
}

// restart starts it with other lines in its configuration.
func (n *nginx) restart(more string) {
	n.t.Helper()
	n.stop()
	if n.more = more; !n.start() {
		n.t.Fatalf("nginx does not start: %s", n.says())
	}
}

// mark makes a request of our own, on a connection of its own. Requests that
// ended before are in the log before it.
func (n *nginx) mark() error {
	n.marks++
	req := must(http.NewRequest(http.MethodGet, fmt.Sprintf("%s/.mark/%d", n.url, n.marks), nil))
	req.Close = true
	resp, err := new(http.Transport).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return errors.New("another server answers: " + resp.Status)
	}
	return nil
}

// says returns what the server says of its errors.
func (n *nginx) says() string {
	data, err := os.ReadFile(filepath.Join(n.prefix, "error.log"))
	return fmt.Sprintf("%s %v", data, err)
}

// served is one answer, as the log tells.
type served struct {
	path   string
	status int
	bytes  int64  // of the body
	ranges string // that were asked for; "-": none
}

// served returns the answers since it was last called.
func (n *nginx) served() (all []served) {
	n.t.Helper()
	if err := n.mark(); err != nil {
		n.t.Fatalf("%v: %s", err, n.says())
	}
	mark := fmt.Sprintf("/.mark/%d ", n.marks)
	lines := ""
	for !strings.Contains(lines, mark) || !strings.HasSuffix(lines, "\n") {
		data, err := os.ReadFile(filepath.Join(n.prefix, "access.log"))
		if err != nil {
			n.t.Fatal(err)
		}
		lines = string(data[n.taken:])
	}
	n.taken += len(lines)
	for line := range strings.Lines(lines) {
		var s served
		var request string
		if _, err := fmt.Sscanf(line, "%d %d %q %q\n", &s.status, &s.bytes, &request, &s.ranges); err != nil {
			n.t.Fatalf("nginx logs %q: %v", line, err)
		}
		if s.path = strings.TrimPrefix(strings.Fields(request)[1], "/"); !strings.HasPrefix(s.path, ".mark/") {
			all = append(all, s)
		}
	}
	return all
}

// wantRest checks that the last that was served is all of a file that follows a
// place between these two.
func (n *nginx) wantRest(file string, least, most int64) {
	n.t.Helper()
	all := n.served()
	last, start := all[len(all)-1], int64(-1)
	fmt.Sscanf(last.ranges, "bytes=%d-", &start)
	if last.path != file || last.status != http.StatusPartialContent || start < least || start > most || last.bytes != fileSize(n.t, n.dir, file)-start {
		n.t.Errorf("served %+v, want %s from a place between %d and %d on", last, file, least, most)
	}
}

// newMirror makes a mirror of these images, one of its own that the test may
// change.
func newMirror(t testing.TB, images map[string][]byte) string {
	t.Helper()
	source, mirror := t.TempDir(), filepath.Join(t.TempDir(), "a mirror")
	for im, data := range images {
		if err := os.WriteFile(filepath.Join(source, im), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{
		ImageDir: source, MirrorDir: mirror,
		Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.95},
		Jobs:   2, NoSync: true, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return mirror
}

func hugeImages() map[string][]byte {
	return map[string][]byte{huge1: imageData(huge1), huge2: imageData(huge2)}
}

func fileSize(t testing.TB, dir, file string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// way is a way to an image.
type way struct {
	name   string
	have   []string
	mirror string
	file   string // what is fetched
}

// ways are the ways to the second of the huge images.
var ways = []way{
	{"a delta", []string{huge1}, "huge", deltaFile(huge1, huge2)},
	{"the full image", nil, "huge", huge2},
	{"a compact delta", []string{huge1}, "compact huge", compactFile(huge1, huge2)},
}

// someWays returns the ways that the i-th row of a table is tried with: all, or, where
// tests are to do less, one of them.
func someWays(i int) []way {
	return slices.Concat(ways, ways)[i%len(ways):][:testdata.Scale(len(ways), 1)]
}

// place returns an images directory that goes this way.
func (w way) place(t testing.TB) *place {
	p := newPlace(t, w.have...)
	p.prefer = client.PreferTraffic
	return p
}

// nginxes serve the mirrors of all ways.
func nginxes(t testing.TB) map[string]*nginx {
	t.Helper()
	buildMirrors()
	all := make(map[string]*nginx)
	for _, w := range ways {
		if all[w.mirror] == nil {
			all[w.mirror] = newNginx(t, mirrorDir(w.mirror))
		}
	}
	return all
}

// made is what the images directory holds at the end.
func made(have []string, image string) map[string]string {
	files := map[string]string{image: imageText(image)}
	for _, f := range have {
		files[f] = imageText(f)
	}
	return files
}

// Of nginx, the file is fetched by one request, as it lies there, and nothing else
// but the meta.
func TestNginx(t *testing.T) {
	all := nginxes(t)
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			n := all[c.mirror]
			p := c.place(t)
			if _, err := p.update(n.url+"/", huge2); err != nil {
				t.Fatal(err)
			}
			p.want(made(c.have, huge2))
			payload := 0
			for _, s := range n.served() {
				if s.status != http.StatusOK || s.ranges != "-" || s.bytes != fileSize(t, n.dir, s.path) {
					t.Errorf("served %+v", s)
				}
				if s.path == c.file {
					payload++
				} else if !strings.HasSuffix(s.path, ".json") {
					t.Errorf("%s was fetched", s.path)
				}
			}
			if payload != 1 {
				t.Errorf("%s was fetched %d times", c.file, payload)
			}
		})
	}
}

// The same run goes on where the connection was cut, by a range from that byte on.
func TestNginxCut(t *testing.T) {
	all := nginxes(t)
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			n := all[c.mirror]
			const at = 9<<20 + 12345
			x := newProxy(t, n, first(cutAfter(at)))
			p := c.place(t)
			if _, err := p.update(x.URL, huge2); err != nil {
				t.Fatal(err)
			}
			p.want(made(c.have, huge2))
			x.wantOnce(c.file, oneBuffer)
			n.wantRest(c.file, at-oneBuffer, at)
		})
	}
}

// A run that was cut off because nginx was stopped is gone on with after it was
// started again.
func TestNginxStopped(t *testing.T) {
	buildMirrors()
	for _, c := range ways {
		t.Run(c.name, func(t *testing.T) {
			n := newNginx(t, mirrorDir(c.mirror))
			n.restart("limit_rate_after 4m; limit_rate 4m;") // not all may be on its way when it is stopped
			p := c.place(t)
			o := p.options(n.url, huge2)
			o.Patience.Attempts = 1
			o.Progress = func(done, _ int64) {
				if done > 5<<20 {
					n.stop()
				}
			}
			if _, err := client.Update(t.Context(), o); !errors.Is(err, client.ErrIncomplete) {
				t.Fatalf("stopped: %v", err)
			}
			n.restart("")
			o.Progress = nil
			if _, err := client.Update(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			p.want(made(c.have, huge2))
			n.wantRest(c.file, 4<<20, fileSize(t, n.dir, c.file)-1)
		})
	}
}

// A delta that nginx does not have leads to the full image, with a warning.
func TestNginxWithoutDelta(t *testing.T) {
	n := newNginx(t, newMirror(t, hugeImages()))
	file := deltaFile(huge1, huge2)
	if err := os.Remove(filepath.Join(n.dir, file)); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, huge1)
	if _, err := p.update(n.url, ""); err != nil {
		t.Fatal(err)
	}
	p.want(made([]string{huge1}, huge2))
	if !strings.Contains(p.log.String(), from(huge1)) {
		t.Errorf("no warning of the delta: %s", &p.log)
	}
	statuses := make(map[string]int)
	for _, s := range n.served() {
		statuses[s.path] = s.status
	}
	if statuses[file] != http.StatusNotFound || statuses[huge2] != http.StatusOK {
		t.Errorf("served %v", statuses)
	}
}
