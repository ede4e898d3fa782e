package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// authority signs certificates for a test.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = filepath.Join(a.dir, "ca.pem")
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	tmp := file + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		t.Fatal(err)
	}
}

// issue writes name.pem and name.key for localhost, and returns the certificate's serial number.
func (a *authority) issue(name string, serial int64) (certFile, keyFile string) {
	a.t.Helper()
	key := newKey(a.t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	writePEM(a.t, keyFile, "EC PRIVATE KEY", raw)
	writePEM(a.t, certFile, "CERTIFICATE", der)
	return certFile, keyFile
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func TestTLSListener(t *testing.T) {
	t.Parallel()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	ca := newAuthority(t, "callers trust this")
	cert, key := ca.issue("gateway", 10)
	text := echoConfig(t, t.TempDir(), backend.Address)
	text = strings.Replace(text, "  - address: 127.0.0.1:0\n", "  - address: 127.0.0.1:0\n    tls: {cert_file: "+cert+", key_file: "+key+"}\n", 1)
	g := startGateway(t, text)
	url := strings.Replace(g.url, "http://", "https://", 1)
	visit := func(protocol string) (serial int64, proto string) {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12, NextProtos: []string{protocol}}, ForceAttemptHTTP2: protocol == "h2"}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(url + "/v1/echo/x") //nolint:noctx // on loopback
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("want 200, found %d", resp.StatusCode)
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), resp.Proto
	}
	if serial, proto := visit("http/1.1"); serial != 10 || proto != "HTTP/1.1" {
		t.Errorf("want certificate 10 by HTTP/1.1, found %d by %s", serial, proto)
	}
	if serial, proto := visit("h2"); serial != 10 || proto != "HTTP/2.0" {
		t.Errorf("want certificate 10 by HTTP/2, found %d by %s", serial, proto)
	}
	ca.issue("gateway", 11)
	waitFor(t, "the new certificate", func() bool { serial, _ := visit("http/1.1"); return serial == 11 })
	if a, err := trySend(g.client, "GET", g.url+"/v1/echo/x", ""); err == nil && a.status == 200 {
		t.Error("want plain text refused on a TLS listener")
	}
}

func TestTLSListenerAsksForCertificates(t *testing.T) {
	backend := echo.Start(t, "127.0.0.1:0", "a")
	ca := newAuthority(t, "gateway")
	callers := newAuthority(t, "callers")
	cert, key := ca.issue("gateway", 1)
	text := echoConfig(t, t.TempDir(), backend.Address)
	text = strings.Replace(text, "  - address: 127.0.0.1:0\n", "  - address: 127.0.0.1:0\n    tls: {cert_file: "+cert+", key_file: "+key+", client_ca_file: "+callers.file+"}\n", 1)
	g := startGateway(t, text)
	url := strings.Replace(g.url, "http://", "https://", 1) + "/v1/echo/x"
	for _, tc := range []struct {
		name string
		from *authority
		ok   bool
	}{{"none", nil, false}, {"a stranger's", ca, false}, {"a known one", callers, true}} {
		t.Run(tc.name, func(t *testing.T) {
			c := &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}
			if tc.from != nil {
				pair, err := tls.LoadX509KeyPair(tc.from.issue("caller", 7))
				if err != nil {
					t.Fatal(err)
				}
				c.Certificates = []tls.Certificate{pair}
			}
			transport := &http.Transport{TLSClientConfig: c}
			defer transport.CloseIdleConnections()
			a, err := trySend(&http.Client{Transport: transport}, "GET", url, "")
			if (err == nil && a.status == 200) != tc.ok {
				t.Errorf("want let in %v, found %d %v", tc.ok, a.status, err)
			}
		})
	}
}

// Trusted authorities follow their files too.
func TestChangedAuthoritiesArePutIntoForce(t *testing.T) {
	t.Parallel()
	ca, next := newAuthority(t, "services"), newAuthority(t, "services, next year")
	cert, key := next.issue("service", 1)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	backend := echo.Start(t, "127.0.0.1:0", "tls", grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})))
	text := strings.Replace(echoConfig(t, t.TempDir(), backend.Address), "    schema: echo\n", "    schema: echo\n    tls: {ca_file: "+ca.file+"}\n", 1)
	g := startGateway(t, text)
	if a := g.call("GET", "/v1/echo/x", ""); a.status != 503 {
		t.Fatalf("want 503 while the authority is not trusted, found %d %s", a.status, a.body)
	}
	writePEM(t, ca.file, "CERTIFICATE", next.cert.Raw)
	waitFor(t, "the new authority", func() bool { return g.call("GET", "/v1/echo/x", "").status == 200 })
}

func TestTLSUpstream(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "services")
	serverCert, serverKey := ca.issue("service", 1)
	clientCert, clientKey := ca.issue("gateway", 2)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	stranger := newAuthority(t, "stranger")
	mutual := echo.Start(t, "127.0.0.1:0", "mutual", grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	})))
	plain := echo.Start(t, "127.0.0.1:0", "tls", grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})))
	for _, tc := range []struct {
		name, address, tls string
		status             int
	}{
		{"tls", plain.Address, "ca_file: " + ca.file, 200},
		{"mutual", mutual.Address, "ca_file: " + ca.file + ", cert_file: " + clientCert + ", key_file: " + clientKey, 200},
		{"mutual without a certificate", mutual.Address, "ca_file: " + ca.file, 503},
		{"an authority that did not sign", plain.Address, "ca_file: " + stranger.file, 503},
		{"a name that is not in the certificate", plain.Address, "server_name: other.example.com, ca_file: " + ca.file, 503},
		{"the name that is", plain.Address, "server_name: localhost, ca_file: " + ca.file, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			text := strings.Replace(echoConfig(t, t.TempDir(), tc.address), "    schema: echo\n", "    schema: echo\n    tls: {"+tc.tls+"}\n", 1)
			g := startGateway(t, text)
			if a := g.call("GET", "/v1/echo/x", "", "X-Request-Timeout", "5s"); a.status != tc.status {
				t.Errorf("want %d, found %d %s", tc.status, a.status, a.body)
			}
		})
	}
}
