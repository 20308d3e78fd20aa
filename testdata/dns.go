package testdata

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// DNS starts dnsmasq, a name server, at a port of 127.0.0.1 for the time of the test, and
// returns the port. 0 stands for a free port. It answers as its options say, such as
// --txt-record=NAME,TEXT, and refuses all else. Where dnsmasq is not installed, DNS does
// as Tool.
func DNS(t testing.TB, port int, options ...string) int {
	t.Helper()
	Tool(t, "dnsmasq")
	says := ""
	for range 3 { // another may take the port meanwhile
		chosen := port
		if port == 0 {
			chosen = freePort(t)
		}
		var ok bool
		if says, ok = startDNS(t, chosen, options); ok {
			return chosen
		}
	}
	t.Fatalf("dnsmasq does not start: %s", says)
	return 0
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startDNS reports whether dnsmasq has started, and what it said until then.
func startDNS(t testing.TB, port int, options []string) (says string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "dnsmasq", append([]string{
		"--no-daemon", "--log-facility=-", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-hosts",
		"--listen-address=127.0.0.1", "--bind-interfaces", fmt.Sprintf("--port=%d", port),
	}, options...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should the test be killed
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	for err == nil && !strings.Contains(says, ": started, version ") {
		var line string
		line, err = lines.ReadString('\n')
		says += line
	}
	end := func() {
		io.Copy(io.Discard, lines) // until it has ended
		cmd.Wait()
	}
	if err != nil {
		end()
		return says, false
	}
	t.Cleanup(end)
	return says, true
}
