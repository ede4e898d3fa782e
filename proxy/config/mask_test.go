package config

import (
	"strings"
	"testing"

	corsv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/cors/v1"
	csrfv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/csrf/v1"
	keyauthv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/keyauth/v1"
)

// A fault shows the lines where it is, and of these no secret: not its own, not that of a neighbour, in no form that it can be
// written in, also where the document cannot be read.
func TestNoSecretIsShown(t *testing.T) {
	types := Types{
		Plugins: Messages{
			"csrf": (*csrfv1.CSRF)(nil).ProtoReflect().Descriptor(), "cors": (*corsv1.CORS)(nil).ProtoReflect().Descriptor(),
			"key_auth": (*keyauthv1.KeyAuth)(nil).ProtoReflect().Descriptor(),
		},
		Credentials: Messages{"key_auth": (*keyauthv1.Credential)(nil).ProtoReflect().Descriptor()},
	}
	const secret, other = "Canary-1-0123456789", "Canary-2-0123456789"
	for _, text := range []string{
		`stores: [{name: s, redis: {addresses: ["x"], password: ` + secret + `}}]`,
		`stores: [{name: s, redis: {password: ` + secret + `, nope: 1}}]`,
		`stores: [{name: s, redis: {password: "` + secret + `"`,
		`telemetry: {otlp: {endpoint: x, headers: {x-any: ` + secret + `, authorization: "Bearer ` + other + `"}}}`,
		`telemetry: {otlp: {nope: 1, headers: {authorization: "Bearer ` + secret + `"`,
		`consumers: [{name: "a b", credentials: [{plugin: key_auth, config: {key: ` + secret + `}}]}]`,
		`consumers: [{name: a, credentials: [{plugin: key_auth, config: {key: ` + secret + `, nope: 1}}]}]`,
		`plugins: [{name: csrf, config: {token: {secrets: [` + secret + `, ` + other + `], nope: 1}}}]`,
		`plugins: [{name: csrf, config: {token: {secrets: {` + secret + `, ` + other + `]}}}]`,
		`plugins: [{name: csrf, config: {token: {secrets: [` + secret + `, "` + other,
		"plugins:\n  - name: csrf\n    config:\n      token:\n        secrets:\n          - " + secret + "\n          - " + other + "\n          nope: [",
		"plugins:\n  - name: csrf\n    config:\n      token:\n        secrets:\n          - " + secret + "\n          - " + other + "\n        nope: 1",
		`plugins: [{name: cors, config: {origins: [` + `x], nope: 1}}, {name: csrf, config: {token: {secrets: [` + secret + `]}}}]`,
	} {
		_, err := Parse("causeway.yaml", []byte("listen: [{address: \":1\"}]\n"+text+"\n"), types)
		if err == nil {
			t.Errorf("%s: want a fault", text)
			continue
		}
		if said := err.Error(); strings.Contains(said, secret) || strings.Contains(said, other) || !strings.Contains(said, "causeway.yaml:") {
			t.Errorf("%s\nshows a secret: %s", text, said)
		}
	}
}
