package discover

import (
	"net"
	neturl "net/url"
	"strings"
	"testing"
)

func TestHostName(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := strings.Repeat(label+".", 3) + strings.Repeat("b", 61)
	for _, c := range []struct{ name, want, says string }{
		{"boot.school.example.org", "boot.school.example.org", ""},
		{"Boot.SCHOOL.example.org.", "boot.school.example.org", ""},
		{"org", "org", ""},
		{"xn--kyttj-ora.example", "xn--kyttj-ora.example", ""},
		{"1-2.3.example", "1-2.3.example", ""},
		{longest, longest, ""},
		{longest + ".", longest, ""},
		{longest + "c", "", "a host name of 254 bytes is too long"},
		{label + "a.org", "", `"` + label + `a.org" is not a host name`},
		{"", "", `"" is not a host name`},
		{".", "", `"." is not a host name`},
		{"a..b", "", `"a..b" is not a host name`},
		{".a", "", `".a" is not a host name`},
		{"a..", "", `"a.." is not a host name`},
		{"-a.org", "", `"-a.org" is not a host name`},
		{"a-.org", "", `"a-.org" is not a host name`},
		{"a_b.org", "", `"a_b.org" is not a host name`},
		{"a b", "", `"a b" is not a host name`},
		{"a:1", "", `"a:1" is not a host name`},
		{"a/b", "", `"a/b" is not a host name`},
		{"a@b", "", `"a@b" is not a host name`},
		{"a\x1b", "", `"a\x1b" is not a host name`},
		{"\u212a.org", "", `"` + "\u212a" + `.org" is not a host name`}, // the sign of Kelvin, in lower case a k
		{"127.0.0.1", "", `"127.0.0.1" is an address, want a host name`},
		{"1", "", `"1" is an address, want a host name`},
		{"::1", "", `"::1" is not a host name`},
	} {
		got, err := hostName(c.name)
		if got != c.want || (err == nil) != (c.says == "") || err != nil && err.Error() != c.says {
			t.Errorf("%q: %q, %v; want %q, %s", c.name, got, err, c.want, c.says)
		}
	}
}

func TestInDomain(t *testing.T) {
	for _, c := range []struct {
		host, domain string
		want         bool
	}{
		{"boot.example.org", "example.org", true},
		{"a.b.example.org", "example.org", true},
		{"example.org", "example.org", true},
		{"evil-example.org", "example.org", false},
		{"boot.evilexample.org", "example.org", false},
		{"example.org.example.net", "example.org", false},
		{"org", "example.org", false},
	} {
		if got := inDomain(c.host, c.domain); got != c.want {
			t.Errorf("%s in %s: %t", c.host, c.domain, got)
		}
	}
}

// A name that is taken stays as it is, and is nothing but a host in a URL.
func FuzzHostName(f *testing.F) {
	for _, s := range []string{"boot.school.example.org.", "A", "a_b", "1.2.3.4", "", "\u212a", "a..", "-a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		host, err := hostName(name)
		if err != nil {
			return
		}
		if again, err := hostName(host); again != host || err != nil {
			t.Errorf("%q: %q, then %q, %v", name, host, again, err)
		}
		if !strings.EqualFold(host, strings.TrimSuffix(name, ".")) {
			t.Errorf("%q is %q", name, host)
		}
		u, err := neturl.Parse("https://" + host + ":873")
		if err != nil || u.Hostname() != host || u.Port() != "873" || net.ParseIP(host) != nil {
			t.Errorf("%q: %v, %v", name, u, err)
		}
	})
}
