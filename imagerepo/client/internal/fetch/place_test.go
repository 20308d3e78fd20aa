package fetch

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"testing"
)

// writeCertificate writes the certificate of a test's server as PEM.
func writeCertificate(t *testing.T, file string, s *httptest.Server) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
}
