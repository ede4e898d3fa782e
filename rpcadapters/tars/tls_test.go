package tars

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/server"
)

// TestTLS: the adapter calls an inlet over TLS, which is one connection for many calls as well; who does not trust the
// certificate reaches nobody.
func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := kit(t)
	m := kitMethod(t, s, "hello")
	d := newDoor(t, s, kitListener(), func(_ context.Context, c *rpc.Call, _ []byte) ([]byte, error) {
		return message(t, c.Method.Output, `{"ret":"`+c.Header.Get("x-forwarded-proto")+`"}`), nil
	})
	d.options.Request = []string{"x-forwarded-proto"}
	_, addr := d.open(kitListener(), rpcadapters.Limits{}, server.Options{TLS: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	}})
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	for _, c := range []struct {
		roots *x509.CertPool
		code  codes.Code
	}{{pool, codes.OK}, {x509.NewCertPool(), codes.Unavailable}} {
		tr, err := Adapter{}.Dial(rpcadapters.Target{
			Address: addr, MaxMessage: 1 << 20, DialTimeout: 20 * time.Second, Config: &tarsadapterv1.Options{Servant: servant},
			TLS: &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_, got, err := invoke(t.Context(), t, tr.(*transport), m, nil, nil, `{"name":"x"}`)
			var e *rpc.Error
			switch {
			case c.code == codes.OK && (err != nil || got != `{"ret":"tars+tls"}`):
				t.Errorf("found %s, %v", got, err)
			case c.code != codes.OK && (!errors.As(err, &e) || e.Code != c.code || e.Executed):
				t.Errorf("found %s, %v", got, err)
			}
		}
		if made := tr.(*transport).cl.Made(); c.code == codes.OK && made != 1 {
			t.Errorf("%d connections for calls one after the other", made)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}
