package config

import (
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
)

func (k *checker) listeners(c *configv1.Config) {
	if len(c.GetListen()) == 0 {
		if !k.failed("listen") {
			k.fault("listen", `add one: listen: [{address: ":8080"}]`, "no listener")
		}
		return
	}
	type taken struct {
		path string
		address
	}
	var all []taken
	one := func(path, value string) {
		a, ok := k.address(path, value, listening)
		if !ok || a.port == 0 {
			return
		}
		for _, t := range all {
			if t.port == a.port && (t.host == a.host || t.every() || a.every()) {
				k.fault(path, "give each listener its own port", "%s is taken by %s already%s", k.show(path, value), t.path, k.where(t.path))
				return
			}
		}
		all = append(all, taken{path, a})
	}
	for i, l := range c.GetListen() {
		path := item("listen", i)
		if k.failed(path) {
			continue
		}
		if l.GetAddress() == "" {
			k.missing(path, "address", `write host:port, such as ":8080" for every address`)
		} else {
			one(path+".address", l.GetAddress())
		}
		if t := l.GetTls(); t != nil {
			k.serverTLS(path+".tls", t)
		}
		k.protocol(path+".protocol", "protocol", l.GetProtocol(), k.types.Protocols)
	}
	if a := c.GetAdmin(); a != nil && !k.failed("admin") {
		value := a.GetAddress()
		if value == "" {
			value = defaultAdmin
		}
		one("admin.address", value)
	}
}

func (k *checker) admin(a *configv1.Admin) {
	if a == nil || k.failed("admin") {
		return
	}
	const path = "admin.address"
	switch value := a.GetAddress(); {
	case k.failed(path):
	case value == "" && k.written(path):
		k.missing("admin", "address", "write host:port on loopback, or remove the key for "+defaultAdmin)
	case value != "":
		if ad, ok := parseAddress(value, listening); ok == nil && !ad.loopback() {
			k.fault(path, "write 127.0.0.1:"+strconv.Itoa(ad.port)+"; reach it from elsewhere through a tunnel",
				"the admin listener takes loopback addresses only, found %s", k.show(path, value))
		}
	}
	const token = "admin.token"
	switch {
	case k.failed(token) || !k.written(token) && a.GetToken() == "":
	case a.GetToken() == "":
		k.fault(token, "give it a value, or remove the key: a token is made at the first start", "the token is empty")
	case !bearerToken.MatchString(a.GetToken()):
		k.fault(token, "use A-Z, a-z, 0-9 and - . _ ~ + / only: `openssl rand -hex 32`", "the token cannot be sent as a bearer token")
	}
	k.file("admin.data_dir", a.GetDataDir())
}

// bearerToken is b64token of RFC 6750, section 2.1.
var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

func (k *checker) serverTLS(path string, t *configv1.ServerTLS) {
	if k.failed(path) {
		return
	}
	if t.GetCertFile() == "" {
		k.missing(path, "cert_file", "name the PEM file with the certificate and its chain")
	}
	if t.GetKeyFile() == "" {
		k.missing(path, "key_file", "name the PEM file with the private key")
	}
	k.files(path, "cert_file", t.GetCertFile(), "key_file", t.GetKeyFile())
	k.file(path+".client_ca_file", t.GetClientCaFile())
}

func (k *checker) clientTLS(path string, t *configv1.ClientTLS) {
	if t == nil || k.failed(path) {
		return
	}
	switch {
	case t.GetCertFile() != "" && t.GetKeyFile() == "":
		k.missing(path, "key_file", "cert_file and key_file go together; name the PEM file with the private key")
	case t.GetCertFile() == "" && t.GetKeyFile() != "":
		k.missing(path, "cert_file", "cert_file and key_file go together; name the PEM file with the certificate")
	}
	k.files(path, "cert_file", t.GetCertFile(), "key_file", t.GetKeyFile())
	k.file(path+".ca_file", t.GetCaFile())
	if name := t.GetServerName(); name != "" {
		if fault := hostFault(strings.ToLower(name)); fault != nil {
			k.fault(path+".server_name", k.suggest(path+".server_name", fault.fix), "%s is not a host name: %s", k.show(path+".server_name", name), fault.message)
		}
	}
}

// files checks pairs of field and value that are not empty.
func (k *checker) files(path string, pairs ...string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			k.file(path+"."+pairs[i], pairs[i+1])
		}
	}
}

// address is a host and port.
type address struct {
	host string
	port int
}

// every reports whether a listener there takes all addresses of the machine.
func (a address) every() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.host == "" || err == nil && ip.IsUnspecified()
}

func (a address) loopback() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// use says what an address is for.
type use bool

const (
	listening use = true  // the host may be empty and the port 0
	dialing   use = false // both must be there
)

// address checks a host:port and gives its parts.
func (k *checker) address(path, value string, u use) (address, bool) {
	if k.failed(path) {
		return address{}, false
	}
	a, bad := parseAddress(value, u)
	if bad != nil {
		k.fault(path, k.suggest(path, bad.fix), "%s, found %s", bad.message, k.show(path, value))
		return address{}, false
	}
	return a, true
}

func parseAddress(s string, u use) (address, *misfit) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		rest, _, _ = strings.Cut(rest, "/")
		fix := "write the address alone: " + rest
		if scheme == "https" || scheme == "grpcs" {
			fix += "; TLS is set with `tls`"
		}
		return address{}, misfitf(fix, "wanted host:port without a scheme")
	}
	if strings.HasPrefix(s, "unix:") || strings.HasPrefix(s, "dns:") || strings.HasPrefix(s, "/") {
		return address{}, misfitf("write host:port", "wanted host:port")
	}
	if before, after, ok := strings.Cut(s, "/"); ok {
		return address{}, misfitf("remove /"+after+": "+before, "wanted host:port without a path")
	}
	if before, after, ok := strings.Cut(s, "@"); ok {
		return address{}, misfitf("remove "+before+"@: "+after, "wanted host:port without a user")
	}
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
		fix := "write [" + s + "]:PORT"
		if i := strings.LastIndexByte(s, ':'); allDigits(s[i+1:]) && strings.Count(s, ":") > 2 { // the port, most likely
			fix = "write [" + s[:i] + "]" + s[i:]
		}
		return address{}, misfitf(fix, "wanted host:port with the IPv6 host in brackets")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		i := strings.LastIndexByte(s, ':')
		switch {
		case strings.Count(s, ":") > 1 && !strings.Contains(s, "["):
			return address{}, misfitf("write ["+s[:i]+"]"+s[i:], "wanted host:port with the IPv6 host in brackets")
		case allDigits(s) && u == dialing:
			return address{}, misfitf("put the host before it: 127.0.0.1:"+s, "wanted host:port")
		case allDigits(s):
			return address{}, misfitf(`write ":`+s+`" (with quotes), or put the host before it`, "wanted host:port")
		case i < 0 || strings.HasSuffix(s, "]"):
			return address{}, misfitf("add the port: "+s+":PORT", "wanted host:port")
		}
		return address{}, misfitf("write host:port", "wanted host:port")
	}
	p, bad := parsePort(port, host, u)
	if bad != nil {
		return address{}, bad
	}
	if host == "" && u == dialing {
		return address{}, misfitf("write the host: 127.0.0.1:"+port, "wanted host:port")
	}
	host = strings.ToLower(host)
	if host == "" {
		return address{port: p}, nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return address{host, p}, nil
	}
	if bad := hostFault(strings.TrimSuffix(host, ".")); bad != nil {
		return address{}, misfitf(bad.fix, "wanted a host name or IP address before the port (%s)", bad.message)
	}
	return address{host, p}, nil
}

func parsePort(port, host string, u use) (int, *misfit) {
	if port == "" {
		return 0, misfitf("add the port: "+net.JoinHostPort(host, "PORT"), "wanted a port behind the colon")
	}
	p, err := strconv.Atoi(port)
	switch {
	case !allDigits(port):
		fix := "write the port as a number"
		if n, known := map[string]string{"http": "80", "https": "443"}[port]; known {
			fix += ": " + n
		}
		return 0, misfitf(fix, "wanted a port number")
	case err != nil || p > 65535:
		return 0, misfitf("write a port from 1 to 65535", "wanted a port up to 65535")
	case p == 0 && u == dialing:
		return 0, misfitf("write the port that the server listens on", "wanted a port from 1 to 65535")
	}
	return p, nil
}

func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// hostFault says what is wrong with a host name in lower case (RFC 1123, section 2.1, and _ as names in the field have it).
func hostFault(host string) *misfit {
	const labels = "write labels of letters, digits and -, joined by dots"
	switch {
	case host == "":
		return misfitf(labels, "empty")
	case len(host) > 253:
		return misfitf("shorten it", "longer than 253 characters")
	}
	for i := range len(host) {
		switch c := host[i]; {
		case c >= 0x80:
			return misfitf("write it in punycode: xn--...", "not ASCII")
		case c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z'):
			return misfitf(labels, "the character %q", rune(c))
		}
	}
	for label := range strings.SplitSeq(host, ".") {
		switch {
		case label == "":
			return misfitf("remove the extra dot", "an empty label")
		case len(label) > 63:
			return misfitf("shorten it", "a label of more than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return misfitf("remove the - there", "a label with - at its edge")
		}
	}
	return nil
}
