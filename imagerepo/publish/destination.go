package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"

	"puavo-image-repository/imagerepo/internal/apart"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/directory"
	"puavo-image-repository/imagerepo/internal/store/s3"
	"puavo-image-repository/imagerepo/internal/store/sftp"
	"puavo-image-repository/imagerepo/internal/throttle"
	"puavo-image-repository/meta/untrusted"
)

// ErrDestination is wrapped by the error for what cannot be a destination.
var ErrDestination = errors.New("not a destination")

// CheckDestination returns an error for what cannot be a destination. It does not connect.
func CheckDestination(s string) error {
	_, err := parse(s)
	return err
}

// parse returns the URL of a destination, nil for a directory. Errors show no secret.
func parse(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		return nil, checkPath(s)
	}
	scheme, _, _ := strings.Cut(s, "://")
	u, err := url.Parse(s)
	if err != nil { // it may have a password, so it is not shown
		return nil, fmt.Errorf("%w: the %s URL is malformed", ErrDestination, untrusted.Show(scheme))
	}
	if _, secret := u.User.Password(); secret {
		return nil, fmt.Errorf("%w: the URL has a password, which others can see on the command line; use a key or an agent for sftp, and the environment or AWS files for s3", ErrDestination)
	}
	switch u.Scheme {
	case "sftp":
		return u, checkSFTP(u)
	case "s3":
		return u, checkS3(u)
	}
	return nil, fmt.Errorf("%w: %s; want a directory, sftp://[user@]host[:port]/path, or s3://bucket[/prefix]", ErrDestination, untrusted.Quote(s))
}

// checkPath refuses a path that is meant for another program.
func checkPath(s string) error {
	if s == "" {
		return fmt.Errorf("%w: it is empty", ErrDestination)
	}
	host, path, colon := strings.Cut(s, ":")
	if _, err := os.Stat(s); err != nil && colon && !strings.Contains(host, "/") {
		return fmt.Errorf("%w: %s; for SFTP write sftp://%s/%s, for a directory ./%s", ErrDestination, untrusted.Quote(s), untrusted.Show(host), untrusted.Show(strings.TrimLeft(path, "/")), untrusted.Show(s))
	}
	return nil
}

func checkSFTP(u *url.URL) error {
	switch {
	case u.Hostname() == "":
		return fmt.Errorf("%w: the sftp URL names no host", ErrDestination)
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%w: an sftp URL must not have ? or #; write them as %%3F and %%23", ErrDestination)
	case u.Port() != "" && port(u) == 0:
		return fmt.Errorf("%w: the sftp URL has the port %s, want 1 to 65535", ErrDestination, untrusted.Quote(u.Port()))
	case !strings.HasPrefix(u.Path, "/"):
		return fmt.Errorf("%w: the sftp URL has no path; give that of the folder on the server", ErrDestination)
	}
	return nil
}

// port returns the port of a URL, 0 if that has none or a wrong one.
func port(u *url.URL) int {
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

func checkS3(u *url.URL) error {
	switch {
	case u.User != nil:
		return fmt.Errorf("%w: an s3 URL has no user; give the key in the environment or the AWS files", ErrDestination)
	case u.Hostname() == "" || u.Port() != "":
		return fmt.Errorf("%w: the s3 URL names no bucket; the host is given by ?endpoint=", ErrDestination)
	case u.Fragment != "":
		return fmt.Errorf("%w: an s3 URL must not have #; write it as %%23", ErrDestination)
	}
	for key, values := range u.Query() {
		if key != "endpoint" && key != "region" || len(values) != 1 {
			return fmt.Errorf("%w: the s3 URL has %s, want endpoint and region, once each", ErrDestination, untrusted.Quote(key))
		}
	}
	return nil
}

// open opens the destination of the options.
func open(ctx context.Context, o Options) (store.Store, error) {
	u, err := parse(o.Destination)
	if err != nil {
		return nil, err
	}
	pace := throttle.New(o.RateLimit).Wait
	if u == nil {
		if err := checkApart(o); err != nil {
			return nil, err
		}
		return directory.Open(o.Destination, o.NoSync)
	}
	if u.Scheme == "sftp" {
		return sftp.Open(ctx, sftp.Options{
			Look: o.look, User: u.User.Username(), Host: u.Hostname(), Port: port(u), Path: path.Clean(u.Path), KnownHosts: o.KnownHosts, KeyFile: o.KeyFile, Pace: pace,
		})
	}
	return s3.Open(ctx, s3.Options{
		Bucket: u.Hostname(), Prefix: strings.Trim(u.Path, "/"), Endpoint: u.Query().Get("endpoint"), Region: u.Query().Get("region"),
		Jobs: o.Jobs, Pace: pace,
	})
}

// openToLook opens a destination for a plan, which makes no directory.
func openToLook(ctx context.Context, o Options) (store.Store, error) {
	if _, err := os.Stat(o.Destination); errors.Is(err, fs.ErrNotExist) && !strings.Contains(o.Destination, "://") {
		return directory.Missing(o.Destination), checkApart(o)
	}
	o.look = true
	return open(ctx, o)
}

// checkApart refuses a directory that would mix with those of the administrator.
func checkApart(o Options) error {
	if err := mirror.CheckBuilt(o.Destination); err != nil {
		return fmt.Errorf("%w: %w", ErrDestination, err)
	}
	for _, dir := range append([]string{o.MirrorDir}, o.Apart...) {
		if dir != "" && apart.Overlap(o.Destination, dir) {
			return fmt.Errorf("%w: %s is, holds or lies in %s; give another directory", ErrDestination, o.Destination, dir)
		}
	}
	return nil
}
