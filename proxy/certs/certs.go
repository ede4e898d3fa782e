// Package certs reads certificates and authorities from files and follows the files while they change.
package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Client are the files that make connections to an upstream safe; empty ones are left out.
type Client struct {
	CA, Cert, Key string
	ServerName    string
}

// recheck is how often a certificate file is looked at again.
const recheck = 5 * time.Second

// Config makes the TLS configuration of connections to host. The client certificate is read again when its file
// changes, at the next handshake. The authorities are read here; Fingerprint tells that they have changed.
func (f Client) Config(host string, told func(error)) (*tls.Config, error) {
	c := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	if c.ServerName == "" {
		c.ServerName = host
	}
	if f.CA != "" {
		pool, err := Authorities(f.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if f.Cert != "" {
		k, err := NewKeyPair(f.Cert, f.Key, told)
		if err != nil {
			return nil, err
		}
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.Get(), nil }
	}
	return c, nil
}

// Server are the files of a listener: its certificate, and with ClientCA the authorities that callers' certificates need.
type Server struct {
	Cert, Key, ClientCA string
}

// Config makes a listener's TLS configuration. The certificate is read again when its files change, at the next
// handshake; the pair is returned so that a fault in the new files can be shown. For told, see NewKeyPair.
func (f Server) Config(told func(error)) (*tls.Config, *KeyPair, error) {
	k, err := NewKeyPair(f.Cert, f.Key, told)
	if err != nil {
		return nil, nil, err
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// An answer is written at once: small first records would make several writes of it.
		DynamicRecordSizingDisabled: true,
		GetCertificate:              func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.Get(), nil },
	}
	if f.ClientCA != "" {
		if c.ClientCAs, err = Authorities(f.ClientCA); err != nil {
			return nil, nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, k, nil
}

// Fingerprint tells two contents of an authorities' file apart; "" for no file, or one that cannot be read.
func Fingerprint(path string) string {
	if path == "" {
		return ""
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Authorities reads a PEM file of certificates.
func Authorities(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: want PEM certificates, found none", path)
	}
	return pool, nil
}

// KeyPair is a certificate with its key that follows its files. It is safe for concurrent use.
type KeyPair struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate
	stamp   [2]time.Time
	checked time.Time
	fault   error
	told    func(error)
}

// NewKeyPair reads the pair; the error names the file. told hears when changed files are in force (nil) or cannot be
// (why); it is called by handshakes and must not wait. It may be nil.
func NewKeyPair(certFile, keyFile string, told func(error)) (*KeyPair, error) {
	k := &KeyPair{certFile: certFile, keyFile: keyFile, told: told}
	if err := k.load(); err != nil {
		return nil, err
	}
	k.checked = time.Now()
	return k, nil
}

// Get returns the pair as its files have it; files that cannot be read or do not fit leave the former one in force.
func (k *KeyPair) Get() *tls.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.checked) >= recheck {
		k.checked = now
		k.follow()
	}
	return k.cert
}

// follow looks at the files again. mu is held.
func (k *KeyPair) follow() {
	before := k.fault
	switch stamp, err := k.stat(); {
	case err != nil:
		k.fault = err
	case stamp != k.stamp:
		k.fault = k.load()
		if k.fault == nil && k.told != nil {
			k.told(nil)
		}
	default:
		k.fault = nil
	}
	if k.fault != nil && before == nil && k.told != nil {
		k.told(k.fault)
	}
}

// Fault is why the files as they are now are not in force, or nil.
func (k *KeyPair) Fault() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.fault
}

func (k *KeyPair) stat() (stamp [2]time.Time, err error) {
	for i, f := range [...]string{k.certFile, k.keyFile} {
		st, err := os.Stat(f)
		if err != nil {
			return stamp, err
		}
		stamp[i] = st.ModTime()
	}
	return stamp, nil
}

func (k *KeyPair) load() error {
	stamp, err := k.stat()
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		return errors.Join(fmt.Errorf("certificate %s with key %s do not fit", k.certFile, k.keyFile), err)
	}
	k.cert, k.stamp = &cert, stamp
	return nil
}
