package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/lease"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/testdata"
)

// TestMain is a publisher where childEnv is set, for the tests that kill it.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		if err := runChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	remove := testdata.InMemory()
	code := m.Run()
	mirrortest.RemoveKeys()
	remove()
	os.Exit(code)
}

const childEnv = "PUBLISH_TO"

// runChild publishes, and kills this process before the change with this number, of the
// destination or of another directory. It writes how many changes there were.
func runChild() error {
	at, err := strconv.Atoi(os.Getenv("PUBLISH_KILL"))
	if err != nil {
		return err
	}
	o := Options{
		MirrorDir: os.Getenv("PUBLISH_MIRROR"), Destination: os.Getenv(childEnv), Jobs: 1, AllowRemoval: true,
		KnownHosts: os.Getenv("PUBLISH_KNOWN"), KeyFile: os.Getenv("PUBLISH_KEY"),
	}
	o.lease = lease.Times{Renew: time.Second, Stale: 10 * time.Second, Pause: time.Millisecond}
	if keys := os.Getenv("PUBLISH_KEYS"); keys != "" {
		k, err := trust.Open(mirrortest.KeyOptions(keys))
		if err != nil {
			return err
		}
		defer k.Close()
		o.Sign = k
	}
	var changes atomic.Int64
	defer atomicfile.Observe(cmp.Or(os.Getenv("PUBLISH_KILL_IN"), o.Destination), func(atomicfile.Change) error {
		if changes.Add(1) == int64(at) {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	})()
	_, _, err = Run(context.Background(), o)
	fmt.Print(changes.Load())
	return err
}

// child publishes as a process of its own, which is killed before a change, and reports how
// many changes it made. keys is "" for a run without.
func (p *place) child(dest string, keys string, killAt int) (changes int, killed bool) {
	p.T.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dest, "PUBLISH_MIRROR="+p.Mirror, "PUBLISH_KEYS="+keys, fmt.Sprint("PUBLISH_KILL=", killAt))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return 0, true
	}
	p.Must(err)
	changes, err = strconv.Atoi(string(out))
	p.Must(err)
	return changes, false
}

// killed is a publication that is killed at each of its steps.
type killed struct {
	name          string
	signed, keys  bool // whether the mirror is signed, and the publisher has the keys
	first, second func(p *place)
	// newest is what a client gets at all times. refused says that one that verifies
	// signatures may get the error for a changed file instead.
	newest  []string
	refused bool
}

// Whenever a publisher is killed, all digests at the destination hold, clients update, and the
// next run ends with what the mirror has.
func TestKill(t *testing.T) {
	for _, c := range []killed{
		{name: "the first publication", first: func(*place) {}, second: func(*place) {}, newest: []string{"", image3}},
		{name: "an image comes and one leaves", newest: []string{image2, image3}, first: func(p *place) { p.Leave(image3) },
			second: func(p *place) { p.Put(image3, testdata.Read(p.T, "images/"+image3)); p.Leave(other) }},
		{name: "an image is replaced", newest: []string{image2, image3}, first: func(*place) {}, second: func(p *place) { p.Replace(image3) }},
		{name: "signed, an image is replaced with the keys", signed: true, keys: true, newest: []string{image2, image3},
			first: func(*place) {}, second: func(p *place) { p.Replace(image3) }},
		{name: "signed, an image is replaced without the keys", signed: true, refused: true, newest: []string{image2, image3},
			first: func(*place) {}, second: func(p *place) { p.Replace(image3) }},
		{name: "signed, the keys change", signed: true, keys: true, newest: []string{image2, image3}, first: func(p *place) { p.Leave(image3) },
			second: func(p *place) { p.rotate(); p.Put(image3, testdata.Read(p.T, "images/"+image3)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(newPlace(t, image1, image2, image3, other))
		})
	}
}

// rotate replaces the keys of all roles, and signs the mirror twice with them.
func (p *place) rotate() {
	p.T.Helper()
	p.OpenKeys()
	for _, role := range trust.Roles() {
		_, err := p.Keys.Rotate(role, "")
		p.Must(err)
	}
	p.build()
}

func (c killed) test(p *place) {
	keys, root := "", ""
	if c.signed {
		p.CopyKeys()
		root = p.root()
	}
	if c.keys {
		keys = filepath.Join(p.Dir, "keys")
	}
	c.first(p)
	if c.name != "the first publication" {
		p.build()
		p.child(p.Dest, "", 0)
	} else {
		p.Must(os.Mkdir(p.Dest, 0o777))
	}
	c.second(p)
	p.build()
	whole := p.CopyDest("whole")
	changes, _ := p.child(whole, keys, 0)
	few := testdata.Short(testdata.Scale(40, 4), 2)
	if c.keys {
		few = testdata.Short(testdata.Scale(12, 2), 1) // each reads keys, which is slow by design
	}
	kills := 0
	for _, at := range points(changes, few) {
		dest := p.CopyDest(fmt.Sprint("killed-", at))
		_, killed := p.child(dest, keys, at)
		if !killed {
			break // signing made fewer
		}
		kills++
		c.check(p, dest, root, fmt.Sprint("killed at ", at, " of ", changes))
		p.child(dest, keys, 0)
		p.child(dest, keys, 0) // removes the signed files of a withdrawal
		if diff := mirrortest.Difference(mirrortest.Tree(p.T, dest), mirrortest.Tree(p.T, p.Mirror)); diff != "" {
			p.T.Fatalf("killed at %d, the next run leaves %s", at, diff)
		}
		os.RemoveAll(dest)
	}
	p.T.Logf("%d kills, %d changes", kills, changes)
}

// points returns at which of all steps something happens: at few of them, or, where
// PUBLISH_KILLS is set, at each of the first, the middle and the last hundred.
func points(all, few int) (at []int) {
	if os.Getenv("PUBLISH_KILLS") == "" {
		for i := range few {
			at = append(at, 1+i*all/few)
		}
		return at
	}
	for i := 1; i <= all; i++ {
		if middle := all / 2; i <= 100 || i > all-100 || i > middle-50 && i <= middle+50 {
			at = append(at, i)
		}
	}
	return at
}

// check checks a destination as clients do.
func (c killed) check(p *place, dest, root, when string) {
	p.T.Helper()
	if err := mirrortest.Holds(dest); err != nil {
		p.T.Fatalf("%s: %v", when, err)
	}
	got, err := p.Update(dest, "")
	if err != nil && c.newest[0] != "" || err == nil && got != c.newest[0] && got != c.newest[1] {
		p.T.Fatalf("%s: a client has %q: %v", when, got, err)
	}
	if root == "" {
		return
	}
	got, err = p.Update(dest, root)
	if err != nil && !(c.refused && isRefused(err, image3)) || err == nil && got != c.newest[0] && got != c.newest[1] {
		p.T.Fatalf("%s: a client that verifies has %q: %v", when, got, err)
	}
}

// isRefused reports whether an error is that of a client for the digest of a file alone: of
// an image, and of what leads to it.
func isRefused(err error, image string) bool {
	if !errors.Is(err, client.ErrVerify) || errors.Is(err, client.ErrUntrusted) || !strings.Contains(err.Error(), image+": its BLAKE3 is ") {
		return false
	}
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, image+" from ") {
			return false
		}
	}
	return true
}

// A run that is killed leaves the directory in which it changes documents. The next run
// removes it, even if that changes no document.
func TestKilledWithdrawal(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	p.publish(p.options())
	p.Replace(image2)
	p.build()
	temporary := filepath.Join(p.Dir, "tmp")
	p.Must(os.Mkdir(temporary, 0o777))
	t.Setenv("TMPDIR", temporary)
	t.Setenv("PUBLISH_KILL_IN", temporary)
	changes, _ := p.child(p.CopyDest("whole"), "", 0)
	left := func() []os.DirEntry {
		entries, err := os.ReadDir(temporary)
		p.Must(err)
		return entries
	}
	if len(left()) > 0 || changes < 10 {
		t.Fatalf("a run that ends leaves %v after %d changes", left(), changes)
	}
	for _, at := range points(changes-1, testdata.Short(5, 2)) { // the last is the removal
		if _, killed := p.child(p.CopyDest(fmt.Sprint("killed-", at)), "", at); !killed || len(left()) != 1 {
			t.Errorf("killed at %d of %d: %v, %v", at, changes, killed, left())
		}
		if p.child(filepath.Join(p.Dir, fmt.Sprint("new-", at)), "", 0); len(left()) > 0 {
			t.Errorf("killed at %d of %d: after the next run there are %v", at, changes, left())
		}
	}
}
