package securityheaders

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/proxy/plugin/plugintest"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

func TestReadme(t *testing.T) { plugintest.Readme(t, Kind, plugintest.Env(t)) }

func TestFaults(t *testing.T) {
	plugintest.Faults(t, Kind, plugintest.Env(t), []plugintest.Fault{
		{Name: "frames", Config: `{frame_options: ALLOW-FROM}`, Path: "frame_options", Want: `"ALLOW-FROM"`, Fix: "DENY or SAMEORIGIN"},
		{Name: "resource policy", Config: `{cross_origin_resource_policy: none}`, Path: "cross_origin_resource_policy", Want: `"none"`, Fix: "same-origin"},
		{Name: "a line end", Config: `{content_security_policy: "a\r\nset-cookie: b"}`, Path: "content_security_policy", Want: "cannot stand in a header", Fix: "ascii"},
		{Name: "a line end of one's own", Config: `{custom: {x-a: "b\nc"}}`, Path: `custom["x-a"]`, Want: "cannot stand in a header", Fix: "ascii"},
		{Name: "a name", Config: `{custom: {"x a": b}}`, Path: `custom["x a"]`, Want: "not the name of a header", Fix: "letters"},
		{Name: "framing", Config: `{custom: {Content-Length: "1"}}`, Path: `custom["Content-Length"]`, Want: "the protocol's own", Fix: "remove"},
		{Name: "status", Config: `{custom: {grpc-status: "0"}}`, Path: `custom["grpc-status"]`, Want: "the protocol's own", Fix: "remove"},
		{Name: "twice", Config: `{custom: {X-Frame-Options: DENY}}`, Path: `custom["X-Frame-Options"]`, Want: "a key of its own", Fix: "key"},
		{Name: "removal", Config: `{remove: [server, connection]}`, Path: "remove[1]", Want: "the protocol's own", Fix: "remove"},
		{Name: "age", Config: `{hsts: {max_age: -1s}}`, Path: "hsts.max_age", Want: "found -1s", Fix: "0s"},
		{Name: "preload", Config: `{hsts: {preload: true, max_age: 31536000s}}`, Path: "hsts.preload", Want: "whole domains", Fix: "include_subdomains"},
		{Name: "preload for a day", Config: `{hsts: {preload: true, include_subdomains: true, max_age: 86400s}}`, Path: "hsts.preload", Want: "a year", Fix: "31536000s"},
		{Name: "all off", Config: `{frame_options: "-", referrer_policy: "-", content_security_policy: "-", nosniff: false}`, Path: "", Want: "turned off", Fix: "remove"},
	})
}

func dressed(t testing.TB, config, scheme string, header rpc.Metadata) string {
	d, ok := plugintest.New(t, Kind, plugintest.Env(t), config).(plugin.Dresser)
	if !ok {
		t.Fatal("want a Dresser")
	}
	h := plugintest.Call("GET", "/").HTTP
	h.Scheme = scheme
	var out []string
	for _, p := range d.Dress(header, h, false) {
		out = append(out, p.Key+": "+p.Value)
	}
	return strings.Join(out, "\n")
}

func TestDress(t *testing.T) {
	const defaults = "x-frame-options: DENY\nreferrer-policy: no-referrer\ncontent-security-policy: default-src 'none'; frame-ancestors 'none'\nx-content-type-options: nosniff"
	for _, tc := range []struct {
		name, config, scheme string
		header               rpc.Metadata
		want                 string
	}{
		{"defaults", `{}`, "https", nil, defaults},
		{"what the service says", `{}`, "http", rpc.Metadata{{Key: "content-type", Value: "a/b"}, {Key: "x-frame-options", Value: "SAMEORIGIN"}, {Key: "x-frame-options", Value: "x"}}, "content-type: a/b\n" + defaults},
		{"hsts", `{hsts: {}}`, "https", nil, defaults + "\nstrict-transport-security: max-age=31536000"},
		{"hsts in full", `{hsts: {max_age: 63072000s, include_subdomains: true, preload: true}}`, "https", nil, defaults + "\nstrict-transport-security: max-age=63072000; includeSubDomains; preload"},
		{"hsts that ends", `{hsts: {max_age: 0s}}`, "https", nil, defaults + "\nstrict-transport-security: max-age=0"},
		{"hsts without TLS", `{hsts: {}}`, "http", nil, defaults},
		{
			"chosen", `{frame_options: sameorigin, referrer_policy: same-origin, content_security_policy: "-", permissions_policy: "camera=()", cross_origin_resource_policy: same-site, nosniff: false, custom: {X-B: "2", X-A: "1"}, remove: [X-Powered-By]}`, "http",
			rpc.Metadata{{Key: "x-powered-by", Value: "p"}, {Key: "a", Value: "b"}},
			"a: b\nx-frame-options: SAMEORIGIN\nreferrer-policy: same-origin\npermissions-policy: camera=()\ncross-origin-resource-policy: same-site\nx-a: 1\nx-b: 2",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, dressed(t, tc.config, tc.scheme, tc.header)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDressAllocs(t *testing.T) {
	d := plugintest.New(t, Kind, plugintest.Env(t), `{hsts: {}}`).(plugin.Dresser) //nolint:forcetypeassert // TestDress looks
	h, room := plugintest.Call("GET", "/").HTTP, make(rpc.Metadata, 0, 16)
	h.Scheme = "https"
	if n := testing.AllocsPerRun(100, func() { d.Dress(room, h, false) }); n > 0 {
		t.Errorf("want no allocation where there is room, found %v", n)
	}
}
