package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Where an answer is not grpc-gateway's, for several requests.
const (
	decodedSlash = "an encoded slash stays in its segment where a variable takes it, and divides the path elsewhere"
	formBody     = "a form is read as the body, too"
	emptyBody    = "no body gives no message, not an empty one"
	strictPath   = "empty segments and double encoding are refused"
)

// exampleGatewayMain is grpc-gateway's example gateway at an address of our choice, before the server at another.
const exampleGatewayMain = `package main

import (
	"context"
	"os"

	"github.com/grpc-ecosystem/grpc-gateway/v2/examples/internal/gateway"
)

func main() {
	o := gateway.Options{Addr: os.Args[1], GRPCServer: gateway.Endpoint{Network: "tcp", Addr: os.Args[2]}}
	if err := gateway.Run(context.Background(), o); err != nil {
		os.Exit(1)
	}
}
`

// startExampleGateway builds grpc-gateway's example gateway and runs it before a server until the test ends.
func startExampleGateway(t *testing.T, module, server string) (url string) {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	const at = "examples/internal/cmd/example-gateway-server"
	// A file of the module cache is replaced under another name of the folder only.
	if err := os.Symlink(module, in("module")); err != nil {
		t.Fatal(err)
	}
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(in("module"), at, "main.go"): in("main.go")}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"main.go": []byte(exampleGatewayMain), "overlay.json": replaced}
	for _, name := range []string{"go.mod", "go.sum"} {
		if files[name], err = os.ReadFile(filepath.Join(exampleFolder, name)); err != nil {
			t.Fatal(err)
		}
	}
	files["go.mod"] = append(files["go.mod"], "\nreplace "+gatewayModule+" => "+in("module")+"\n"...)
	for name, text := range files {
		if err := os.WriteFile(in(name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := in("example-gateway-server")
	goCommand(t, "build", "-modfile", in("go.mod"), "-overlay", in("overlay.json"), "-o", binary, gatewayModule+"/"+at)
	address := reserve(t)
	cmd := exec.Command(binary, address, server) //nolint:gosec,noctx // what was just built; ended below
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended by itself, which the cases have shown by then
		_ = cmd.Wait()         // killed
	})
	waitFor(t, "the example gateway listens", func() bool {
		conn, err := net.Dial("tcp", address) //nolint:noctx // on loopback
		if err != nil {
			return false
		}
		_ = conn.Close() // it was only tried
		return true
	})
	return "http://" + address
}

// peerRequest is a request to both gateways.
type peerRequest struct {
	method, path, body string
	header             []string
	differs            string // why the answers are not the same; "": they are
}

// TestExampleGateway sends the same requests to grpc-gateway itself and to a gateway with its conventions, before the
// same server. Status and JSON are the same but for the differences that are named; of errors, texts and details are not
// compared.
func TestExampleGateway(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and runs two other servers: not with -short")
	}
	module := exampleModule(t)
	relay := startRelay(t, startExampleServer(t))
	g := startGateway(t, strings.NewReplacer("MODULE", module, "UPSTREAM", relay.address, "PKG", examplePackage).Replace(exampleConfig+conventions))
	peer := startExampleGateway(t, module, relay.address)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	same, differ := 0, 0
	for _, r := range peerRequests() {
		t.Run(r.method+" "+r.path+" "+r.body, func(t *testing.T) {
			ours, theirs := g.call(r.method, r.path, r.body, r.header...), send(t, client, r.method, peer+r.path, r.body, r.header...)
			diff := cmp.Diff(comparedPart(ours), comparedPart(theirs))
			switch {
			case diff != "" && r.differs == "":
				t.Errorf("want grpc-gateway's answer (-ours +theirs):\n%s", diff)
			case diff == "" && r.differs != "":
				t.Errorf("the answers are the same, though it is said that %s", r.differs)
			case diff == "":
				same++
			default:
				differ++
			}
		})
	}
	t.Logf("%d requests answered as grpc-gateway does, %d with a difference that is named", same, differ)
}

// comparedPart is what of an answer is compared.
func comparedPart(a answer) map[string]any {
	out := map[string]any{"status": a.status}
	var body any
	if err := json.Unmarshal([]byte(a.body), &body); err != nil && a.body != "" {
		body = a.body
	}
	if m, ok := body.(map[string]any); ok && a.status != http.StatusOK {
		body = m["code"]
	}
	out["body"] = body
	return out
}

// peerRequests are requests in many forms, right and wrong.
func peerRequests() []peerRequest {
	const (
		jsonType = "application/json"
		formType = "application/x-www-form-urlencoded"
		abe      = "/v1/example/a_bit_of_everything"
	)
	ct := func(s string) []string { return []string{"Content-Type", s} }
	return []peerRequest{
		{"POST", "/v1/example/echo/a", "{}", ct(jsonType), ""},
		{"POST", "/v1/example/echo/a", "", nil, ""},
		{"POST", "/v1/example/echo/a?num=1", "junk", ct(jsonType), ""},
		{"POST", "/v1/example/echo/a?num=x", "", nil, ""},
		{"POST", "/v1/example/echo/a?nope=1", "", nil, ""},
		{"POST", "/v1/example/echo/a?num=1&num=2", "", nil, ""},
		{"POST", "/v1/example/echo/a?num=1&line_num=2", "", nil, ""},
		{"POST", "/v1/example/echo/a?id=b", "", nil, ""},
		{"POST", "/v1/example/echo/a%2Fb", "", nil, decodedSlash},
		{"POST", "/v1/example/echo/a%2fb", "", nil, decodedSlash},
		{"POST", "/v1/example/echo/a/b", "", nil, ""},
		{"POST", "/v1/example/echo/a%20b+c", "", nil, ""},
		{"POST", "/v1/example/echo/a?num", "", nil, ""},
		{"POST", "/v1/example/echo/a?num=", "", nil, ""},
		{"POST", "/v1/example/echo/a?NUM=1", "", nil, ""},
		{"POST", "/v1/example/echo/a?status.note=x", "", nil, ""},
		{"POST", "/v1/example/echo/a?status=x", "", nil, ""},
		{"POST", "/v1/example/echo/a?status.nope=x", "", nil, "a message of which nothing is given is not set"},
		{"POST", "/v1/example/echo/a?duration=1s", "", nil, ""},
		{"POST", "/v1/example/echo/a", "num=1", ct(formType), ""},
		{"POST", "/v1/example/echo/a", "num=x", ct(formType), ""},
		{"POST", "/v1/example/echo/a", "nope=1", ct(formType), ""},
		{"POST", "/v1/example/echo/a?num=2", "num=1", ct(formType), ""},
		{"GET", "/v1/example/echo/a", "", nil, ""},
		{"PUT", "/v1/example/echo/a", "", nil, ""},
		{"DELETE", "/v1/example/echo/a", "", nil, ""},
		{"GET", "/nope", "", nil, ""},
		{"GET", "/v1/example/echo/a/1/go", "", nil, ""},
		{"POST", "/v1/example/echo/a/1/go", "", ct(formType), ""},
		{"POST", "/v1/example/echo/a/1/go", "", ct(jsonType), ""},
		{"POST", "/v1/example/echo/a/1/go", "", []string{"Content-Type", formType, "X-HTTP-Method-Override", "GET"}, ""},
		{"POST", "/v1/example/echo/a", "", []string{"Content-Type", formType, "X-HTTP-Method-Override", "DELETE"}, ""},
		{"POST", "/v1/example/echo/a", "", []string{"Content-Type", formType + "; charset=utf-8", "X-HTTP-Method-Override", "GET"}, ""},
		{"HEAD", "/v1/example/echo/a/1/go", "", nil, "HEAD is answered by the rule for GET"},
		{"POST", "/v1/example/echo_body", `{"id":"a"}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"id":"a"}`, ct("text/plain"), ""},
		{"POST", "/v1/example/echo_body", `{"id":"a"}`, ct("application/xml"), ""},
		{"POST", "/v1/example/echo_body", `{"id":"a"}`, ct(formType), ""},
		{"POST", "/v1/example/echo_body", `id=a`, ct(formType), formBody},
		{"POST", "/v1/example/echo_body", `{"id":"a"} `, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"id":"a"}{}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"id":"a"`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", ``, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `null`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `[]`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"nope":1}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"id":null}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"id":1}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"num":1}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"num":"x"}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"num":1,"lineNum":2}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"id":"a","id":"b"}`, ct(jsonType), ""},
		{"POST", "/v1/example/echo_body?id=b", `{"num":"1"}`, ct(jsonType), ""},
		{"PUT", "/v1/example/echo_body/foo", `{"note":"n"}`, ct(jsonType), ""},
		{"PUT", "/v1/example/echo_body/foo?num=1", `{"note":"n"}`, ct(jsonType), ""},
		{"PUT", "/v1/example/echo_body/foo?no.note=x", `{"note":"n"}`, ct(jsonType), ""},
		{"PUT", "/v1/example/echo_body/foo", ``, ct(jsonType), emptyBody},
		{"PUT", "/v1/example/echo_body/foo", `null`, ct(jsonType), "null is no value for a message"},
		{"DELETE", "/v1/example/echo_delete?id=a", "", nil, ""},
		{"DELETE", "/v1/example/echo_delete", `{"id":"b"}`, ct(jsonType), ""},
		{"PATCH", "/v1/example/echo_patch", `{"struct_field":{"a":1}}`, ct(jsonType), ""},
		{"PATCH", "/v1/example/echo_patch", `{}`, ct(jsonType), "an empty object makes no mask, not one with an empty path"},
		{"PATCH", "/v1/example/echo_patch", ``, ct(jsonType), emptyBody},
		{"PATCH", "/v1/example/echo_patch", `{"nope":1}`, ct(jsonType), "a mask is made of the fields that are known"},
		{"PATCH", "/v1/example/echo_patch", `{"struct_field":null}`, ct(jsonType), ""},
		{"PATCH", "/v1/example/echo_patch?update_mask=struct_field", `{"value_field":1}`, ct(jsonType), ""},
		{"GET", "/v1/example/echo/nested/x?n_id.val=foo", "", nil, ""},
		{"GET", "/v1/example/echo/nested/x?nId.val=foo&nId.nId=b", "", nil, ""},
		{"GET", "/v1/example/echo_unauthorized", "", nil, ""},
		{"GET", abe + "/params/get/foo?double_value=1&double_value=2", "", nil, ""},
		{"GET", abe + "/params/get/foo?double_value=NaN", "", nil, ""},
		{"GET", abe + "/params/get/foo?double_value=x", "", nil, ""},
		{"GET", abe + "/params/get/foo?bool_value=1", "", nil, ""},
		{"GET", abe + "/params/get/foo?bool_value=T", "", nil, ""},
		{"GET", abe + "/params/get/foo?bool_value=yes", "", nil, ""},
		{"GET", abe + "/params/get/foo?int32_value=2147483648", "", nil, ""},
		{"GET", abe + "/params/get/foo?int32_value=0x10", "", nil, ""},
		{"GET", abe + "/params/get/foo?int32_value=010", "", nil, ""},
		{"GET", abe + "/params/get/foo?int32_value=1e3", "", nil, ""},
		{"GET", abe + "/params/get/foo?int32_value=%2B5", "", nil, ""},
		{"GET", abe + "/params/get/foo?enum_value=ONE", "", nil, ""},
		{"GET", abe + "/params/get/foo?enum_value=1", "", nil, ""},
		{"GET", abe + "/params/get/foo?enum_value=7", "", nil, ""},
		{"GET", abe + "/params/get/foo?enum_value=one", "", nil, ""},
		{"GET", abe + "/params/get/foo?repeated_string_value=a,b", "", nil, ""},
		{"GET", abe + "/params/get/foo?repeated_enum_value=ONE&repeated_enum_value=0", "", nil, ""},
		{"GET", abe + "/params/get/foo?timestamp_value=2020-01-01T00:00:00Z", "", nil, ""},
		{"GET", abe + "/params/get/foo?timestamp_value=x", "", nil, ""},
		{"GET", abe + "/params/get/foo?mapped_string_value[a]=b&mapped_string_value[a]=c", "", nil, ""},
		{"GET", abe + "/params/get/foo?mapped_string_value[a.b]=b", "", nil, ""},
		{"GET", abe + "/params/get/foo?mapped_string_value=b", "", nil, ""},
		{"GET", abe + "/params/get/foo?map_value[a]=ONE", "", nil, ""},
		{"GET", abe + "/params/get/foo?mapped_nested_value[a].name=x", "", nil, "a part of a map's value is refused, not ignored"},
		{"GET", abe + "/params/get/foo?mapped_nested_value[a]=x", "", nil, ""},
		{"GET", abe + "/params/get/foo?bytes_value=AA==", "", nil, ""},
		{"GET", abe + "/params/get/foo?bytes_value=_-8=", "", nil, ""},
		{"GET", abe + "/params/get/foo?bytes_value=%21", "", nil, ""},
		{"GET", abe + "/params/get/foo?oneof_empty=", "", nil, ""},
		{"GET", abe + "/params/get/foo?oneof_empty=x", "", nil, ""},
		{"GET", abe + "/params/get/foo?oneof_string=a&oneof_empty=", "", nil, ""},
		{"GET", abe + "/params/get/foo?single_nested.name=bar", "", nil, ""},
		{"GET", abe + "/params/get/foo?single_nested.amount=3", "", nil, ""},
		{"GET", abe + "/params/get/foo?single_nested=x", "", nil, ""},
		{"GET", abe + "/params/get/foo?nested.name=bar", "", nil, ""},
		{"GET", abe + "/params/get/foo?nested=x", "", nil, ""},
		{"GET", abe + "/params/get/foo?optional_string_value=", "", nil, ""},
		{"GET", abe + "/params/get/foo?a%20b=1&%zz=1", "", nil, ""},
		{"GET", abe + "/params/get/foo?a;b=1", "", nil, "a semicolon is part of a name"},
		{"GET", abe + "/params/get/foo?bool_value=true;double_value=1", "", nil, ""},
		{"GET", abe + "/params/get/foo?string_value=a+b%20c", "", nil, ""},
		{"GET", abe + "/params/get/foo?string_value=%ff", "", nil, "what is not UTF-8 is the caller's fault, not the server's"},
		{"GET", abe + "/params/get/foo?&&bool_value=true&", "", nil, ""},
		{"GET", abe + "/params/get/nested_enum/FALSE", "", nil, ""},
		{"GET", abe + "/params/get/nested_enum/2", "", nil, ""},
		{"GET", abe + "/params/get/nested_enum/nope", "", nil, ""},
		{"POST", abe + "/params/post/hw?string_value=x", `{"name":"foo"}`, ct(jsonType), ""},
		{"POST", abe + "/params/post/hw?single_nested.name=x", `{"name":"foo"}`, ct(jsonType), ""},
		{"POST", abe + "/params/post/hw", `name=foo&amount=3`, ct(formType), formBody},
		{"POST", abe + "/params/post/hw", `single_nested.name=foo`, ct(formType), formBody},
		{"POST", abe + "/params/get/foo", `bool_value=true`, ct(formType), ""},
		{"POST", abe + "/params/get/foo", `bool_value=true`, ct(formType + "; charset=utf-8"), ""},
		{"POST", abe + "/params/get/foo?bool_value=false", `bool_value=true`, ct(formType), ""},
		{"POST", abe + "/params/get/foo", `{"bool_value":true}`, ct(formType), ""},
		{"POST", abe + "/params/get/foo", `{"bool_value":true}`, ct(jsonType), ""},
		{"GET", abe + "/params/get/foo", `bool_value=true`, ct(formType), ""},
		{"GET", abe + "/params/get/foo", `{"bool_value":true}`, ct(jsonType), ""},
		{"PUT", abe + "/params/get/foo", `bool_value=true`, ct(formType), ""},
		{"GET", abe + "/echo/a", "", nil, ""},
		{"GET", abe + "/echo/a%2Fb", "", nil, decodedSlash},
		{"GET", abe + "/echo/a%252Fb", "", nil, strictPath},
		{"GET", abe + "/echo/", "", nil, strictPath},
		{"GET", abe + "/echo", "", nil, ""},
		{"GET", abe + "/echo/a/", "", nil, strictPath},
		{"GET", abe + "/echo/a:b", "", nil, ""},
		{"GET", abe + "/echo/a%3Ab", "", nil, ""},
		{"POST", "/v2/example/echo", `"hello"`, ct(jsonType), ""},
		{"POST", "/v2/example/echo", `hello`, ct(jsonType), ""},
		{"POST", "/v2/example/echo", ``, ct(jsonType), "a required field that is missing is refused"},
		{"GET", "/v2/example/echo?value=a&value=b", "", nil, ""},
		{"GET", "/responsebodies/foo", "", nil, ""},
		{"GET", "/responsestrings/empty", "", nil, ""},
		{"GET", "/responsebody/foo", "", nil, ""},
		{"GET", "/v1/example/checkStatus", "", nil, ""},
		{"POST", "/rpc/excess-body/none", "", nil, ""},
		{"OPTIONS", "/v1/example/echo/a", "", nil, ""},
		{"POST", "/v1/example/deep_path/x", `{"singleNested":{"amount":42,"name":"y"}}`, ct(jsonType), ""},
		{"POST", "/v1/example/deep_path/x", `{"singleNested":null}`, ct(jsonType), ""},
		{"POST", abe + "/x%3Acustom", `{}`, ct(jsonType), "an encoded colon begins no verb"},
		{"POST", abe + "/x:custom", `{}`, ct(jsonType), ""},
		{"POST", abe + "/x:custom:custom", `{}`, ct(jsonType), ""},
		{"POST", abe + "/x:y:custom", `{}`, ct(jsonType), ""},
		{"GET", "/v2/example/timeout", "", []string{"Grpc-Timeout", "10m"}, ""},
		{"GET", "/v2/example/timeout", "", []string{"Grpc-Timeout", "x"}, ""},
		{"POST", "/v1/example/echo_body", `{"id":"a"}`, []string{"Content-Encoding", "gzip"}, "a body that says it is packed is refused"},
		{"POST", "/v1/example/echo_body", "\xef\xbb\xbf{}", ct(jsonType), ""},
		{"POST", "/v1/example/echo_body", `{"id":"a","status":{"progress":"1"}}`, ct(jsonType), ""},
		{"PATCH", "/v2/example/a_bit_of_everything/nope", `{"string_value":"x"}`, ct(jsonType), ""},
		{"PATCH", "/v2/example/a_bit_of_everything/nope", `{"uuid":"other","string_value":"x"}`, ct(jsonType), ""},
	}
}
