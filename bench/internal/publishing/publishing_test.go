package publishing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/servers"
)

// TestMain is a publisher where stubEnv is set, which sends the image of a mirror.
func TestMain(m *testing.M) {
	if os.Getenv(stubEnv) != "" {
		if err := stub(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	stubEnv = "PUBLISHING_STUB"
	image   = "a.img"
)

// stub sends "HOW PLACE", gets how much the server has, and sends the rest.
func stub(how, mirror, address, place string) error {
	data, err := os.ReadFile(filepath.Join(mirror, image))
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	var has int
	fmt.Fprintf(conn, "%s %s\n", how, place)
	if _, err := fmt.Fscanln(conn, &has); err != nil {
		return err
	}
	switch how {
	case "fails":
		return errors.New("it is broken")
	case "short":
		data = data[:len(data)/3]
	case "changes":
		data[len(data)-1]++
	}
	if _, err := conn.Write(data[has:]); err != nil {
		return err
	}
	conn.(*net.TCPConn).CloseWrite()
	_, err = io.Copy(io.Discard, conn) // ends when the server has all
	return err
}

// receive receives what a stub sends. Only "resumes" goes on with what it has.
func receive(conn net.Conn, dir string) error {
	defer conn.Close()
	var how, place string
	if _, err := fmt.Fscanf(conn, "%s %s\n", &how, &place); err != nil {
		return err
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if how != "resumes" {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(filepath.Join(dir, place, image), flags, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintln(conn, info.Size())
	_, err = io.Copy(f, conn)
	return err
}

const size = 1<<20 + 17

// stubHost is a host for stubs, and a measurement of a mirror of one image.
func stubHost(t *testing.T, names ...string) (*measurement, *host) {
	t.Helper()
	m := &measurement{Options: Options{Mirror: t.TempDir(), Tmp: t.TempDir(), Rounds: 1, pause: time.Millisecond}}
	for name, length := range map[string]int{image: size, ".repo/state": 100} {
		path := filepath.Join(m.Mirror, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(strings.Repeat("x", length)), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if m.mirror, err = newMirror(m.Mirror); err != nil || m.mirror.size != size || !slices.Equal(m.mirror.files, []string{image}) {
		t.Fatalf("%+v, %v", m.mirror, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	dir := func(place string) string { return filepath.Join(m.Tmp, place) }
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			receive(conn, m.Tmp)
		}
	}()
	h := &host{name: "stubs", dir: dir, remove: func(place string) error { return os.RemoveAll(dir(place)) }}
	if h.proxy, err = servers.NewProxy(t.Context(), l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.proxy.Close)
	for _, name := range names {
		h.add(publisher{name: name, env: []string{stubEnv + "=1"}, command: func(place string) []string {
			return []string{os.Args[0], name, m.Mirror, fmt.Sprint("127.0.0.1:", h.proxy.Port), place}
		}})
	}
	h.add(publisher{name: "not installed"}, "no-such-tool")
	return m, h
}

// What is sent again is counted, and nothing is left at the server.
func TestRounds(t *testing.T) {
	t.Parallel()
	m, h := stubHost(t, "restarts", "resumes")
	m.Rounds = 2
	var order []string
	for _, p := range h.publishers {
		command := p.command
		p.command = func(place string) []string {
			order = append(order, p.name)
			return command(place)
		}
	}
	if err := m.rounds(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if len(h.publishers) != 2 {
		t.Fatalf("%d publishers", len(h.publishers))
	}
	for _, p := range h.publishers {
		if len(p.whole) != 2 || len(p.broken) != 2 {
			t.Fatalf("%s: %d and %d rounds", p.name, len(p.whole), len(p.broken))
		}
		header := int64(len(p.name + " place-1\n"))
		for i, w := range p.whole {
			b := p.broken[i]
			want := header
			if p.name == "restarts" {
				want = b.killed
			}
			if w.bytes != size+header || w.Seconds <= 0 || b.killed < size/2 || b.again != want || b.bytes != w.bytes+b.again || b.rest <= 0 {
				t.Errorf("%s: %+v, %+v, want %d bytes again", p.name, w, b, want)
			}
		}
	}
	if order = slices.Compact(order); !slices.Equal(order, []string{"restarts", "resumes", "restarts"}) {
		t.Errorf("the order was %q", order)
	}
	if left, _ := os.ReadDir(m.Tmp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRoundErrors(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		want string
	}{
		{"fails", t.Context(), "it is broken"},
		{"short", t.Context(), "not the mirror"},
		{"changes", t.Context(), "not the mirror"},
		{"resumes", cancelled, "context canceled"},
	} {
		m, h := stubHost(t, c.name)
		if err := m.rounds(c.ctx, h); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), c.name+": ") {
			t.Errorf("%s: %v", c.name, err)
		}
		if left, _ := os.ReadDir(m.Tmp); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

func TestBrokenErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, want string }{
		{"fails", "ended before it was killed\n"},
		{"short", "ended before it was killed"},
		{"changes", "not the mirror"},
	} {
		m, h := stubHost(t, c.name)
		if _, err := m.broken(t.Context(), h, h.publishers[0]); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	m, h := stubHost(t, "resumes")
	m.pause = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	if _, err := m.broken(ctx, h, h.publishers[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestArrived(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	m, _ := stubHost(t)
	for _, c := range []struct {
		name string
		ctx  context.Context
		more string // a folder of what arrived
		want string
	}{
		{"all", t.Context(), "folder", ""},
		{"the private folder too", t.Context(), ".repo", "has .repo"},
		{"cancelled", cancelled, "folder", "context canceled"},
	} {
		dir := t.TempDir()
		if err := errors.Join(os.Mkdir(filepath.Join(dir, c.more), 0o777), os.Link(filepath.Join(m.Mirror, image), filepath.Join(dir, image))); err != nil {
			t.Fatal(err)
		}
		if err := m.mirror.arrived(c.ctx, dir); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestNewMirror(t *testing.T) {
	empty := t.TempDir()
	if err := os.MkdirAll(filepath.Join(empty, ".repo"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, want string }{{"no/such", "no such file"}, {empty, "nothing in it"}} {
		if _, err := newMirror(c.dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.dir, err)
		}
	}
}

// A ratio is that of one round.
func TestWrite(t *testing.T) {
	row := func(name string, seconds ...float64) *publisher {
		p := &publisher{name: name}
		for _, s := range seconds {
			p.whole = append(p.whole, whole{Figures: measure.Figures{Seconds: s, CPU: s * s, Resident: 3e6}, flush: 10, bytes: 11e6})
			p.broken = append(p.broken, broken{killed: 6e6, bytes: 15e6, again: 4e6, rest: s / 2})
		}
		return p
	}
	m := &measurement{Options: Options{Rounds: 3}, mirror: mirror{size: 10e6, files: []string{"a", "b"}}}
	var out strings.Builder
	if err := m.write(&out, &host{name: "stubs", publishers: []*publisher{row("theirs", 10, 30, 20), row("ours", 1, 2, 5)}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^## stubs$`, `(?m)^2 files of 10 000 000 bytes, 3 rounds, after them a load of [\d. ]+\.$`,
		`\| +theirs \| +20\.00 \| +0\.5 \| +1\.00 \| +10\.00 \| +1\.00 \| +400\.00 \| +1\.00 \| +3\.0 \| +11\.0 \|`,
		`\| +ours \| +2\.00 \| +5\.0 \| +10\.00 \| +10\.00 \| +2\.00 \| +4\.00 \| +100\.00 \| +3\.0 \| +11\.0 \|`,
		`\| +ours \| +6\.0 \| +15\.0 \| +4\.0 \| +40\.0 % \| +1\.00 \|`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
}

// Without servers there is nothing to measure, and what is missing is named.
func TestMissing(t *testing.T) {
	m, _ := stubHost(t)
	t.Setenv("PATH", t.TempDir())
	var out strings.Builder
	if err := Measure(t.Context(), m.Options, &out); err == nil || !strings.Contains(err.Error(), "openssh-server") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(out.String(), "- not installed: sshd, ssh-keygen, ssh, rsync, rclone, versitygw; ") {
		t.Errorf("%s", &out)
	}
}
