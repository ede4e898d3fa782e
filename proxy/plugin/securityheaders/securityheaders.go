// Package securityheaders is the plugin security_headers: it gives answers the headers that tell browsers to be careful.
package securityheaders

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	securityheadersv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/securityheaders/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "security_headers",
	Config: func() proto.Message { return new(securityheadersv1.SecurityHeaders) },
	New:    newPlugin,
}

// headers never changes once made.
type headers struct {
	set    rpc.Metadata
	hsts   string // "": not sent
	remove []string
}

var _ plugin.Dresser = (*headers)(nil)

const (
	none       = "-" // what is written for a header that is not wanted
	year       = 365 * 24 * time.Hour
	defaultCSP = "default-src 'none'; frame-ancestors 'none'"
)

func newPlugin(config proto.Message, _ plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*securityheadersv1.SecurityHeaders)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	h := &headers{}
	if conf.GetHsts() != nil {
		var err error
		if h.hsts, err = hsts(conf.GetHsts()); err != nil {
			return nil, err
		}
	}
	for _, k := range []struct {
		key, name, value, standard string
		among                      []string
	}{
		{"frame_options", "x-frame-options", strings.ToUpper(conf.GetFrameOptions()), "DENY", []string{"DENY", "SAMEORIGIN"}},
		{"referrer_policy", "referrer-policy", conf.GetReferrerPolicy(), "no-referrer", nil},
		{"content_security_policy", "content-security-policy", conf.GetContentSecurityPolicy(), defaultCSP, nil},
		{"permissions_policy", "permissions-policy", conf.GetPermissionsPolicy(), none, nil},
		{"cross_origin_resource_policy", "cross-origin-resource-policy", conf.GetCrossOriginResourcePolicy(), none, []string{"same-origin", "same-site", "cross-origin"}},
	} {
		value := k.value
		if value == "" {
			value = k.standard
		}
		if value == none {
			continue
		}
		if len(k.among) > 0 && !slices.Contains(k.among, value) {
			return nil, plugin.Faultf(k.key, "write "+strings.Join(k.among, " or "), "unknown value %q", value)
		}
		if !plugin.HeaderValue(value) {
			return nil, plugin.Faultf(k.key, "write printable ascii", "%q cannot stand in a header", value)
		}
		h.set = append(h.set, rpc.Pair{Key: k.name, Value: value})
	}
	if conf.Nosniff == nil || conf.GetNosniff() {
		h.set = append(h.set, rpc.Pair{Key: "x-content-type-options", Value: "nosniff"})
	}
	for _, name := range slices.Sorted(maps.Keys(conf.GetCustom())) { // in one order, whatever the map has
		at := fmt.Sprintf("custom[%q]", name)
		key, value := strings.ToLower(name), conf.GetCustom()[name]
		if err := answerHeader(at, key); err != nil {
			return nil, err
		}
		if h.set.Has(key) || key == "strict-transport-security" {
			return nil, plugin.Faultf(at, "use the key that is made for it", "%s has a key of its own", key)
		}
		if !plugin.HeaderValue(value) || value == "" {
			return nil, plugin.Faultf(at, "write printable ascii", "%q cannot stand in a header", value)
		}
		h.set = append(h.set, rpc.Pair{Key: key, Value: value})
	}
	for i, name := range conf.GetRemove() {
		key := strings.ToLower(name)
		if err := answerHeader(fmt.Sprintf("remove[%d]", i), key); err != nil {
			return nil, err
		}
		h.remove = append(h.remove, key)
	}
	if len(h.set)+len(h.remove) == 0 && h.hsts == "" {
		return nil, plugin.Faultf("", "remove the plugin, or leave some of its headers on", "every header is turned off")
	}
	return h, nil
}

// answerHeader refuses names that are none, or are the protocols' own.
func answerHeader(at, key string) error {
	switch {
	case !plugin.HeaderName(key):
		return plugin.Faultf(at, "write letters, digits and -", "%q is not the name of a header", key)
	case plugin.ReservedAnswerHeader(key):
		return plugin.Faultf(at, "remove it", "%s is the protocol's own", key)
	}
	return nil
}

// hsts is the value of Strict-Transport-Security.
func hsts(conf *securityheadersv1.HSTS) (string, error) {
	age := year
	if conf.GetMaxAge() != nil {
		if age = conf.GetMaxAge().AsDuration(); !conf.GetMaxAge().IsValid() || age < 0 {
			return "", plugin.Faultf("hsts.max_age", "write 0s to forget, or 31536000s", "wanted 0s or more, found %s", age)
		}
	}
	v := "max-age=" + strconv.FormatInt(int64(age/time.Second), 10)
	if conf.GetIncludeSubdomains() {
		v += "; includeSubDomains"
	}
	if conf.GetPreload() {
		if !conf.GetIncludeSubdomains() || age < year {
			return "", plugin.Faultf("hsts.preload", "add include_subdomains: true, and a max_age of 31536000s", "the lists of browsers take whole domains, for a year at least")
		}
		v += "; preload"
	}
	return v, nil
}

// Wrap implements plugin.Plugin: calls themselves are not looked at.
func (h *headers) Wrap(next rpc.Handler) rpc.Handler { return next }

// Dress implements plugin.Dresser. Browsers ignore Strict-Transport-Security without TLS, and it would tell others what is
// not so (RFC 6797 section 7.2).
func (h *headers) Dress(header rpc.Metadata, r *rpc.HTTP, _ bool) rpc.Metadata {
	for _, key := range h.remove {
		header.Del(key)
	}
	for _, p := range h.set {
		header.Set(p.Key, p.Value)
	}
	if h.hsts != "" && r.Scheme == "https" {
		header.Set("strict-transport-security", h.hsts)
	}
	return header
}
