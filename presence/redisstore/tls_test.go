package redisstore_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-57c14f3c/caddy-presence/presence"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore"
	"github.com/seed-57c14f3c/caddy-presence/presence/redisstore/redistest"
)

// TestTLS keeps presence in a Redis that speaks TLS, and refuses one whose
// certificate nobody has signed.
func TestTLS(t *testing.T) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS() // for its certificate
	certified.Close()
	pair := certified.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	port := freePort(t)
	redistest.Start(t, "--tls-port", port, "--tls-auth-clients", "no", "--tls-cert-file", write("cert", "CERTIFICATE", pair.Certificate[0]),
		"--tls-key-file", write("key", "PRIVATE KEY", key))
	url := "rediss://127.0.0.1:" + port

	stranger := open(t, redisstore.Config{URLs: []string{url}})
	t.Cleanup(func() { _ = stranger.Shutdown(context.Background()) })
	if err := stranger.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody has signed: %v", err)
	}

	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	s := open(t, redisstore.Config{URLs: []string{url}, TLS: &tls.Config{RootCAs: roots}})
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	req := presence.OpenRequest{Hub: "default", Conn: presence.ConnID{Node: s.Node(), Num: 1}, Member: &presence.Member{ID: "7", JSON: []byte(`{}`)}, Max: 1}
	if _, err := s.Open(t.Context(), req); err != nil {
		t.Error(err)
	}
	if _, err := s.Members(t.Context(), "default", presence.MemberQuery{Limit: 1, Cursor: "?"}); !errors.Is(err, presence.ErrBadCursor) {
		t.Errorf("a bad cursor: %v", err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
