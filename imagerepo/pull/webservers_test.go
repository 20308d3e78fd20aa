package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/testdata"
)

// webServer starts an installed web server on a free port, and returns its URL.
func webServer(t testing.TB, name, dir string) string {
	t.Helper()
	testdata.Tool(t, name)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	own := t.TempDir()
	args := []string{"file-server", "--listen", address, "--root", dir}
	if name == "nginx" {
		config := filepath.Join(own, "nginx.conf")
		text := fmt.Sprintf(`daemon off; user root; worker_processes 1; pid nginx.pid; events {}
http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
gzip on; gzip_types *; gzip_min_length 0; server { listen %s; root %q; location ~ /\. { deny all; } } }`, address, dir)
		if err := os.WriteFile(config, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		args = []string{"-p", own, "-e", "error.log", "-c", config}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "HOME="+own, "XDG_CONFIG_HOME="+own, "XDG_DATA_HOME="+own)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get("http://" + address + "/index.json")
		if err == nil {
			resp.Body.Close()
			return "http://" + address
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer: %v", name, err)
		}
	}
}

// Of real servers the copy is right, signed, and so is what they serve of the copy.
func TestWebServers(t *testing.T) {
	for _, name := range []string{"nginx", "caddy"}[:testdata.Scale(2, 1)] {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3)
			p.Sign()
			p.Build()
			o := p.options()
			o.Sources, o.Trust, o.Grace = []string{webServer(t, name, p.Mirror)}, []string{p.Keys.RootFile()}, 0
			p.pull(o)
			p.PutFixture(image4)
			p.Build()
			p.pull(o)
			if diff := mirrortest.Difference(shared(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror))); diff != "" {
				t.Error(diff)
			}
			if got, err := p.Update(webServer(t, name, p.Dest), p.Keys.RootFile()); err != nil || got != image4 {
				t.Errorf("a client has %q: %v", got, err)
			}
			if _, err := os.Stat(filepath.Join(p.Dest, ".pull/partial")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("partial files are left: %v", err)
			}
		})
	}
}
