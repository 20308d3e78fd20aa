package farm

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/farm/internal/queue"
	"puavo-image-repository/imagerepo/internal/work"
	"puavo-image-repository/testdata"
)

// TestMain is a builder, a worker or the server of a queue where roleEnv says so, for the tests
// that kill them.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := map[string]func(context.Context) error{"builder": beBuilder, "worker": beWorker, "server": beServer}[role](ctx)
		stop()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	remove := testdata.InMemory()
	flag.Parse()
	_ = flag.Set("test.parallel", "4") // they wait for each other most of the time
	code := m.Run()
	remove()
	os.Exit(code)
}

const (
	roleEnv  = "FARM_ROLE"
	dirEnv   = "FARM_DIR"   // images, mirror, token and caches
	queueEnv = "FARM_QUEUE" // as Options.Queue
	partEnv  = "FARM_PART"  // what a builder builds
)

func childToken() (Token, error) {
	data, err := os.ReadFile(filepath.Join(os.Getenv(dirEnv), "token"))
	if err != nil {
		return Token{}, err
	}
	return ParseToken(data)
}

func beBuilder(ctx context.Context) error {
	token, err := childToken()
	if err != nil {
		return err
	}
	f, err := Open(ctx, Options{Queue: os.Getenv(queueEnv), Listen: "127.0.0.1:0", Token: token, Version: "test", limits: quick, tick: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	dir := os.Getenv(dirEnv)
	begun := time.Now()
	ready := func(work.Kind) bool { return len(f.Workers()) >= 2 || time.Since(begun) > 3*time.Second }
	_, err = build(ctx, filepath.Join(dir, "images"), filepath.Join(dir, "mirror"), waiting{f, ready}, os.Getenv(partEnv) == "whole", slog.New(slog.DiscardHandler))
	fmt.Println(f.State().Done)
	return errors.Join(err, f.Close())
}

func beWorker(ctx context.Context) error {
	token, err := childToken()
	if err != nil {
		return err
	}
	name := os.Getenv("FARM_NAME")
	at := os.Getenv(queueEnv)
	if address, ok := embedded(at); ok {
		at = address
	}
	err = Work(ctx, WorkerOptions{
		Queue: at, Token: token, Version: "test", Name: name, Jobs: 1, Memory: 1 << 30, Cache: filepath.Join(os.Getenv(dirEnv), name),
		CacheSize: 1 << 30, tick: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(os.Stdout, nil)),
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func beServer(ctx context.Context) error {
	token, err := childToken()
	if err != nil {
		return err
	}
	s, err := queue.Serve(strings.TrimPrefix(os.Getenv(queueEnv), "nats://"), token, false)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return s.Close()
}

// processes are a farm of processes.
type processes struct {
	t     *testing.T
	dir   string
	queue string
	all   map[string]*exec.Cmd
}

func newProcesses(t *testing.T, server bool) *processes {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := &processes{t: t, dir: t.TempDir(), queue: "embedded:" + address, all: make(map[string]*exec.Cmd)}
	if server {
		p.queue = "nats://" + address
	}
	if err := errors.Join(os.Rename(images(t), filepath.Join(p.dir, "images")), os.WriteFile(filepath.Join(p.dir, "token"), NewToken().File(), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for name := range p.all {
			p.kill(name)
		}
	})
	return p
}

// start starts a process, of which the name begins with its role.
func (p *processes) start(name string, out io.Writer) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+strings.TrimRight(name, "0123456789"), dirEnv+"="+p.dir, queueEnv+"="+p.queue, "FARM_NAME="+name)
	if some() == whole {
		cmd.Env = append(cmd.Env, partEnv+"=whole")
	}
	cmd.Stdout, cmd.Stderr = out, p.t.Output()
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.all[name] = cmd
}

// kill kills a process.
func (p *processes) kill(name string) {
	_ = p.all[name].Process.Kill() // it may have ended
	_ = p.all[name].Wait()
	delete(p.all, name)
}

// build waits until a builder has ended.
func (p *processes) build() error {
	err := p.all["builder"].Wait()
	delete(p.all, "builder")
	return err
}

// startAll starts all of them, the builder last.
func (p *processes) startAll(server bool, out io.Writer) {
	if server {
		p.start("server", nil)
		p.await()
	}
	p.start("worker1", nil)
	p.start("worker2", nil)
	p.start("builder", out)
}

// await waits until the server listens.
func (p *processes) await() {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.queue, "nats://"))
		if err == nil {
			conn.Close()
			return
		} else if time.Now().After(end) {
			p.t.Fatal(err)
		}
	}
}

// kills returns how often a test kills each.
func kills() int {
	n, _ := strconv.Atoi(os.Getenv("FARM_KILLS"))
	return cmp.Or(n, testdata.Short(2, 1))
}

// Whoever is killed, the mirror is that of a run to which nothing happens, at the end of the run or
// of another one.
func TestKill(t *testing.T) {
	for _, victim := range []string{"worker1", "builder", "server"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			server := victim == "server"
			undisturbed := newProcesses(t, server)
			start := time.Now()
			var jobs strings.Builder
			undisturbed.startAll(server, &jobs)
			if err := undisturbed.build(); err != nil || tree(t, filepath.Join(undisturbed.dir, "mirror")) != want(t, some()).tree {
				t.Fatal("an undisturbed run:", err)
			}
			length := time.Since(start)
			seed := uint64(time.Now().UnixNano())
			t.Logf("%d kills, seed %d; an undisturbed run takes %v, and its workers do %s jobs", kills(), seed, length, strings.TrimSpace(jobs.String()))
			random := rand.New(rand.NewPCG(seed, 0))
			for i := range kills() {
				p := newProcesses(t, server)
				p.startAll(server, nil)
				time.Sleep(time.Duration(random.Int64N(int64(length))))
				p.kill(victim)
				p.start(victim, nil)
				for try := 1; ; try++ { // a builder that finds no queue fails
					err := p.build()
					if err == nil {
						break
					} else if try == 3 {
						t.Fatalf("kill %d: %v", i, err)
					}
					if server {
						p.await()
					}
					p.start("builder", nil)
				}
				if got := tree(t, filepath.Join(p.dir, "mirror")); got != want(t, some()).tree {
					t.Fatalf("kill %d:\ngot\n%s\nwant\n%s", i, got, want(t, some()).tree)
				}
				for name := range p.all {
					p.kill(name)
				}
			}
		})
	}
}

// SIGTERM ends workers, whatever they do, without an error, and the builder goes on without them.
func TestTerminate(t *testing.T) {
	t.Parallel()
	p := newProcesses(t, false)
	p.startAll(false, nil)
	time.Sleep(500 * time.Millisecond)
	for _, name := range []string{"worker1", "worker2"} {
		cmd := p.all[name]
		delete(p.all, name)
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.build(); err != nil || tree(t, filepath.Join(p.dir, "mirror")) != want(t, some()).tree {
		t.Errorf("another mirror, or %v", err)
	}
}
