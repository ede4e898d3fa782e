package tars

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Locator is where a TARS registry is: a servant and the addresses that serve it.
type Locator struct {
	Servant   string // "tars.tarsregistry.QueryObj"
	Addresses []Address
}

// Address is where a registry is asked.
type Address struct {
	At  string // host:port
	TLS bool   // ssl
}

// Secure tells whether any of the addresses is one of TLS.
func (l *Locator) Secure() bool {
	return slices.ContainsFunc(l.Addresses, func(a Address) bool { return a.TLS })
}

// ParseLocator reads the text that clients of TARS are configured with:
// "tars.tarsregistry.QueryObj@tcp -h 10.0.0.5 -p 17890:ssl -h 10.0.0.6 -p 17891". Flags other than -h and -p are passed over.
func ParseLocator(text string) (Locator, error) {
	const want = `want a servant and its endpoints, like "tars.tarsregistry.QueryObj@tcp -h 10.0.0.5 -p 17890"`
	servant, rest, ok := strings.Cut(text, "@")
	servant = strings.TrimSpace(servant)
	if !ok || servant == "" {
		return Locator{}, fmt.Errorf("%s, found %q", want, text)
	}
	if strings.Count(servant, ".") != 2 || strings.Contains("."+servant+".", "..") {
		return Locator{}, fmt.Errorf(`want a servant of three names, like "tars.tarsregistry.QueryObj", found %q`, servant)
	}
	l := Locator{Servant: servant}
	for _, proto := range []string{"tcp", "ssl", "udp"} {
		rest = strings.ReplaceAll(rest, ": "+proto, ":"+proto)
		rest = strings.ReplaceAll(rest, " :"+proto, ":"+proto)
	}
	for words := strings.Fields(rest); len(words) > 0; {
		// An endpoint ends where a word ends in the next one's protocol; addresses of IPv6 have colons as well.
		proto := words[0]
		words = words[1:]
		if proto != "tcp" && proto != "ssl" {
			return Locator{}, fmt.Errorf("want endpoints that begin with tcp or ssl, found %q in %q", proto, text)
		}
		var host, port, next string
		for len(words) > 0 && next == "" {
			flag, value := words[0], ""
			if words = words[1:]; len(words) > 0 {
				value, words = words[0], words[1:]
			}
			if before, after, cut := cutLast(value); cut && (after == "tcp" || after == "ssl" || after == "udp") {
				value, next = before, after
			}
			if !strings.HasPrefix(flag, "-") {
				return Locator{}, fmt.Errorf("want a flag such as -h, found %q in %q", flag, text)
			}
			switch flag {
			case "-h":
				host = value
			case "-p":
				port = value
			}
		}
		if n, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || n == 0 {
			return Locator{}, fmt.Errorf("want -h HOST and -p PORT in every endpoint, found %q and %q in %q", host, port, text)
		}
		if !hostname(host) {
			return Locator{}, fmt.Errorf("want a name or an address behind -h, found %q in %q", host, text)
		}
		l.Addresses = append(l.Addresses, Address{net.JoinHostPort(host, port), proto == "ssl"})
		if next != "" {
			words = append([]string{next}, words...)
		}
	}
	if len(l.Addresses) == 0 {
		return Locator{}, fmt.Errorf("%s, found %q", want, text)
	}
	return l, nil
}

// cutLast cuts s at its last colon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
