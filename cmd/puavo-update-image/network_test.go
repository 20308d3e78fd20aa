package main

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/testdata"
)

// The network of a school: a network namespace of the kernel's, with these servers and
// nothing else.
//
//	127.0.0.1:53   dnsmasq, the school's name server
//	127.0.0.2:443  nginx, images.example.org: the repository
//	127.0.0.3:873  nginx, boot.school.example.org: the bootserver, with images and deltas
//	127.0.0.4:443  nginx, elsewhere.example.org: as the repository
const (
	repository = "images.example.org"
	bootserver = "boot.school.example.org"
	elsewhere  = "elsewhere.example.org"
)

// What is updated.
const (
	oldImage  = "puavo-os-amxa-buster-2021-04-13-193910-amd64.img"
	newImage  = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"
	deltaPath = "rdiffs/puavo-os-amxa-buster-2021-04-13-193910--2022-01-20-173248-amd64.rdiff"
)

// names are what the name server knows without an image server.
var names = []string{
	"--local=/example.org/",
	"--host-record=" + repository + ",127.0.0.2", "--host-record=" + bootserver + ",127.0.0.3", "--host-record=" + elsewhere + ",127.0.0.4",
	"--txt-record=_puavo,school.example.org",
}

// puavoNames are the names in a school with a bootserver of Puavo's.
var puavoNames = append(slices.Clip(names),
	"--srv-host=_imageserver._tcp.school.example.org,"+bootserver+",872",
	"--srv-host=_imageserver_2012._tcp.school.example.org,"+bootserver+",873",
)

// plainNames are the names in a school whose record has no version.
var plainNames = append(slices.Clip(names), "--srv-host=_imageserver._tcp.school.example.org,"+bootserver+",873")

// foreignNames are the names in a school whose record leads away from it.
var foreignNames = append(slices.Clip(names), "--srv-host=_imageserver_2012._tcp.school.example.org,"+elsewhere+",443")

// visit is what happens to a client in the network of a school.
type visit struct {
	name     string
	args     []string                       // more of them; nil: --discover
	lacks    bool                           // the client has no image to begin from
	names    []string                       // options of dnsmasq; nil: puavoNames
	silent   bool                           // the name server does not answer
	hosts    string                         // of /etc/hosts
	gone     bool                           // the bootserver does not run
	stranger bool                           // its certificate is of an unknown authority
	options  string                         // of its nginx
	changes  func(t *testing.T, dir string) // what it has

	want  []string // payload that was asked for: host, status, path
	warns string   // regular expression for standard error; "": it stays empty
}

// flip changes a byte of a file.
func flip(file string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		data := []byte(read(t, filepath.Join(dir, file)))
		data[len(data)/2] ^= 1
		write(t, filepath.Join(dir, file), string(data))
	}
}

func remove(file string) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		if err := os.RemoveAll(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
}

var visits = []visit{
	{name: "no image server is looked for", args: []string{}, want: []string{repository + " 200 " + deltaPath}},
	{name: "the bootserver is found", want: []string{bootserver + " 200 " + deltaPath}},
	{name: "it is found without a version", names: plainNames, want: []string{bootserver + " 200 " + deltaPath}},
	{name: "it is named", args: []string{"--payload-mirror", "https://" + bootserver + ":873"}, want: []string{bootserver + " 200 " + deltaPath}},
	{name: "the full image", lacks: true, want: []string{bootserver + " 200 " + newImage}},
	{
		name: "its delta is wrong", changes: flip(deltaPath), // a cache could have been to blame, so it is asked again
		want:  []string{bootserver + " 200 " + deltaPath, bootserver + " 200 " + deltaPath, repository + " 200 " + deltaPath},
		warns: `warning: .*verification failed`,
	}, {
		name: "its image is wrong", lacks: true, changes: flip(newImage),
		want:  []string{bootserver + " 200 " + newImage, bootserver + " 200 " + newImage, repository + " 200 " + newImage},
		warns: `warning: .*verification failed`,
	}, {
		name: "it has no deltas", changes: remove("rdiffs"),
		want:  []string{bootserver + " 404 " + deltaPath, repository + " 200 " + deltaPath},
		warns: `warning: .*not exist`,
	}, {
		name: "it has nothing", options: "location / { return 404; }",
		want:  []string{bootserver + " 404 " + deltaPath, repository + " 200 " + deltaPath},
		warns: `warning: .*not exist`,
	}, {
		name: "it leads to another host", options: "location / { return 302 https://" + elsewhere + "$request_uri; }",
		want:  []string{bootserver + " 302 " + deltaPath, repository + " 200 " + deltaPath},
		warns: `warning: .*redirect to another host, ` + elsewhere,
	}, {
		name: "it is slow", args: []string{"--discover", "--max-time", "16s"}, options: "limit_rate 1k;",
		want:  []string{bootserver + " 200 " + deltaPath, repository + " 200 " + deltaPath},
		warns: `warning: .*too slow to end in time`,
	}, {
		name: "it does not listen", gone: true,
		want:  []string{repository + " 200 " + deltaPath},
		warns: `warning: .*connection refused`,
	}, {
		name: "its certificate is of another authority", stranger: true,
		want:  []string{repository + " 200 " + deltaPath},
		warns: `warning: .*certificate`,
	}, {
		name: "DNS knows no image server", names: names,
		want:  []string{repository + " 200 " + deltaPath},
		warns: `warning: continuing without an image server nearby: .*_imageserver._tcp.school.example.org`,
	}, {
		name: "the image server is of another domain", names: foreignNames,
		want:  []string{repository + " 200 " + deltaPath},
		warns: `warning: continuing without an image server nearby: .*` + elsewhere + ` is not in the domain`,
	}, {
		name: "DNS does not answer", silent: true, hosts: "127.0.0.2 " + repository + "\n",
		want:  []string{repository + " 200 " + deltaPath},
		warns: `warning: continuing without an image server nearby: .*TXT record: lookup _puavo on .*: i/o timeout`,
	},
}

// networkVariable is set, to the network that the test was called in, in the process that
// is in the network of the school.
const networkVariable = "PUAVO_TEST_NETWORK"

// school is what all visits have in common.
type school struct {
	mirror    string // of the repository
	authority *authority
	hosts     string // path of the file that is mounted at /etc/hosts
}

// In the network of a school, payload comes from the bootserver if it has the right one,
// and all else from the repository.
func TestNetwork(t *testing.T) {
	outer, network := os.Getenv(networkVariable), namespace(t)
	if outer == "" {
		t.Parallel()
		runInNetwork(t, network)
		return
	}
	if outer == network {
		t.Fatalf("%s is set, but this is no network of its own", networkVariable)
	}
	testdata.Run(t, "ip", "link", "set", "lo", "up")
	mount(t, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", "/etc/resolv.conf")
	s := school{buildMirror(t), newAuthority(t), mount(t, "", "/etc/hosts")}
	for _, v := range visits {
		t.Run(v.name, func(t *testing.T) { v.run(t, s) })
	}
}

// namespace returns the network that this process is in.
func namespace(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// runInNetwork runs the test again, in a process with a network and mounts of its own.
// It skips the test where that is not allowed; where CI is set, it fails instead.
func runInNetwork(t *testing.T, outer string) {
	for _, tool := range []string{"ip", "nginx", "dnsmasq"} {
		testdata.Tool(t, tool)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNetwork$", "-test.v")
	cmd.Env = append(os.Environ(), networkVariable+"="+outer)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, fs.ErrPermission) && os.Getenv("CI") == "":
		t.Skipf("a network of its own: %v", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// mount mounts a file with a text at the place of another, and returns its path.
func mount(t *testing.T, text, at string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(at))
	write(t, file, text)
	if err := syscall.Mount(file, at, "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("mounting %s at %s: %v", file, at, err)
	}
	return file
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o777); err != nil {
		t.Fatal(err)
	}
}

// run updates a client, and checks what comes from where.
func (v visit) run(t *testing.T, s school) {
	write(t, s.hosts, v.hosts)
	v.startDNS(t)
	n := startNginx(t, v.servers(t, s.mirror, s.authority))
	dir := t.TempDir()
	if !v.lacks {
		write(t, filepath.Join(dir, oldImage), read(t, filepath.Join(s.mirror, oldImage)))
	}
	stderr := v.update(t, dir, s.authority.file)
	if read(t, filepath.Join(dir, newImage)) != read(t, filepath.Join(s.mirror, newImage)) {
		t.Error("the image is not that of the mirror")
	}
	stderr = regexp.MustCompile(`(?m)^fetched: .*\n`).ReplaceAllString(stderr, "")
	if v.warns == "" && stderr != "" || !regexp.MustCompile(v.warns).MatchString(stderr) {
		t.Errorf("warnings %q, want %q", stderr, v.warns)
	}
	t.Log(stderr)
	v.check(t, n.asked())
}

// startDNS starts the school's name server.
func (v visit) startDNS(t *testing.T) {
	t.Helper()
	if v.silent {
		conn, err := net.ListenPacket("udp", "127.0.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return
	}
	if v.names == nil {
		v.names = puavoNames
	}
	testdata.DNS(t, 53, v.names...)
}

// servers returns the web servers.
func (v visit) servers(t *testing.T, mirror string, a *authority) []server {
	t.Helper()
	servers := []server{
		{repository, "127.0.0.2:443", mirror, "", a.issue(t, repository)},
		{elsewhere, "127.0.0.4:443", mirror, "", a.issue(t, elsewhere)},
	}
	if v.gone {
		return servers
	}
	payload := copyPayload(t, mirror)
	if v.changes != nil {
		v.changes(t, payload)
	}
	if v.stranger {
		a = newAuthority(t)
	}
	return append(servers, server{bootserver, "127.0.0.3:873", payload, v.options, a.issue(t, bootserver)})
}

// update runs the client as in the school, and returns its standard error.
func (v visit) update(t *testing.T, dir, authorities string) string {
	t.Helper()
	path := t.TempDir()
	write(t, filepath.Join(path, "puavo-conf"), "#!/bin/sh\necho 2012\n")
	if v.args == nil {
		v.args = []string{"--discover"}
	}
	args := append([]string{"--mirror", "https://" + repository, "--ca-certificate", authorities, "--images-dir", dir, newImage}, v.args...)
	cmd := exec.CommandContext(t.Context(), "puavo-update-image", args...)
	cmd.Env = []string{"PATH=" + path + ":" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE"), configVariable + "="}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	return stderr.String()
}

// check checks what the servers were asked for. Only the repository is asked for what is
// no payload.
func (v visit) check(t *testing.T, asked []string) {
	t.Helper()
	isPayload := func(line string) bool { return strings.HasSuffix(line, ".img") || strings.HasSuffix(line, ".rdiff") }
	meta := slices.DeleteFunc(slices.Clone(asked), isPayload)
	if i := slices.IndexFunc(meta, func(line string) bool { return !strings.HasPrefix(line, repository+" ") }); i >= 0 || len(meta) == 0 {
		t.Errorf("for what is no payload, the servers were asked so: %q", meta)
	}
	payload := slices.DeleteFunc(asked, func(line string) bool { return !isPayload(line) })
	slices.Sort(payload) // an answer that is cut off is logged late
	if !slices.Equal(payload, v.want) {
		t.Errorf("for payload, the servers were asked so: %q; want %q", payload, v.want)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// copyPayload copies what a bootserver has of a mirror.
func copyPayload(t *testing.T, mirror string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "rdiffs"), os.DirFS(filepath.Join(mirror, "rdiffs"))); err != nil {
		t.Fatal(err)
	}
	images, err := filepath.Glob(filepath.Join(mirror, "*.img"))
	if err != nil || len(images) == 0 {
		t.Fatalf("images %q, %v", images, err)
	}
	for _, image := range images {
		write(t, filepath.Join(dir, filepath.Base(image)), read(t, image))
	}
	return dir
}
