package compactdelta

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// TestMain is a run itself where childEnv is set, for the tests that kill it.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		_, s, err := Run(context.Background(), childOptions(dir))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(actions(s))
		os.Exit(0)
	}
	encode = real
	remove := testdata.InMemory()
	code := m.Run()
	remove()
	os.Exit(code)
}

const childEnv = "COMPACTDELTA_RUN_IN"

func childOptions(mirrorDir string) Options {
	return Options{
		MirrorDir: mirrorDir, URL: "https://images.example.org", Log: slog.New(slog.DiscardHandler),
		Policy:   plan.Policy{Targets: 3, Downgrades: true, Compact: plan.Compact{Mode: plan.CompactAll, Full: true}},
		Torrents: plan.Torrents{Of: plan.TorrentsOfDeltas},
	}
}

// child returns a run as a process of its own.
func child(mirrorDir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+mirrorDir)
	cmd.Stderr = os.Stderr
	return cmd
}

// A run that is killed at any point leaves a mirror that clients can use, and no files; the
// next run ends as one that nothing happened to.
func TestKill(t *testing.T) {
	ready := func() *place {
		p := newPlace(t, image1, image3, image4)
		p.Options = childOptions(p.MirrorDir)
		p.build()
		return p
	}
	want := ready()
	start := time.Now()
	if err := child(want.MirrorDir).Run(); err != nil {
		t.Fatal(err)
	}
	length := time.Since(start)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, an undisturbed run takes %v", seed, length)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range pick(50, 10, 5) {
		p := ready()
		cmd := child(p.MirrorDir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(length))))
		cmd.Process.Kill()
		cmd.Wait()
		p.valid()
		p.build() // as the command does before each run
		if left := p.left(); len(left) > 0 {
			t.Errorf("kill %d: %q are left after a build", i, left)
		}
		if p.run(); p.tree() != want.tree() {
			t.Fatalf("kill %d:\ngot\n%s\nwant\n%s", i, p.tree(), want.tree())
		}
		if left := p.left(); len(left) > 0 {
			t.Errorf("kill %d: %q are left after a run", i, left)
		}
		os.RemoveAll(filepath.Dir(p.MirrorDir))
	}
}
