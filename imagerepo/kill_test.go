package imagerepo

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

	"puavo-image-repository/testdata"
)

// TestMain is the builder itself where childEnv is set, for the tests that kill
// it.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		_, _, err := Build(context.Background(), Options{
			ImageDir: filepath.Join(dir, "images"), MirrorDir: filepath.Join(dir, "mirror"),
			URL: "https://images.example.org", Policy: usual, Torrents: withTorrents, Jobs: 2, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	remove := testdata.InMemory()
	code := m.Run()
	remove()
	os.Exit(code)
}

const childEnv = "IMAGEREPO_BUILD_IN"

// child returns the builder as a process of its own for this place.
func (p *place) child() *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+filepath.Dir(p.ImageDir))
	cmd.Stderr = os.Stderr
	return cmd
}

// A run that is killed leaves a mirror that clients can use, and the next run
// ends with the same mirror as one that nothing happened to: for first runs, and
// for runs that replace and remove.
func TestKill(t *testing.T) {
	t.Parallel()
	kills := testdata.Short(testdata.Scale(50, 4), 2)
	want := newPlace(t, image2, image3, image4)
	want.write(image3, want.read(other))
	start := time.Now()
	if err := want.child().Run(); err != nil {
		t.Fatal(err)
	}
	length := time.Since(start)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, an undisturbed run takes %v", seed, length)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		p := newPlace(t, image1, image2, image3, image4)
		p.Torrents = withTorrents
		if i%2 == 1 {
			p.build()
		}
		p.remove(image1)
		p.write(image3, p.read(other)) // another content under an old name
		cmd := p.child()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(length))))
		cmd.Process.Kill()
		cmd.Wait()
		p.valid()
		if p.build(); p.tree() != want.tree() {
			t.Fatalf("kill %d:\ngot\n%s\nwant\n%s", i, p.tree(), want.tree())
		}
	}
}
