package publishing

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"puavo-image-repository/bench/internal/measure"
	"puavo-image-repository/bench/internal/servers"
)

// errMissing is the error for a host whose server is not installed.
var errMissing = errors.New("not installed")

// host is a server, and who sends to it.
type host struct {
	name       string
	proxy      *servers.Proxy
	dir        func(place string) string // which the server has a place in
	remove     func(place string) error
	publishers []*publisher // the others are compared with the first
	stop       func()
}

// publisher is a program that sends the mirror.
type publisher struct {
	name    string
	command func(place string) []string
	env     []string

	whole  []whole // a round each
	broken []broken
}

// sshHost starts sshd.
func sshHost(ctx context.Context, o Options) (*host, error) {
	if !installed("sshd", "ssh-keygen") {
		return nil, errMissing
	}
	s, err := servers.StartSSHD(ctx, filepath.Join(o.Tmp, "sshd"))
	if err != nil {
		return nil, err
	}
	dir := func(place string) string { return filepath.Join(o.Tmp, "sshd-"+place) }
	h := &host{name: "sshd", dir: dir, remove: func(place string) error { return os.RemoveAll(dir(place)) }}
	if err := h.behindProxy(ctx, s.Address(), s.Stop); err != nil {
		return nil, err
	}
	if err := s.Through(h.proxy.Port); err != nil {
		h.stop()
		return nil, err
	}
	h.add(publisher{name: "rsync -a", command: func(place string) []string {
		return []string{"rsync", "-a", "--partial", "--exclude=/.repo", "-e", "ssh -F '" + s.Config + "'", o.Mirror + "/", "bench:" + dir(place) + "/"}
	}}, "rsync", "ssh")
	h.add(publisher{name: "rclone sync", command: func(place string) []string { return rclone(o.Mirror, "bench:"+dir(place)) }, env: remote(
		"TYPE=sftp", "HOST=127.0.0.1", fmt.Sprint("PORT=", h.proxy.Port), "USER="+s.User, "KEY_FILE="+s.KeyFile, "KNOWN_HOSTS_FILE="+s.KnownHosts,
	)}, "rclone")
	h.add(publisher{name: "ours", command: func(place string) []string {
		return []string{o.Publisher, "publish", "-q", "--known-hosts", s.KnownHosts, "--ssh-key", s.KeyFile, o.Mirror,
			fmt.Sprintf("sftp://%s@127.0.0.1:%d%s", s.User, h.proxy.Port, dir(place))}
	}})
	return h, nil
}

// s3Host starts versitygw.
func s3Host(ctx context.Context, o Options) (*host, error) {
	if !installed("versitygw") {
		return nil, errMissing
	}
	s, err := servers.StartS3(ctx, filepath.Join(o.Tmp, "s3"))
	if err != nil {
		return nil, err
	}
	h := &host{name: "versitygw", dir: s.Bucket, remove: s.Remove}
	if err := h.behindProxy(ctx, s.Address(), s.Stop); err != nil {
		return nil, err
	}
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", h.proxy.Port)
	h.add(publisher{name: "rclone sync", command: func(place string) []string { return rclone(o.Mirror, "bench:"+place) }, env: remote(
		"TYPE=s3", "PROVIDER=Other", "ACCESS_KEY_ID="+servers.Key, "SECRET_ACCESS_KEY="+servers.Secret, "REGION="+servers.Region, "ENDPOINT="+endpoint,
	)}, "rclone")
	h.add(publisher{name: "ours", command: func(place string) []string {
		return []string{o.Publisher, "publish", "-q", o.Mirror, fmt.Sprintf("s3://%s?endpoint=%s&region=%s", place, endpoint, servers.Region)}
	}, env: []string{"AWS_ACCESS_KEY_ID=" + servers.Key, "AWS_SECRET_ACCESS_KEY=" + servers.Secret}})
	return h, nil
}

// behindProxy starts the proxy, and sets what stops both it and the server.
func (h *host) behindProxy(ctx context.Context, address string, stop func()) (err error) {
	if h.proxy, err = servers.NewProxy(ctx, address); err != nil {
		stop()
		return err
	}
	h.stop = func() { h.proxy.Close(); stop() }
	return nil
}

// add adds a publisher, if its tools are installed.
func (h *host) add(p publisher, tools ...string) {
	if installed(tools...) {
		h.publishers = append(h.publishers, &p)
	}
}

// rclone returns a command that knows no remotes but that of its environment.
func rclone(mirror, to string) []string {
	return []string{"rclone", "sync", "--config", "", "--exclude", "/.repo/**", mirror, to}
}

// remote returns the environment in which rclone has the remote bench.
func remote(settings ...string) (env []string) {
	for _, s := range settings {
		env = append(env, "RCLONE_CONFIG_BENCH_"+s)
	}
	return env
}

// installed reports whether all of these commands are.
func installed(tools ...string) bool {
	return !slices.ContainsFunc(tools, func(tool string) bool {
		_, err := exec.LookPath(tool)
		return err != nil
	})
}

// versions returns a line for each tool: its version, or that it is not installed.
func versions() (lines []string) {
	for _, command := range [][]string{{"ssh", "-V"}, {"rsync", "--version"}, {"rclone", "version"}} {
		if installed(command[0]) {
			lines = append(lines, measure.FirstLine(command...))
		}
	}
	if path, err := exec.LookPath("versitygw"); err == nil {
		if info, err := buildinfo.ReadFile(path); err == nil {
			lines = append(lines, "versitygw "+info.Main.Version)
		}
	}
	var missing []string
	for _, tool := range []string{"sshd", "ssh-keygen", "ssh", "rsync", "rclone", "versitygw"} {
		if !installed(tool) {
			missing = append(missing, tool)
		}
	}
	if len(missing) > 0 {
		lines = append(lines, "not installed: "+strings.Join(missing, ", ")+"; what needs them is left out")
	}
	return lines
}
