package secret

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	made := New()
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"made":       {string(made.File()), true},
		"hex":        {strings.Repeat("0123456789abcdef", 4), true},
		"no newline": {strings.TrimSpace(string(made.File())), true},
		"empty":      {"", false},
		"short":      {strings.Repeat("x", minToken-1) + "\n\n", false},
		"long":       {strings.Repeat("x", MaxToken+1), false},
		"two lines":  {string(made.File()) + string(made.File()), false},
		"not ASCII":  {strings.Repeat("ä", minToken), false},
	} {
		got, err := Parse([]byte(c.text))
		if (err == nil) != c.ok || c.ok && got.text != strings.TrimSpace(c.text) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && c.text != "" && strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: the error shows the token", name)
		}
	}
	if first, second := New(), New(); first == second {
		t.Error("the same token twice")
	}
}

// What is derived differs by token, use and version, and shows nothing of the token.
func TestDerived(t *testing.T) {
	a, b := New(), New()
	seen := map[string]bool{a.text: true, b.text: true}
	for _, s := range []string{a.Name("1"), a.Name("2"), b.Name("1"), a.Queue(), b.Queue(), a.bearer(), b.bearer()} {
		if seen[s] {
			t.Error("the same twice")
		}
		seen[s] = true
	}
}

// A client with the token reaches the server, and no other does.
func TestServer(t *testing.T) {
	token, other := New(), New()
	server := httptest.NewUnstartedServer(token.Check(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "secret") })))
	config, err := token.Server()
	if err != nil {
		t.Fatal(err)
	}
	server.TLS, server.Config.ErrorLog = config, log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	for name, c := range map[string]struct {
		tls, bearer Token
		status      int // 0 for a refused certificate
	}{
		"right": {token, token, 200}, "another certificate": {other, token, 0}, "another bearer": {token, other, 401}, "no bearer": {token, Token{}, 401},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls.Client()}}
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if c.bearer != (Token{}) {
			c.bearer.Authorize(r)
		}
		res, err := client.Do(r)
		switch {
		case c.status == 0:
			if !errors.Is(err, ErrOther) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		case err != nil:
			t.Errorf("%s: %v", name, err)
			continue
		}
		body, _ := io.ReadAll(res.Body)
		if res.Body.Close(); res.StatusCode != c.status || (string(body) == "secret") != (c.status == 200) {
			t.Errorf("%s: %s %q", name, res.Status, body)
		}
	}
}
