package discover

import (
	"fmt"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

// hostName returns a name of a host or a domain in lower case and without a final dot.
// The error is for what cannot be such a name, by RFC 1123, section 2.1.
func hostName(name string) (string, error) {
	const maxName = 253
	plain := strings.TrimSuffix(name, ".")
	if len(plain) > maxName {
		return "", fmt.Errorf("a host name of %d bytes is too long", len(plain))
	}
	last := ""
	for last = range strings.SplitSeq(plain, ".") {
		if !isLabel(last) {
			return "", fmt.Errorf("%s is not a host name", untrusted.Quote(name))
		}
	}
	if strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("%s is an address, want a host name", untrusted.Quote(name))
	}
	return strings.ToLower(plain), nil
}

// isLabel reports whether a part of a name can be one of a host's.
func isLabel(label string) bool {
	const (
		maxLabel = 63
		allowed  = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
	)
	return label != "" && len(label) <= maxLabel && strings.Trim(label, allowed) == "" &&
		label[0] != '-' && label[len(label)-1] != '-'
}

// inDomain reports whether a host lies in a domain, or has its name. Both are of
// hostName.
func inDomain(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}
