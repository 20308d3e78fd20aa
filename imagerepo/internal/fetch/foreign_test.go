package fetch

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What a server says is shown without what it may do to a terminal.
func TestForeignStatus(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 418 \x1b[2J\xff%s\r\nContent-Length: 0\r\n\r\n", strings.Repeat("x", 2000))
	}))
	defer server.Close()
	m, err := Open(server.URL, Options{Patience: Patience{Attempts: 1, Wait: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.Document(t.Context(), "index.json", 1)
	want := "fetching " + server.URL + `/index.json: 418 \x1b[2J\xffxxx`
	if err == nil || !strings.HasPrefix(err.Error(), want) || len(err.Error()) > 1100 {
		t.Errorf("got %v, want %s", err, want)
	}
}
