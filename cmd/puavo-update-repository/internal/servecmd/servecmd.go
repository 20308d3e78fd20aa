// Package servecmd is the command serve: it serves a mirror over HTTP, see package serve.
package servecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/urfave/cli/v2"

	"puavo-image-repository/cmd/internal/command"
	"puavo-image-repository/imagerepo/audit"
	"puavo-image-repository/imagerepo/serve"
	"puavo-image-repository/meta/untrusted"
)

// New returns the command. mirror returns the mirror by the arguments and flags, of which
// more are those besides the command's own. It reports on stdout that it serves, and each request on
// stderr.
func New(mirror func(*cli.Context) (string, error), more []cli.Flag, stdout, stderr io.Writer) *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "serve a mirror over HTTP, without TLS",
		UsageText: "puavo-update-repository serve [options] [MIRROR_DIR]",
		Description: `Serves a mirror, read-only, until it is interrupted: for a trial, for a
   school network, or behind a proxy. It has no TLS: to let other machines reach
   it, put a proxy with a certificate in front.

   Names that begin with a dot are not served, nor are symbolic links followed.
   SIGTERM and Ctrl-C stop the server: responses in progress get two seconds,
   and the exit code is 0.

   Exit codes: ` + command.ExitCodes,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:8080", Usage: "listen on `ADDRESS`, host:port; :8080 means all addresses of this machine"},
			&cli.BoolFlag{Name: "json", Category: command.Output, Usage: "print what is served, and where, as JSON"},
		}, append(more, command.Flags("print each request")...)...),
		Action: func(c *cli.Context) error {
			log := command.Start(c, stderr).Log()
			dir, err := mirror(c)
			if err != nil {
				return err
			}
			return run(c, dir, stdout, log)
		},
	}
}

// serving is what the command prints as JSON.
type serving struct {
	Mirror string `json:"mirror"`
	URL    string `json:"url"`
	TLS    bool   `json:"tls"` // never
}

func run(c *cli.Context, dir string, stdout io.Writer, log *slog.Logger) (err error) {
	address := c.String("listen")
	if _, _, err := net.SplitHostPort(address); err != nil {
		return command.Usage("--listen %s: want host:port, such as 127.0.0.1:8080", untrusted.Quote(address))
	}
	s := serving{Mirror: dir}
	if _, err := audit.StatusOf(s.Mirror); errors.Is(err, audit.ErrNoMirror) { // else a wrong path would publish anything
		return err
	}
	h, err := serve.Open(s.Mirror)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := new(net.ListenConfig).Listen(c.Context, "tcp", address)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	s.URL = "http://" + l.Addr().String() + "/"
	if err := s.print(c, stdout); err != nil {
		return errors.Join(err, l.Close())
	}
	err = serve.Run(c.Context, l, h, log)
	if errors.Is(err, context.Canceled) && c.Context.Err() != nil {
		return nil // it has done what was asked
	}
	return err
}

func (s serving) print(c *cli.Context, w io.Writer) (err error) {
	switch {
	case c.Bool("json"):
		return command.JSON(w, s)
	case !c.Bool("quiet"):
		_, err = fmt.Fprintf(w, "Serving %s at %s without TLS. To let other machines reach it, put a proxy with a certificate in front.\n", untrusted.Show(s.Mirror), s.URL)
	}
	return err
}
