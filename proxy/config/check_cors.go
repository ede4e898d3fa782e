package config

import (
	"strings"
	"time"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
)

// maxCORSAge bounds how long a browser may keep what it was allowed: none keeps it longer.
const maxCORSAge = 24 * time.Hour

func (k *checker) cors(path string, c *configv1.CORS) {
	if c == nil || k.failed(path) {
		return
	}
	list := path + ".origins"
	every := false
	for i, o := range c.GetOrigins() {
		at := item(list, i)
		switch {
		case k.failed(at):
		case o == "*":
			every = true
			if len(c.GetOrigins()) > 1 {
				k.fault(at, "keep it alone, or name the origins", `"*" is every origin, and stands beside others`)
			}
		case strings.EqualFold(o, "null"):
			k.fault(at, "remove it, and serve the page from an origin of its own", `"null" is what browsers send for every sandboxed page and local file`)
		case strings.Contains(o, "*"):
			k.fault(at, `write each origin in full, or "*" alone for every page there is`, "wanted a whole origin, found %s", k.show(at, o))
		}
	}
	if len(c.GetOrigins()) == 0 {
		k.missing(path, "origins", `list the origins of the pages: ["https://app.example.com"], or remove `+"`cors`")
	}
	var whole []string // what origins would say something else about is blanked, so that places stay
	for _, o := range c.GetOrigins() {
		if strings.Contains(o, "*") || strings.EqualFold(o, "null") {
			o = "*"
		}
		whole = append(whole, o)
	}
	k.origins(list, whole)
	if every && c.GetCredentials() {
		k.fault(path+".credentials", "name the origins that may send them", `credentials for every page there is: with "*" no browser sends them`)
	}
	for i, h := range c.GetHeaders() {
		at := item(path+".headers", i)
		if !k.failed(at) && !headerToken.MatchString(h) {
			k.fault(at, tokenRule, "%s is not the name of a header", k.show(at, h))
		}
	}
	if a := c.GetMaxAge(); a.GetSeconds() != 0 || a.GetNanos() != 0 { // 0s: nothing is kept
		k.between(path+".max_age", a, maxCORSAge)
	}
}
