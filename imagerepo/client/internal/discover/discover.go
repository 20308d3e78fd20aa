// Package discover finds the image servers of the network that a machine is in, such as
// the bootserver of a school, by DNS. Puavo's machines and bootservers agree on this:
//
//	version  the first word that "puavo-conf puavo.admin.certs.versions" prints;
//	         machines without that command have none
//	domain   the content of /etc/puavo/domain, such as school.example.org; then that
//	         of the TXT record _puavo, which is looked up with the search list
//	servers  the SRV records _imageserver_<version>._tcp.<domain>, one or more; if
//	         these name no server, _imageserver._tcp.<domain>
//
// For example:
//
//	_puavo                                      TXT "school.example.org"
//	_imageserver_2012._tcp.school.example.org.  SRV 0 0 873 boot.school.example.org.
//
// The server is https://boot.school.example.org:873. It serves images, and deltas in
// rdiffs/, without meta.
//
// The domain of the file comes first; that of the TXT record is tried if the first
// has no server. A server outside of the domain is left out, and so is a name that no
// host can have. SRV records are looked up in a domain only, never with the search
// list: bootservers have none elsewhere, and a server could not be compared with the
// domain.
//
// Installed clients do the same, but know only the record with the version, and take
// only its first server. Puavo's bootservers have a port for each version, from 873 on,
// and also a record without a version: its port, 872, no longer serves images.
package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"puavo-image-repository/meta/untrusted"
)

const (
	limit      = 5 * time.Second
	maxServers = 8       // of one SRV record; the rest is left out
	maxNotes   = 8       // in an error
	maxDomain  = 512     // bytes of the file with the domain
	maxSetting = 4 << 10 // bytes that the command puavo-conf prints
)

// Machine says how a machine learns of its network. All fields are needed.
type Machine struct {
	// Dial connects to a name server, as a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	DomainFile string        // path of the file with the domain; it may be missing
	Settings   string        // name or path of the command puavo-conf; it may be missing
	Limit      time.Duration // that Find takes in all
}

// Local returns this machine. Its limit is 5 s.
func Local() Machine {
	return Machine{Dial: new(net.Dialer).DialContext, DomainFile: "/etc/puavo/domain", Settings: "puavo-conf", Limit: limit}
}

// Find returns the URLs of the image servers, such as https://boot.school.example.org:873,
// in the order in which to try them: by priority, then at random by weight. They are one
// to eight, in lower case. The error for none says on one line what was asked. Find can
// be called concurrently.
func (m Machine) Find(ctx context.Context) ([]string, error) {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	defer time.AfterFunc(m.Limit, cancel).Stop()
	s := search{machine: m, resolver: m.resolver()}
	servers := s.run(limited)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(servers) > 0:
		return servers, nil
	case limited.Err() != nil:
		return nil, fmt.Errorf("no image server found by DNS within %v: %s", m.Limit, s.notes)
	case !s.hasDomain:
		return nil, fmt.Errorf("no image server found by DNS, as no domain is known: %s", s.notes)
	}
	return nil, fmt.Errorf("no image server found by DNS: %s", s.notes)
}

// resolver returns a resolver that waits a third of the limit for an answer before it
// asks the next name server, or the same again. The one of the standard library does not
// see that ctx has ended while it waits, so this closes the connection then.
func (m Machine) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := m.Dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		wait := time.AfterFunc(m.Limit/3, func() { conn.SetDeadline(time.Now()) })
		context.AfterFunc(ctx, func() { // when the resolver has its answer, too
			wait.Stop()
			if errors.Is(ctx.Err(), context.Canceled) { // at the deadline, the connection ends by itself
				conn.Close()
			}
		})
		return conn, nil
	}}
}

// search is one search for image servers.
type search struct {
	machine   Machine
	resolver  *net.Resolver
	version   string // of the certificates, "" for none
	hasDomain bool   // a domain was known to search in
	notes     notes
}

// notes say what was asked in vain.
type notes []string

func (n *notes) add(what string, err error) {
	if err != nil && len(*n) < maxNotes {
		*n = append(*n, untrusted.Show(what+": "+err.Error()))
	}
}

func (n notes) String() string { return strings.Join(n, "; ") }

// run returns the servers of the first domain that has any.
func (s *search) run(ctx context.Context) []string {
	s.version = s.readVersion(ctx)
	own := s.readDomain(ctx)
	if servers := s.inDomain(ctx, own); len(servers) > 0 || ctx.Err() != nil {
		return servers
	}
	named := s.lookUpDomain(ctx)
	if named == own {
		return nil
	}
	return s.inDomain(ctx, named)
}

// readVersion returns the version of the machine's certificates, "" if it has none. It
// leaves half of the time for DNS.
func (s *search) readVersion(ctx context.Context) string {
	const key = "puavo.admin.certs.versions"
	ctx, cancel := context.WithTimeout(ctx, s.machine.Limit/2)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.machine.Settings, key)
	cmd.WaitDelay = s.machine.Limit / 10 // for a process that it started and that holds its output
	var out setting
	cmd.Stdout = &out
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	s.notes.add(s.machine.Settings+" "+key, err)
	for word := range strings.FieldsSeq(string(out)) {
		return word
	}
	return ""
}

// setting is what a command prints. One that prints too much is ended, and has printed
// nothing.
type setting []byte

func (s *setting) Write(p []byte) (int, error) {
	if len(*s)+len(p) > maxSetting {
		*s = nil
		return 0, untrusted.ErrTooLarge
	}
	*s = append(*s, p...)
	return len(p), nil
}

// readDomain returns the domain that the machine's file gives, "" if it gives none.
func (s *search) readDomain(ctx context.Context) string {
	data, err := untrusted.ReadFile(ctx, s.machine.DomainFile, maxDomain)
	if err != nil {
		s.notes.add("domain", err)
		return ""
	}
	domain, err := hostName(strings.TrimSpace(string(data)))
	s.notes.add("domain in "+s.machine.DomainFile, err)
	return domain
}

// lookUpDomain returns the domain that the TXT record gives, "" if it gives none.
func (s *search) lookUpDomain(ctx context.Context) string {
	const record = "_puavo"
	texts, err := s.resolver.LookupTXT(ctx, record)
	s.notes.add("TXT record", err)
	for _, text := range texts {
		domain, err := hostName(strings.TrimSpace(text))
		if err == nil {
			return domain
		}
		s.notes.add("TXT record "+record, err)
	}
	return ""
}

// inDomain returns the servers of a domain, by the first of its SRV records that has
// any.
func (s *search) inDomain(ctx context.Context, domain string) (servers []string) {
	if domain == "" {
		return nil
	}
	s.hasDomain = true
	if s.version != "" {
		servers = s.lookUp(ctx, "imageserver_"+s.version, domain)
	}
	if len(servers) == 0 {
		servers = s.lookUp(ctx, "imageserver", domain)
	}
	return servers
}

// lookUp returns the servers that an SRV record names. The resolver may return records
// and an error: that some of them are bad.
func (s *search) lookUp(ctx context.Context, service, domain string) (servers []string) {
	_, records, err := s.resolver.LookupSRV(ctx, service, "tcp", domain+".") // the dot: without the search list
	s.notes.add("SRV record", err)
	var bad error // the first
	for _, r := range records {
		server, err := url(r, domain)
		if err == nil {
			servers = append(servers, server)
		} else if bad == nil {
			bad = err
		}
	}
	s.notes.add(fmt.Sprintf("SRV record _%s._tcp.%s", service, domain), bad)
	return servers[:min(len(servers), maxServers)]
}

// url returns the URL of a server, which must lie in a domain.
func url(r *net.SRV, domain string) (string, error) {
	host, err := hostName(r.Target)
	switch {
	case err != nil:
		return "", err
	case !inDomain(host, domain):
		return "", fmt.Errorf("the server %s is not in the domain", host)
	case r.Port == 0:
		return "", fmt.Errorf("the server %s has no port", host)
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(int(r.Port))), nil
}
