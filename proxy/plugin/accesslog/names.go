package accesslog

import (
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-gateway/causeway/proxy/plugin"
)

// names are the headers that are logged.
type names struct {
	exact    []string // lower case
	prefixes []string // of those written "x-*"; "" is every header
	deny     denied
}

func (n *names) empty() bool { return len(n.exact)+len(n.prefixes) == 0 }

// wants tells whether a header is logged; name is lower case.
func (n *names) wants(name string) bool {
	if slices.Contains(n.exact, name) {
		return true
	}
	for _, p := range n.prefixes {
		if strings.HasPrefix(name, p) {
			return !n.deny.has(name)
		}
	}
	return false
}

// denied are the names that are never logged, beside those that are secret by themselves.
type denied struct{ exact, prefixes []string }

func (d *denied) has(name string) bool {
	if secret(name) || slices.Contains(d.exact, name) {
		return true
	}
	return slices.ContainsFunc(d.prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// secretWords are what names of headers and claims that carry secrets contain.
var secretWords = [...]string{
	"auth", "cookie", "token", "secret", "passw", "api-key", "apikey", "api_key", "credential", "session", "signature", "csrf", "xsrf",
	"private", "jwt", "assertion", "otp",
}

// secret tells a name whose values are, or may be, secrets. Too much is better than too little: who needs such a header
// in the log gives it another name.
func secret(name string) bool {
	for _, w := range secretWords {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}

const maxNames = 64

// pattern takes "x-*" apart.
func pattern(path, text string) (name string, prefix bool, err error) {
	name, prefix = strings.CutSuffix(strings.ToLower(text), "*")
	if name == "" && !prefix {
		return "", false, plugin.Faultf(path, "write a name, or \"*\"", "an empty name")
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"*,:;=\\(){}[]<>?/@", c) >= 0 {
			return "", false, plugin.Faultf(path, "write a name like x-tenant, or x-* for all that begin so", "%q is not the name of a header", text)
		}
	}
	return name, prefix, nil
}

func denyList(list []string) (d denied, err error) {
	for i, text := range list {
		name, prefix, err := pattern(indexed("deny", i), text)
		switch {
		case err != nil:
			return d, err
		case prefix:
			d.prefixes = append(d.prefixes, name)
		default:
			d.exact = append(d.exact, name)
		}
	}
	return d, nil
}

func namesOf(key string, list []string, deny denied) (n names, err error) {
	n.deny = deny
	if len(list) > maxNames {
		return n, plugin.Faultf(key, "", "want at most %d names, found %d", maxNames, len(list))
	}
	for i, text := range list {
		at := indexed(key, i)
		name, prefix, err := pattern(at, text)
		switch {
		case err != nil:
			return n, err
		case prefix:
			n.prefixes = append(n.prefixes, name)
		case secret(name):
			return n, plugin.Faultf(at, "remove it", "the header %q carries secrets, which are never logged", name)
		case deny.has(name):
			return n, plugin.Faultf(at, "remove it here or in deny", "the header %q is in deny", name)
		default:
			n.exact = append(n.exact, name)
		}
	}
	return n, nil
}

func claimsOf(list []string, deny denied) ([]claim, error) {
	if len(list) > maxNames {
		return nil, plugin.Faultf("claims", "", "want at most %d names, found %d", maxNames, len(list))
	}
	var out []claim
	for i, name := range list {
		at := indexed("claims", i)
		switch lower := strings.ToLower(name); {
		case name == "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, ".."):
			return nil, plugin.Faultf(at, "write a name like sub, or realm.role for a member of an object", "%q is not the name of a claim", name)
		case secret(lower):
			return nil, plugin.Faultf(at, "remove it", "the claim %q is a secret by its name, and those are never logged", name)
		case deny.has(lower):
			return nil, plugin.Faultf(at, "remove it here or in deny", "the claim %q is in deny", name)
		}
		out = append(out, claim{name: name, path: strings.Split(name, ".")})
	}
	return out, nil
}

func indexed(key string, i int) string { return key + "[" + strconv.Itoa(i) + "]" }
