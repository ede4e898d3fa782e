package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/causeway-gateway/causeway/testdata/echo"
)

// pathClient sends request lines as they stand: no client library puts paths in order.
type pathClient struct {
	t       *testing.T
	address string
	conn    net.Conn
	in      *bufio.Reader
}

// get sends one request. text is what the service received; reached is false where it received nothing.
func (c *pathClient) get(target, header string) (status int, text string, reached bool) {
	c.t.Helper()
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address) //nolint:noctx // on loopback
		if err != nil {
			c.t.Fatal(err)
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", target, header); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatalf("%q: %v", target, err)
	}
	raw, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.Close {
		c.close()
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, "", false
	}
	var m struct{ Text string }
	if err := json.Unmarshal(raw, &m); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, m.Text, true
}

func (c *pathClient) close() {
	if c.conn != nil {
		_ = c.conn.Close() // it was read to its end
		c.conn = nil
	}
}

// guardedPath is what the plugin of these tests keeps calls from.
var guardedPath = regexp.MustCompile(`(?i:^/v1/files/admin(/|$))`)

// startPaths runs a gateway with a plugin that guards a path; who says x-open passes it.
func startPaths(t *testing.T, more string) (*echo.Server, *pathClient) {
	t.Helper()
	backend := echo.Start(t, "127.0.0.1:0", "a")
	g := startGateway(t, inletsConfig(t, backend.Address, "127.0.0.1:1", "plugins: [{name: uri_blocker, config: {paths: [\"^/v1/files/admin(/|$)\"]}, when: \"request.headers['x-open'] != '1'\"}]\n"+more))
	c := &pathClient{t: t, address: strings.TrimPrefix(g.url, "http://")}
	t.Cleanup(c.close)
	return backend, c
}

// The ways that have led past path rules of others. None leads past ours: what the service receives is what was judged.
func TestPathBypasses(t *testing.T) {
	backend, c := startPaths(t, "")
	for _, tc := range []struct {
		lesson, target string
		status         int
	}{
		{"the guarded path itself", "/v1/files/admin/keys", 403},
		{"dot segments (Envoy CVE-2019-9901, Traefik CVE-2025-32431)", "/v1/files/public/../admin/keys", 400},
		{"dot segments at the end", "/v1/files/admin/keys/..", 400},
		{"one dot", "/v1/files/./admin/keys", 400},
		{"encoded dots (Traefik CVE-2025-47952)", "/v1/files/public/%2e%2e/admin/keys", 400},
		{"half encoded dots", "/v1/files/public/.%2E/admin/keys", 400},
		{"an encoded dot", "/v1/files/%2e/admin/keys", 400},
		{"dots with an encoded slash (Traefik CVE-2025-66490)", "/v1/files/public%2F..%2Fadmin/keys", 200},
		{"two slashes (Envoy CVE-2019-9901)", "/v1/files//admin/keys", 400},
		{"two slashes in front", "//v1/files/admin/keys", 400},
		{"an encoded slash for a border (APISIX CVE-2021-43557)", "/v1/files/admin%2Fkeys", 403},
		{"an encoded slash in lower case", "/v1/files/admin%2fkeys", 403},
		{"an encoded slash in front", "/v1/files/%2Fadmin/keys", 200},
		{"an encoded border of a literal", "/v1%2Ffiles/admin/keys", 404},
		{"encoded letters (APISIX CVE-2021-43557)", "/v1/files/%61dmin/keys", 403},
		{"encoded letters in capitals", "/v1/files/%41DMIN/keys", 403},
		{"encoded literals", "/v1/%66iles/admin/keys", 403},
		{"double encoding (fasthttp GO-2026-4950)", "/v1/files/%2561dmin/keys", 400},
		{"a doubly encoded slash", "/v1/files/admin%252Fkeys", 400},
		{"a doubly encoded dot", "/v1/files/%252e%252e/admin", 400},
		{"a parameter of a segment (Envoy CVE-2026-73511)", "/v1/files/admin;x=1/keys", 200},
		{"a parameter with dots", "/v1/files/public/..;/admin/keys", 200},
		{"a fragment (Traefik CVE-2023-47106)", "/v1/files/public#/../admin/keys", 400},
		{"a fragment behind", "/v1/files/admin/keys#x", 400},
		{"an encoded fragment", "/v1/files/admin%23/keys", 200},
		{"a backslash", `/v1/files\admin/keys`, 400},
		{"an encoded backslash", "/v1/files%5Cadmin/keys", 400},
		{"a NUL", "/v1/files/admin%00/keys", 400},
		{"a line end", "/v1/files/admin%0d%0a/keys", 400},
		{"case", "/v1/files/ADMIN/keys", 403},
		{"case of a literal", "/V1/files/admin/keys", 404},
		{"a slash at the end", "/v1/files/admin/", 400},
		{"a query that looks like a path", "/v1/files/public?/../admin", 400},
		{"an encoded query", "/v1/files/admin%3F/keys", 200},
		{"overlong UTF-8", "/v1/files/%c0%ae%c0%ae/admin", 400},
		{"an overlong slash", "/v1/files/admin%c0%afkeys", 400},
		{"wide letters", "/v1/files/%EF%BD%81dmin/keys", 200},
		{"%u", "/v1/files/%u0061dmin/keys", 400},
		{"an encoding cut off", "/v1/files/admin%2", 400},
		{"the whole URL", "http://x/v1/files/admin/keys", 403},
		{"the URL of another host", "http://y/v1/files/admin/keys", 400},
		{"no slash in front (grpc-go CVE-2026-33186)", "v1/files/admin/keys", 400},
		{"a tab", "/v1/files/\tadmin/keys", 400},
		{"a space", "/v1/files/ admin/keys", 400},
	} {
		before := backend.Calls.Load()
		status, text, reached := c.get(tc.target, "")
		if status != tc.status || reached != (backend.Calls.Load() > before) {
			t.Errorf("%s: %q: want %d, found %d", tc.lesson, tc.target, tc.status, status)
		}
		if reached && (guardedPath.MatchString("/v1/files/"+text) || strings.EqualFold(text, "admin")) {
			t.Errorf("%s: %q: the service received %q", tc.lesson, tc.target, text)
		}
	}
}

// For any path the plugin decides as it would of what the service receives, whatever the caller wrote.
func TestPathDecisionIsOfWhatTheServiceReceives(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{"strict": "", "as grpc-gateway": "defaults: {rest: {compatibility: COMPATIBILITY_GRPC_GATEWAY}}\n"} {
		t.Run(name, func(t *testing.T) {
			_, c := startPaths(t, more)
			pieces := []string{"admin", "admin", "ADMIN", "%61dmin", "a%64m%69n", "adm%2561n", "/", "/", "/", "%2F", "%2f", "%252f", "..", ".", "%2e", "%2E%2e", "//", ";x=1", "%00", "%5c", "%23", "%3F", "public", "keys", "%25", "%C3%A9", "%ff", "+", "%20", "~", "@", ":"}
			r := rand.New(rand.NewPCG(7, 11))
			passed, blocked, refused := 0, 0, 0
			for range 4000 {
				var b strings.Builder
				b.WriteString("/v1/files")
				if r.IntN(10) > 0 {
					b.WriteByte('/')
				}
				for range 1 + r.IntN(6) {
					b.WriteString(pieces[r.IntN(len(pieces))])
				}
				target := b.String()
				open, text, _ := c.get(target, "X-Open: 1\r\n")
				status, got, reached := c.get(target, "")
				if open != http.StatusOK {
					if reached || status != open && status != http.StatusForbidden {
						t.Errorf("%q: %d with the plugin, %d without", target, status, open)
					}
					refused++
					continue
				}
				whole, err := url.PathUnescape(text) // a service may take what stayed encoded for what it means
				if err != nil {
					whole = text
				}
				judged := guardedPath.MatchString("/v1/files/"+text) || guardedPath.MatchString("/v1/files/"+whole)
				switch {
				case judged != (status == http.StatusForbidden), reached && got != text:
					t.Errorf("%q: status %d, the service received %q, without the plugin %q", target, status, got, text)
				case judged:
					blocked++
				default:
					passed++
				}
			}
			t.Logf("%d passed, %d blocked, %d refused by the edge", passed, blocked, refused)
			if passed < 100 || blocked < 100 || refused < 100 {
				t.Errorf("want each of the three often: %d passed, %d blocked, %d refused", passed, blocked, refused)
			}
		})
	}
}
