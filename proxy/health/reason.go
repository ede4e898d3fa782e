package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

// Where a probe is. The words go into reasons.
type stage string

const (
	connecting  stage = "connecting"
	handshaking stage = "the TLS handshake"
	asking      stage = "the answer"
)

// reason says in plain words why a probe failed. The cause stays wrapped.
func reason(ctx context.Context, at stage, err error) error {
	say := func(text string) error { return &failure{text, err} }
	var (
		dns      *net.DNSError
		unknown  x509.UnknownAuthorityError
		host     x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		op       *net.OpError
		deadline = ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return say("the check was given up")
	case deadline && at == connecting:
		return say("no connection in time: the address does not answer")
	case deadline && at == handshaking:
		return say("connected, but the TLS handshake did not end in time: the process may hang, or speak no TLS")
	case deadline:
		return say("connected, but no answer in time: the process may hang")
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return say("the name " + quoted(dns.Name) + " has no address")
		}
		return say("the name " + quoted(dns.Name) + " could not be looked up")
	case errors.Is(err, syscall.ECONNREFUSED):
		return say("the connection was refused: nothing listens there")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return say("there is no way to the host")
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return say("the gateway has no file descriptors left: raise its limit")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return say("the gateway has no local port left for a connection")
	case errors.As(err, &host):
		return say("the certificate is not for the name " + quoted(host.Host))
	case errors.As(err, &unknown):
		return say("the certificate is signed by nobody whom the gateway trusts")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return say("the certificate has expired or is not valid yet")
	case errors.As(err, &verify):
		return say("the certificate was not accepted: " + bounded(verify.Err.Error()))
	case errors.As(err, &record):
		return say("TLS was wanted, and what answered speaks none")
	case errors.As(err, &op) && op.Op == "remote error":
		return say("the other side broke TLS off: " + bounded(op.Err.Error()))
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return say("the other side closed the connection during " + string(at))
	}
	return say(string(at) + " failed: " + bounded(err.Error()))
}

// failure is a reason with its cause.
type failure struct {
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.cause }

const longest = 200

// bounded is text from outside, without controls and not long.
func bounded(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if len(s) <= longest {
		return s
	}
	cut := longest
	for cut > 0 && s[cut]&0xc0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}

func quoted(s string) string { return strconv.Quote(bounded(s)) }

// addressFault tells what is wrong with an address, nil if nothing.
func addressFault(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(port, 10, 16); err == nil && n == 0 {
			err = strconv.ErrRange
		}
	}
	if err != nil {
		return fmt.Errorf("health: want an address like host:port, found %s", quoted(address))
	}
	return nil
}
