// Package farmcmd is the command worker, and the options by which a build has workers, see package
// farm.
package farmcmd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/cmd/internal/version"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/farm"
	"puavo-image-repository/meta/untrusted"
)

const category = "Workers"

// The files of a farm in .repo of a mirror.
const (
	tokenFile  = ".repo/farm.token"
	statusFile = ".repo/farm.json"
	maxStatus  = 4 << 20 // bytes
)

// Flags returns the flags of a build that has workers.
func Flags() []cli.Flag {
	return command.Category(category,
		&cli.StringFlag{Name: "farm", Usage: "let workers make deltas too; `WHERE` is embedded, or embedded:HOST:PORT, to run the queue in this process, at " + farm.DefaultAddress + " if nothing else is said; or a NATS server, tls://HOST:PORT, or nats://HOST:PORT on this machine"},
		&cli.StringFlag{Name: "farm-listen", Usage: "serve images to workers at `ADDRESS`, HOST:PORT", DefaultText: "the port after that of the queue, or :4281"},
		tokenFlag("MIRROR_DIR/"+tokenFile+", made if missing"),
		&cli.StringFlag{Name: "recheck", Value: "5%", Usage: "apply `SHARE` of the compact deltas here as well, after a second worker"},
	)
}

func tokenFlag(usual string) cli.Flag {
	return &cli.StringFlag{Name: "farm-token-file", Category: category, Usage: "read the token of builder and workers from `FILE`", DefaultText: usual}
}

// Check returns an error for flags that make no sense.
func Check(c *cli.Context) error {
	if _, err := share(c.String("recheck")); err != nil {
		return command.Usage("--recheck %s: %v", untrusted.Quote(c.String("recheck")), err)
	}
	if q := c.String("farm"); q != "" {
		if err := farm.CheckQueue(q); err != nil {
			return command.Usage("--farm: %v", err)
		}
	}
	if at := c.String("farm-listen"); at != "" {
		if _, port, err := net.SplitHostPort(at); err != nil || port == "" {
			return command.Usage("--farm-listen %s, want HOST:PORT", untrusted.Quote(at))
		}
	}
	return nil
}

// share returns what a share such as 5% or 0.05 is, from 0 to 1.
func share(s string) (float64, error) {
	number, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		n /= 100
	}
	if err != nil || !(n >= 0 && n <= 1) {
		return 0, errors.New("want a share such as 5%")
	}
	return n, nil
}

// Open begins the farm that the flags ask for, nil if none, or if it cannot begin: then everything
// is made here. Close it.
func Open(c *cli.Context, mirrorDir string, noSync bool, log *slog.Logger) (*Builder, error) {
	if c.String("farm") == "" {
		return nil, nil
	}
	dir, err := private(mirrorDir)
	if err != nil {
		return nil, err
	}
	dir.NoSync = noSync
	b := &Builder{dir: dir, log: log}
	o := farm.Options{Queue: c.String("farm"), Listen: c.String("farm-listen"), Dir: filepath.Join(mirrorDir, ".repo"), Version: version.String(), Log: log, Status: b.note}
	o.Recheck, _ = share(c.String("recheck")) // was checked
	if o.Token, err = b.token(c.Context, c.String("farm-token-file")); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	if b.Farm, err = farm.Open(c.Context, o); err != nil {
		log.Warn("no workers can come; everything is made here", "reason", err)
		return nil, cmp.Or(c.Context.Err(), dir.Close())
	}
	log.Info("workers can come", "queue", b.Farm.Address())
	return b, nil
}

// private opens the directory of a mirror, with .repo in it, which are made if need be.
func private(mirrorDir string) (atomicfile.Dir, error) {
	parent, err := atomicfile.Open(filepath.Dir(filepath.Clean(mirrorDir)))
	if err != nil {
		return atomicfile.Dir{}, err
	}
	defer parent.Close()
	if err := parent.Mkdir(filepath.Base(filepath.Clean(mirrorDir)), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return atomicfile.Dir{}, err
	}
	dir, err := atomicfile.Open(mirrorDir)
	if err != nil {
		return dir, err
	}
	if err := dir.MkdirAll(".repo", 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return dir, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// Builder is the farm of a build.
type Builder struct {
	*farm.Farm
	dir atomicfile.Dir
	log *slog.Logger
}

// token returns the token in a file, or that of the mirror, which is made if there is none.
func (b *Builder) token(ctx context.Context, file string) (farm.Token, error) {
	if file != "" {
		return readToken(ctx, file)
	}
	data, err := b.dir.ReadFile(tokenFile, farm.MaxToken)
	if err == nil {
		return farm.ParseToken(data)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return farm.Token{}, err
	}
	t := farm.NewToken()
	f, err := b.dir.Begin(tokenFile+".new", tokenFile)
	if err != nil {
		return t, err
	}
	defer f.Discard()
	if err := f.Chmod(0o600); err != nil {
		return t, err
	}
	if _, err := f.Write(t.File()); err != nil {
		return t, err
	}
	return t, f.Commit()
}

func readToken(ctx context.Context, file string) (farm.Token, error) {
	data, err := untrusted.ReadFile(ctx, file, farm.MaxToken)
	if err != nil {
		return farm.Token{}, err
	}
	t, err := farm.ParseToken(data)
	if err != nil {
		return t, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}

// note writes what the workers do, for status --farm. It matters to no run.
func (b *Builder) note(s farm.Status) {
	data, err := json.MarshalIndent(s, "", "  ")
	if err == nil {
		_, _ = b.dir.Replace(statusFile+".new", statusFile, append(data, '\n'))
	}
}

// State returns what the workers do, nil if there is no farm.
func (b *Builder) State() *farm.Status {
	if b == nil {
		return nil
	}
	s := b.Farm.State()
	return &s
}

// Close ends the farm, and says so if no worker has come.
func (b *Builder) Close() error {
	if b == nil {
		return nil
	}
	if len(b.Workers()) == 0 {
		b.log.Warn("no worker has come; everything was made here")
	}
	return errors.Join(b.Farm.Close(), b.dir.Close())
}
