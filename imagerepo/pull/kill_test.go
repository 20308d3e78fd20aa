package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/trust"
	"puavo-image-repository/testdata"
)

// TestMain is a pull where childEnv is set, for the tests that kill it.
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

const childEnv = "PULL_OPTIONS"

// child is what a child does.
type child struct {
	Sources []string
	Dir     string
	Policy  Policy
	Trust   []string
	Keys    string // of a copy that is signed
	KillAt  int64
}

// runChild pulls, and kills this process before the change of the copy with this number. It
// writes how many changes there were.
func runChild() error {
	var c child
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c); err != nil {
		return err
	}
	o := Options{Sources: c.Sources, Dir: c.Dir, Policy: c.Policy, Trust: c.Trust, Jobs: 1, AllowRemoval: true, Grace: time.Hour}
	if c.Keys != "" {
		k, err := trust.Open(mirrortest.KeyOptions(c.Keys))
		if err != nil {
			return err
		}
		defer k.Close()
		o.Sign = k
	}
	var changes atomic.Int64
	defer atomicfile.Observe(o.Dir, func(atomicfile.Change) error {
		if changes.Add(1) == c.KillAt {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	})()
	_, _, err := Run(context.Background(), o)
	fmt.Print(changes.Load())
	return err
}

// run pulls as a process of its own, and reports how many changes it made, and whether it was
// killed.
func (c child) run(p *place) (changes int64, killed bool) {
	p.T.Helper()
	options, err := json.Marshal(c)
	p.Must(err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(options))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return 0, true
	}
	p.Must(err)
	changes, err = strconv.ParseInt(string(out), 10, 64)
	p.Must(err)
	return changes, false
}

// killed is a pull that is killed at each of its steps.
type killed struct {
	name   string
	policy Policy
	signed bool // upstream is; the copy too, by own
	own    bool
	// first and second are what upstream has before and after; without a first, there is no
	// copy yet.
	first, second func(p *place)
	newest        []string // what a client has, always
}

// Whenever a pull is killed, clients that read all the time update from the copy, all its
// digests hold, and the next run ends with what upstream has.
func TestKill(t *testing.T) {
	all := Policy{Deltas: All}
	arrives := func(p *place) { p.PutFixture(image3) }
	cases := []killed{
		{name: "the first run", policy: all, second: func(*place) {}, newest: []string{"", image3}},
		{name: "an image comes and one leaves", policy: all, newest: []string{image2, image3}, first: func(p *place) { p.Leave(image3) },
			second: func(p *place) { arrives(p); p.Leave(other) }},
		{name: "an image is replaced", policy: all, newest: []string{image2, image3}, first: func(*place) {}, second: func(p *place) { p.Replace(image3) }},
		{name: "signed, an image comes", policy: all, signed: true, newest: []string{image2, image3}, first: func(p *place) { p.Leave(image3) }, second: arrives},
		{name: "a selection, signed here", policy: Policy{Images: 2, Deltas: 1}, own: true, newest: []string{image2, image3},
			first: func(p *place) { p.Leave(image3) }, second: arrives},
	}
	for _, c := range cases[:testdata.Scale(len(cases), 2)] {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(newPlace(t, image1, image2, image3, other))
		})
	}
}

func (c killed) test(p *place) {
	upstream := child{Sources: []string{p.Mirror}, Dir: p.Dest, Policy: c.policy}
	root := ""
	if c.signed || c.own {
		p.Sign()
		root = p.Keys.RootFile()
	}
	if c.signed {
		upstream.Trust = []string{root}
	}
	if c.own {
		upstream.Keys = p.Keys.Dir
	}
	if c.first != nil {
		c.first(p)
		p.Build()
		upstream.run(p)
	} else {
		p.Must(os.Mkdir(p.Dest, 0o777))
	}
	c.second(p)
	p.Build()
	whole := upstream
	whole.Dir = p.CopyDest("whole")
	changes, _ := whole.run(p)
	want := mirrortest.Tree(p.T, whole.Dir)
	kills := 0
	for i, at := range killPoints(changes, testdata.Scale(12, 1)) {
		this := upstream
		this.Dir = p.CopyDest(fmt.Sprint("killed-", i))
		this.KillAt = at
		stop := c.readers(p, this.Dir, root)
		_, dead := this.run(p)
		stop()
		if !dead {
			break // it made fewer changes
		}
		kills++
		if err := mirrortest.Holds(this.Dir); err != nil {
			p.T.Fatalf("killed at %d of %d: %v", at, changes, err)
		}
		this.KillAt = 0
		stop = c.readers(p, this.Dir, root)
		this.run(p)
		stop()
		if diff := mirrortest.Difference(c.stable(shared(mirrortest.Tree(p.T, this.Dir), want))); diff != "" {
			p.T.Fatalf("killed at %d of %d, the next run leaves %s", at, changes, diff)
		}
		os.RemoveAll(this.Dir)
	}
	p.T.Logf("%d kills, %d changes", kills, changes)
}

// killPoints returns n of the changes, from the first to the last; one alone is in the middle.
func killPoints(changes int64, n int) (at []int64) {
	if n == 1 {
		return []int64{changes / 2}
	}
	for i := range int64(n) {
		at = append(at, 1+(changes-1)*i/int64(n-1))
	}
	return at
}

// stable returns two trees without what signing makes different each time.
func (c killed) stable(a, b map[string]string) (left, right map[string]string) {
	if c.own {
		for name := range a {
			if strings.HasPrefix(name, "tuf/") {
				delete(a, name)
				delete(b, name)
			}
		}
		for name := range b {
			if strings.HasPrefix(name, "tuf/") {
				delete(b, name)
			}
		}
	}
	return a, b
}

// readers has clients update from a copy until stop is called.
func (c killed) readers(p *place, dir, root string) (stop func()) {
	ctx, cancel := context.WithCancel(p.T.Context())
	ended := make(chan error, 2)
	roots := []string{""}
	if root != "" {
		roots = append(roots, root)
	}
	for _, r := range roots {
		go func() { // it ends with ctx, and stop waits for that
			for {
				got, err := p.Update(dir, r)
				expected := c.first == nil && (err == nil || errors.Is(err, fs.ErrNotExist)) || c.replaces() && err != nil
				if err != nil && !expected || err == nil && !slices.Contains(c.newest, got) {
					ended <- fmt.Errorf("a client has %q: %w", got, err)
					return
				}
				if ctx.Err() != nil {
					ended <- nil
					return
				}
			}
		}()
	}
	return func() {
		cancel()
		for range roots {
			if err := <-ended; err != nil {
				p.T.Errorf("%s: %v", filepath.Base(dir), err)
			}
		}
	}
}

// replaces reports whether a client can have read documents of an image that is replaced while
// it fetches that.
func (c killed) replaces() bool { return strings.Contains(c.name, "replaced") }
