// Package origin reads the origins that browsers name (RFC 6454 section 6.2).
package origin

import "strings"

// Fix says what to write instead of something that is no origin, such as a page's URL; "" for an origin, which may have
// "*." in front of its host for every name below. o is in lower case.
func Fix(o string) string {
	scheme, host, ok := strings.Cut(o, "://")
	switch {
	case !ok:
		return "write the scheme too: https://" + strings.TrimRight(o, "/")
	case scheme == "ws" || scheme == "wss":
		return "write the scheme of the page: http" + strings.TrimPrefix(scheme, "ws") + "://" + host
	case scheme == "" || host == "":
		return "write scheme, host, and the port if it is not the scheme's own"
	case strings.ContainsAny(host, "/?#"):
		host, _, _ = strings.Cut(host, "/")
		return "write it without a path: " + scheme + "://" + host
	case scheme == "https" && strings.HasSuffix(host, ":443"), scheme == "http" && strings.HasSuffix(host, ":80"):
		return "leave out the port that is the scheme's own, as browsers do: " + o[:strings.LastIndexByte(o, ':')]
	case strings.Contains(strings.TrimPrefix(host, "*."), "*") || strings.ContainsAny(host, " ,@"):
		return `write "*." and a domain for every name below it: https://*.example.com`
	}
	return ""
}
