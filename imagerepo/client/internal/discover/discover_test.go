package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// school are the records of a school's name server, and some for other domains. It says
// that other names in example.org do not exist, and refuses all else.
var school = slices.Concat(
	[]string{"--local=/example.org/", "--txt-record=_puavo,school.example.org"},
	srv("_imageserver_2012._tcp.school.example.org", "boot.school.example.org,873"),
	srv("_imageserver_2020._tcp.school.example.org", "boot.school.example.org,874"),
	srv("_imageserver._tcp.school.example.org", "boot.school.example.org,872"),
	srv("_imageserver._tcp.order.example.org", "b.order.example.org,873,20", "a.order.example.org,873,10", "c.order.example.org,873,30"),
	srv("_imageserver_2012._tcp.case.example.org", "Boot.CASE.example.org,873", "case.example.ORG,874,1"),
	srv("_imageserver_2012._tcp.some.example.org", "boot.example.net,873", "boot.some.example.org,874,1"),
	srv("_imageserver._tcp.bad.example.org", "a b.bad.example.org,873", "x!y.bad.example.org,873,1", // these two the resolver leaves out
		"under_score.bad.example.org,873,2", "zero.bad.example.org,0,3", ".,873,4", "good.bad.example.org,873,5"),
	srv("_imageserver_2012._tcp.none.example.org", "."),
	srv("_imageserver._tcp.many.example.org", many()...),
	outside,
)

// outside are servers that do not lie in the domain of their records.
var outside = slices.Concat(
	srv("_imageserver_2012._tcp.outside.example.org", "boot.example.net,873"),
	srv("_imageserver._tcp.outside.example.org", "evil-outside.example.org,873", "boot.evil-outside.example.org,873,1",
		"outside.example.org.example.net,873,2", "example.org,873,3"),
)

// srv returns dnsmasq's options for records with that name.
func srv(name string, targets ...string) (options []string) {
	for _, target := range targets {
		options = append(options, "--srv-host="+name+","+target)
	}
	return options
}

// many are servers that do not fit in one packet.
func many() (targets []string) {
	for i := range 50 {
		targets = append(targets, fmt.Sprintf("boot%02d.many.example.org,873,%d", i, i))
	}
	return targets
}

// txt returns dnsmasq's options for n records that name no domain.
func txt(n int) (options []string) {
	for i := range n {
		options = append(options, fmt.Sprintf("--txt-record=_puavo,x!%d", i))
	}
	return options
}

// machine returns a machine that asks the name server at an address and has a file with
// this domain and this command, a shell script; "" for neither. No process may be started
// meanwhile: until that runs its program, the command is a file that somebody writes, and
// cannot be run.
func machine(t *testing.T, server, domain, command string) Machine {
	t.Helper()
	dir := t.TempDir()
	m := Machine{
		DomainFile: filepath.Join(dir, "domain"), Settings: filepath.Join(dir, "puavo-conf"), Limit: time.Minute,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		},
	}
	var err error
	if domain != "" {
		err = os.WriteFile(m.DomainFile, []byte(domain), 0o666)
	}
	if command != "" {
		err = errors.Join(err, os.WriteFile(m.Settings, []byte("#!/bin/sh\n"+command+"\n"), 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// versions returns a command that prints the versions of certificates, and no other
// setting.
func versions(v string) string { return `[ "$*" = puavo.admin.certs.versions ] && echo "` + v + `"` }

// serve starts a name server and returns its address.
func serve(t *testing.T, options ...string) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", testdata.DNS(t, 0, options...))
}

func TestFind(t *testing.T) {
	atSchool := serve(t, school...)
	strange := serve(t, slices.Concat(school[2:], []string{"--txt-record=_puavo,x\x1by", "--txt-record=_puavo,School.example.org."})...)
	for _, c := range []struct {
		name, server, domain, command string

		want string // without https://
	}{
		{"a version", atSchool, "school.example.org\n", versions("2012"), "boot.school.example.org:873"},
		{"two versions", atSchool, "school.example.org", versions("  2020 2012"), "boot.school.example.org:874"},
		{"a version without a record", atSchool, "school.example.org", versions("1999"), "boot.school.example.org:872"},
		{"a version without a server", atSchool, "none.example.org", versions("2012"), "boot.school.example.org:873"},
		{"a version that is no name", atSchool, "school.example.org", versions("2012/x"), "boot.school.example.org:872"},
		{"no version", atSchool, "school.example.org", versions(""), "boot.school.example.org:872"},
		{"no command", atSchool, "school.example.org", "", "boot.school.example.org:872"},
		{"a command that fails", atSchool, "school.example.org", "exit 1", "boot.school.example.org:872"},
		{"a command that prints much", atSchool, "school.example.org", versions("2012") + "; yes | head -c 10000", "boot.school.example.org:872"},
		{"a command that prints without end", atSchool, "school.example.org", "exec yes 2012", "boot.school.example.org:872"},

		{"several servers", atSchool, "order.example.org", "", "a.order.example.org:873 b.order.example.org:873 c.order.example.org:873"},
		{"more servers than are taken", atSchool, "many.example.org", "",
			"boot00.many.example.org:873 boot01.many.example.org:873 boot02.many.example.org:873 boot03.many.example.org:873 " +
				"boot04.many.example.org:873 boot05.many.example.org:873 boot06.many.example.org:873 boot07.many.example.org:873"},
		{"capitals, and the domain itself", atSchool, "cASE.example.org.", versions("2012"), "boot.case.example.org:873 case.example.org:874"},
		{"some servers outside", atSchool, "some.example.org", versions("2012"), "boot.some.example.org:874"},
		{"bad servers", atSchool, "bad.example.org", "", "good.bad.example.org:873"},

		{"the domain of TXT", atSchool, "", versions("2012"), "boot.school.example.org:873"},
		{"the domain of TXT, no server in that of the file", atSchool, "unknown.example.org", versions("2012"), "boot.school.example.org:873"},
		{"the domain of TXT, all servers of the file's outside", atSchool, "outside.example.org", versions("2012"), "boot.school.example.org:873"},
		{"the domain of TXT, that of the file is bad", atSchool, "a b\n", "", "boot.school.example.org:872"},
		{"the domain of TXT, the file is large", atSchool, strings.Repeat(" ", 1000) + "order.example.org", "", "boot.school.example.org:872"},
		{"a bad TXT record beside a good one", strange, "", "", "boot.school.example.org:872"},
		{"a refused TXT record", serve(t, srv("_imageserver._tcp.example.org", "boot.example.org,873")...), "example.org", "", "boot.example.org:873"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, c.server, c.domain, c.command)
			t.Parallel()
			got, err := m.Find(t.Context())
			if text := strings.ReplaceAll(strings.Join(got, " "), "https://", ""); err != nil || text != c.want {
				t.Errorf("got %s, %v; want %s", text, err, c.want)
			}
		})
	}
}

// The error says on one line what was asked.
func TestFindNone(t *testing.T) {
	unknown := []string{"--local=/example.org/", "--txt-record=_puavo,school.example.org"}
	refusing := serve(t, outside...)
	for _, c := range []struct {
		name, server, domain, command string

		says string // regular expression
	}{
		{"no domain", refusing, "", versions("2012"),
			`, as no domain is known: domain: open \S*: no such file or directory; TXT record: lookup _puavo on \S*: server misbehaving`},
		{"bad domains", serve(t, "--txt-record=_puavo,x\x1by\n"), "a b\n", "",
			`, as no domain is known: domain in \S*: "a b" is not a host name; TXT record _puavo: "x\\x1by" is not a host name`},
		{"many bad domains", serve(t, txt(20)...), "a b\n", "", `, as no domain is known: domain in [^;]*(; TXT record _puavo: "x!\d+" is not a host name){7}`},
		{"an empty file", refusing, "\n", "", `, as no domain is known: domain in \S*: "" is not a host name; TXT record: .*`},
		{"no record", serve(t, unknown...), "", versions("2012"),
			`: domain: open .*; SRV record: lookup _imageserver_2012._tcp.school.example.org. on \S*: no such host; ` +
				`SRV record: lookup _imageserver._tcp.school.example.org. on \S*: no such host`},
		{"no record in two domains", serve(t, unknown...), "first.example.org", "",
			`: SRV record: lookup _imageserver._tcp.first.example.org. on .*; SRV record: lookup _imageserver._tcp.school.example.org. on .*`},
		{"the same domain", serve(t, unknown...), "school.example.org", "", `: SRV record: lookup \S* on \S*: no such host`},
		{"servers outside", refusing, "outside.example.org", versions("2012"),
			`: SRV record _imageserver_2012._tcp.outside.example.org: the server boot.example.net is not in the domain; ` +
				`SRV record _imageserver._tcp.outside.example.org: the server evil-outside.example.org is not in the domain; TXT record: .*`},
		{"bad servers", serve(t, slices.Concat(unknown, srv("_imageserver_2012._tcp.school.example.org", "boot.school.example.org,0"),
			srv("_imageserver._tcp.school.example.org", "under_score.school.example.org,873"))...), "school.example.org", versions("2012"),
			`: SRV record _imageserver_2012._tcp.school.example.org: the server boot.school.example.org has no port; ` +
				`SRV record _imageserver._tcp.school.example.org: "under_score.school.example.org." is not a host name`},
		{"a bad version", serve(t, unknown...), "school.example.org", versions("\x1b"), `: SRV record: lookup _imageserver_\\x1b._tcp.school.example.org.: no such host; .*`},
		{"a command that fails", serve(t, unknown...), "school.example.org", "exit 7",
			`: \S*/puavo-conf puavo.admin.certs.versions: exit status 7; SRV record: .*`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, c.server, c.domain, c.command)
			t.Parallel()
			got, err := m.Find(t.Context())
			wantNone(t, got, err, c.says)
		})
	}
}

// A machine without the command is an ordinary one.
func TestFindNoCommand(t *testing.T) {
	m := machine(t, serve(t, "--local=/example.org/", "--local=/_puavo/"), "school.example.org", "")
	for _, command := range []string{m.Settings, "no-such-command"} {
		m.Settings = command
		got, err := m.Find(t.Context())
		wantNone(t, got, err, `: SRV record: lookup _imageserver._tcp.school.example.org. on [^;]*; TXT record: .*`)
	}
}

// wantNone checks that no server was found, and that the error ends like a regular
// expression.
func wantNone(t *testing.T, got []string, err error, says string) {
	t.Helper()
	if want := "^no image server found by DNS" + says + "$"; got != nil || err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
		t.Errorf("got %q, %v; want %s", got, err, want)
	}
}

// silent returns the address of a server that answers nothing.
func silent(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// A search ends in time.
func TestFindLimit(t *testing.T) {
	never := silent(t)
	for _, c := range []struct {
		name, domain, command string

		says string
	}{
		{"SRV, then TXT", "school.example.org", "", ` within 100ms: SRV record: lookup _imageserver._tcp.school.example.org. on .*`},
		{"TXT", "", "", `(, as no domain is known| within 100ms): domain: open .*; TXT record: lookup _puavo on .*`},
		{"a command, then SRV", "school.example.org", "sleep 10", ` within 100ms: \S*/puavo-conf puavo.admin.certs.versions: [^;]*; SRV record: lookup [^;]*`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, never, c.domain, c.command)
			m.Limit = 100 * time.Millisecond
			t.Parallel()
			got, err := m.Find(t.Context())
			wantNone(t, got, err, c.says)
		})
	}
}

// A name server that does not answer leaves time for another.
func TestFindNextServer(t *testing.T) {
	never := silent(t)
	m := machine(t, serve(t, school...), "school.example.org", "")
	m.Limit = 3 * time.Second
	dial, dialled := m.Dial, 0
	m.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dialled++; dialled == 1 {
			return net.Dial(network, never)
		}
		return dial(ctx, network, address)
	}
	if got, err := m.Find(t.Context()); err != nil || !slices.Equal(got, []string{"https://boot.school.example.org:872"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// A command that hangs leaves time for DNS.
func TestFindHangingCommand(t *testing.T) {
	m := machine(t, serve(t, school...), "school.example.org", "sleep 10; "+versions("2012"))
	m.Limit = 2 * time.Second
	if got, err := m.Find(t.Context()); err != nil || !slices.Equal(got, []string{"https://boot.school.example.org:872"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// A search that is cancelled does not wait for an answer.
func TestFindCancelled(t *testing.T) {
	for _, c := range []struct{ name, domain string }{{"at SRV", "school.example.org"}, {"at TXT", ""}} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			m := machine(t, "", c.domain, "")
			m.Dial = func(context.Context, string, string) (net.Conn, error) {
				return &mute{t: t, asked: cancel, closed: make(chan struct{})}, nil
			}
			if got, err := m.Find(ctx); got != nil || err != context.Canceled {
				t.Errorf("got %q, %v", got, err)
			}
			m = machine(t, serve(t, school...), c.domain, "")
			if got, err := m.Find(ctx); got != nil || err != context.Canceled {
				t.Errorf("cancelled before: got %q, %v", got, err)
			}
		})
	}
}

// mute is a connection to a server that calls a function when it is asked, and never
// answers. Only Close ends a Read.
type mute struct {
	net.Conn // for the methods that nobody calls
	t        *testing.T
	asked    func()
	once     sync.Once
	closed   chan struct{}
}

func (m *mute) Write(p []byte) (int, error) { m.asked(); return len(p), nil }
func (m *mute) SetDeadline(time.Time) error { return nil }
func (m *mute) Close() error                { m.once.Do(func() { close(m.closed) }); return nil }
func (m *mute) Read([]byte) (n int, err error) {
	select {
	case <-m.closed:
	case <-time.After(10 * time.Second):
		m.t.Error("the connection was not closed")
	}
	return 0, net.ErrClosed
}

// What this machine has is asked for within the limit.
func TestLocal(t *testing.T) {
	m := Local()
	if m.Limit != 5*time.Second || m.DomainFile != "/etc/puavo/domain" || m.Settings != "puavo-conf" || m.Dial == nil {
		t.Errorf("%+v", m)
	}
}
