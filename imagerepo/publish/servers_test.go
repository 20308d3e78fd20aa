package publish

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/testdata"
)

// server is a real server that mirrors are published to.
type server interface {
	address() string
	// place makes a place for a mirror, and returns the destination by this port of
	// 127.0.0.1, and the directory that the server has it in.
	place(name string, port int) (destination, dir string)
	env() []string // that a publisher needs
	Stop()
	Start()
}

type sftpServer struct {
	*testdata.SSHD
	dir string
}

func newSFTP(t *testing.T) server {
	return sftpServer{testdata.NewSSHD(t, "internal-sftp"), t.TempDir()}
}

func (s sftpServer) address() string { return s.Address() }
func (s sftpServer) env() []string {
	return []string{"PUBLISH_KNOWN=" + s.KnownHosts, "PUBLISH_KEY=" + s.KeyFile}
}

func (s sftpServer) place(name string, port int) (destination, dir string) {
	s.Know(port)
	dir = filepath.Join(s.dir, name)
	return fmt.Sprintf("sftp://%s@127.0.0.1:%d%s", s.User, port, dir), dir
}

type s3Server struct{ *testdata.S3 }

func newS3(t *testing.T) server { return s3Server{testdata.NewS3(t)} }

func (s s3Server) address() string { return strings.TrimPrefix(s.URL, "http://") }

func (s s3Server) env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + testdata.S3Key, "AWS_SECRET_ACCESS_KEY=" + testdata.S3Secret}
}

func (s s3Server) place(name string, port int) (destination, dir string) {
	dir = s.Bucket(name)
	return fmt.Sprintf("s3://%s/images?region=us-east-1&endpoint=http://127.0.0.1:%d", name, port), filepath.Join(dir, "images")
}

var servers = map[string]func(*testing.T) server{"sftp": newSFTP, "s3": newS3}

// proxy is between publishers and a server. It counts what publishers send: each read of
// what has come is one.
type proxy struct {
	port  int
	count atomic.Int64
	at    atomic.Int64 // with this number, do is called before it is let through
	do    func()
}

func newProxy(t *testing.T, address string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{port: l.Addr().(*net.TCPAddr).Port}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { p.serve(conn, address) })
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return p
}

func (p *proxy) serve(conn net.Conn, address string) {
	defer conn.Close()
	up, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer up.Close()
	var group sync.WaitGroup
	group.Go(func() {
		io.Copy(conn, up)
		conn.Close()
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			break
		}
		if p.count.Add(1) == p.at.Load() {
			p.do()
		}
		if _, err := up.Write(buf[:n]); err != nil {
			break
		}
	}
	up.Close()
	group.Wait()
}

// publisher returns a publisher as a process of its own.
func (p *place) publisher(mirror, destination string, env []string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), env...), childEnv+"="+destination, "PUBLISH_MIRROR="+mirror, "PUBLISH_KILL=0")
	return cmd
}

// twoEditions returns the directories of a mirror before and after an image was replaced,
// one came, and one left.
func (p *place) twoEditions() (first, second string) {
	p.build()
	first = filepath.Join(p.Dir, "first")
	p.Must(exec.Command("cp", "-a", p.Mirror, first).Run())
	p.Replace(image3)
	p.Put(image4, testdata.Read(p.T, "images/"+image4))
	p.Leave(other)
	p.build()
	return first, p.Mirror
}

// Whenever a publisher to a real server is killed, all digests there hold, a client updates,
// and the next run ends with what the mirror has.
func TestServersKill(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := newPlace(t, image1, image2, image3, other)
			first, second := p.twoEditions()
			through := newProxy(t, s.address())
			publish := func(mirror, to string) {
				t.Helper()
				if out, err := p.publisher(mirror, to, s.env()).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			to, _ := s.place("whole", through.port)
			publish(first, to)
			through.count.Store(0)
			publish(second, to)
			all := points(int(through.count.Load()), testdata.Short(testdata.Scale(12, 2), 1))
			kills := 0
			for _, at := range all {
				to, dir := s.place(fmt.Sprint("killed-", at), through.port)
				publish(first, to)
				cmd := p.publisher(second, to, s.env())
				through.count.Store(0)
				started := make(chan int, 1)
				through.do = func() { syscall.Kill(<-started, syscall.SIGKILL) }
				through.at.Store(int64(at))
				p.Must(cmd.Start())
				started <- cmd.Process.Pid
				if err := cmd.Wait(); err != nil {
					kills++
				}
				through.at.Store(0)
				p.served(dir, fmt.Sprint("killed at ", at))
				publish(second, to)
				publish(second, to) // removes what a run left that was killed
				if diff := mirrortest.Difference(mirrortest.Tree(t, dir), mirrortest.Tree(t, second)); diff != "" {
					t.Fatalf("killed at %d, the next run leaves %s", at, diff)
				}
			}
			t.Logf("%d calls, %d kills, as many clients", through.count.Load(), kills)
		})
	}
}

// served checks the directory of a server as a client does, which must get an image.
func (p *place) served(dir, when string) {
	p.T.Helper()
	if err := mirrortest.Holds(dir); err != nil {
		p.T.Fatalf("%s: %v", when, err)
	}
	if got, err := p.Update(dir, ""); err != nil || got != image2 && got != image3 && got != image4 {
		p.T.Fatalf("%s: a client has %q: %v", when, got, err)
	}
}

// A server that is stopped in mid-run ends the run with an error, and leaves what clients can
// use; when it is there again, the next run ends the work.
func TestServersStop(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := newPlace(t, image1, image2, image3, other)
			first, second := p.twoEditions()
			through := newProxy(t, s.address())
			to, dir := s.place("stopped", through.port)
			if out, err := p.publisher(first, to, s.env()).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			through.count.Store(0)
			through.do = s.Stop
			through.at.Store(20)
			out, err := p.publisher(second, to, s.env()).CombinedOutput()
			if failed := (*exec.ExitError)(nil); !errors.As(err, &failed) || failed.ExitCode() != 1 || strings.Contains(string(out), testdata.S3Secret) {
				t.Errorf("a server that stops: %v: %s", err, out)
			}
			p.served(dir, "stopped")
			s.Start()
			if out, err := p.publisher(second, to, s.env()).CombinedOutput(); err != nil {
				t.Fatalf("started again: %v: %s", err, out)
			}
			p.served(dir, "started again")
		})
	}
}
