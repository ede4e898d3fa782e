package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/causeway-gateway/causeway/cmd/causeway/servant"
	tarsadapterv1 "github.com/causeway-gateway/causeway/protos/causeway/adapter/tars/v1"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/tars"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// deskIDL has what JSON callers of TARS meet: vectors in vectors, unusual keys, bytes, enums, out parameters.
const deskIDL = `module Shop
{
    enum Color { RED = 1, GREEN = 2 };

    struct Cell { 0 require int x; 1 optional long y = 9007199254740993; };

    interface Desk
    {
        vector<vector<int> > transpose(vector<vector<int> > matrix);
        int rates(string base, out map<double, string> table, out string note);
        vector<byte> digest(vector<byte> data);
        Color next(Color color);
        void locate(map<Cell, vector<string> > names, out vector<map<string, Cell> > rows, out map<bool, bool> flags);
    };
};
`

// startDesk serves Shop.Desk until the test ends, with modules below a package where one is given.
func startDesk(t *testing.T, pkg string) (address, idl string) {
	t.Helper()
	idl = t.TempDir() + "/desk.tars"
	writeFile(t, idl, []byte(deskIDL))
	set, err := source.Tars(t.Context(), []string{idl}, nil, pkg, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := set.Schema()
	if err != nil {
		t.Fatal(err)
	}
	name := "Shop.Desk"
	if pkg != "" {
		name = pkg + "." + name
	}
	type object = map[string]any
	answers := map[string]func(in object) object{
		"transpose": func(in object) object {
			rows, _ := in["matrix"].([]any)
			out := [][]any{}
			for i := range rows {
				for j, v := range rows[i].([]any) {
					if j == len(out) {
						out = append(out, nil)
					}
					out[j] = append(out[j], v)
				}
			}
			return object{"ret": out}
		},
		"rates": func(in object) object {
			return object{"ret": 2, "table": []object{{"key": 1.5, "value": in["base"]}, {"key": 0, "value": "zero"}}, "note": "two rates"}
		},
		"digest": func(in object) object { return object{"ret": in["data"]} },
		"next":   func(object) object { return object{"ret": 2} },
		"locate": func(in object) object {
			rows := []object{}
			entries, _ := in["names"].([]any)
			for _, e := range entries {
				row := object{}
				for _, name := range e.(object)["value"].([]any) {
					row[name.(string)] = e.(object)["key"]
				}
				rows = append(rows, row)
			}
			return object{"rows": rows, "flags": object{"true": false}}
		},
	}
	handlers := map[string]rpc.Handler{}
	for method, answer := range answers {
		handlers["/"+name+"/"+method] = servant.JSON(func(_ context.Context, request []byte) ([]byte, error) {
			var in object
			if err := json.Unmarshal(request, &in); err != nil {
				return nil, err
			}
			return json.Marshal(answer(in))
		})
	}
	conf := &tarsadapterv1.Listener{Servants: []*tarsadapterv1.Servant{{Name: "Shop.DeskServer.DeskObj", Service: name}}}
	server, err := servant.New(tars.Inlet{}, conf, compiled, handlers, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is stopped
	}()
	t.Cleanup(func() { server.Stop(); <-done })
	return l.Addr().String(), idl
}

func deskGateway(address, idl, pkg, routes string) string {
	return fmt.Sprintf(`listen: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
schemas: [{name: desk, tars: {paths: [%q], package: %q}}]
services: [{name: desk, schema: desk, adapter: tars, endpoints: [{address: %q}], options: {servant: Shop.DeskServer.DeskObj}}]
routes:
%s`, idl, pkg, address, routes)
}

// TestTARSJSON: callers of REST see values of TARS as its users know them.
func TestTARSJSON(t *testing.T) {
	t.Parallel()
	address, idl := startDesk(t, "")
	g := startGateway(t, deskGateway(address, idl, "", `  - {name: all, service: desk, methods: ["Shop.Desk/*"]}
  - {name: transpose, service: desk, http: {method: Shop.Desk/transpose, post: "/v1/transpose", body: matrix, response_body: ret, additional_bindings: [{get: "/v1/transpose", response_body: tars_ret}]}}
  - {name: rates, service: desk, http: {method: Shop.Desk/rates, get: "/v1/rates/{base}", response_body: table, additional_bindings: [{get: "/v1/rates/{base}/count", response_body: ret}, {get: "/v1/rates/{base}/note", response_body: note}]}}
  - {name: digest, service: desk, http: {method: Shop.Desk/digest, put: "/v1/digest", body: data, response_body: ret}}
  - {name: numbers, service: desk, hosts: [numbers.test], http: {method: Shop.Desk/digest, post: "/v1/digest", body: data}, json: {bytes_as_array: true}}
  - {name: next, service: desk, http: {method: Shop.Desk/next, get: "/v1/colors/{color}/next", response_body: ret}}
  - {name: old, service: desk, hosts: [old.test], methods: ["Shop.Desk/*"], rest: {compatibility: tars}}
`))
	const (
		byList   = `{"names":[{"key":{"x":1,"y":"5"},"value":["a","b"]},{"key":{"x":0},"value":[]}]}`
		byObject = `{"names":{"{\"x\":1,\"y\":5}":["a","b"],"{\"x\":0}":null}}`
		located  = `{"rows":[{"a":{"x":1,"y":"5"},"b":{"x":1,"y":"5"}},{}],"flags":{"true":false}}`
	)
	for _, c := range []struct {
		host, method, path, body string
		status                   int
		want                     string
	}{
		{"", "POST", "/Shop.Desk/transpose", `{"matrix":[[1,2],[3,4],[5,6]]}`, 200, `{"ret":[[1,3,5],[2,4,6]]}`},
		{"", "POST", "/Shop.Desk/transpose", `{"matrix":[]}`, 200, `{}`},
		{"", "POST", "/Shop.Desk/transpose", `{"matrix":[1]}`, 400, `matrix[0]: wanted an array of an integer`},
		{"", "POST", "/Shop.Desk/rates", `{"base":"EUR"}`, 200, `{"ret":2,"table":[{"key":1.5,"value":"EUR"},{"key":0,"value":"zero"}],"note":"two rates"}`},
		{"", "POST", "/Shop.Desk/rates", `{}`, 400, `base: is required and not given`},
		{"", "POST", "/Shop.Desk/digest", `{"data":[1,-1,255,0]}`, 200, `{"ret":"Af//AA=="}`},
		{"", "POST", "/Shop.Desk/locate", byList, 200, located},
		{"", "POST", "/Shop.Desk/locate", byObject, 200, located},
		{"", "POST", "/v1/transpose", `[[1,2],[3,4]]`, 200, `[[1,3],[2,4]]`},
		{"", "GET", "/v1/transpose?matrix=[1,2]&matrix=[3,4]", "", 200, `[[1,3],[2,4]]`},
		{"", "GET", "/v1/transpose?matrix=1,2", "", 400, `wanted JSON text for Shop.transposeRequest.MatrixItems`},
		{"", "GET", "/v1/rates/EUR", "", 200, `[{"key":1.5,"value":"EUR"},{"key":0,"value":"zero"}]`},
		{"", "GET", "/v1/rates/EUR/count", "", 200, `2`},
		{"", "GET", "/v1/rates/EUR/note", "", 200, `"two rates"`},
		{"", "PUT", "/v1/digest", `[1,2,128]`, 200, `"AQKA"`},
		{"", "PUT", "/v1/digest", `"AQKA"`, 200, `"AQKA"`},
		{"", "PUT", "/v1/digest", `[300]`, 400, `data[0]: wanted a byte, an integer from -128 to 255, found 300`},
		{"numbers.test", "POST", "/v1/digest", `"AQKA"`, 200, `{"ret":[1,2,-128]}`},
		{"", "GET", "/v1/colors/RED/next", "", 200, `"GREEN"`},
		{"", "GET", "/v1/colors/1/next", "", 200, `"GREEN"`},
		{"", "GET", "/v1/colors/BLUE/next", "", 400, `enum Shop.Color has no value`},
		{"old.test", "POST", "/Shop.Desk/transpose", `{"matrix":[[1,2]],"more":1}`, 200, `{"tars_ret":[[1],[2]]}`},
		{"old.test", "POST", "/Shop.Desk/transpose", `{"matrix":[]}`, 200, `{"tars_ret":[]}`},
		{"old.test", "POST", "/Shop.Desk/digest", `{"data":[1,-1]}`, 200, `{"tars_ret":[1,-1]}`},
		{"old.test", "POST", "/Shop.Desk/next", `{"color":1}`, 200, `{"tars_ret":2}`},
		{"old.test", "POST", "/Shop.Desk/locate", `{"names":{"{\"x\":1}":["a"]}}`, 200, `{"rows":[{"a":{"x":1,"y":9007199254740993}}],"flags":{"true":false}}`},
	} {
		var header []string
		if c.host != "" {
			header = []string{"Host", c.host}
		}
		a := g.call(c.method, c.path, c.body, header...)
		if a.status != c.status || c.status == 200 && a.body != c.want || !strings.Contains(strings.ReplaceAll(a.body, `\"`, `"`), c.want) {
			t.Errorf("%s %s %s %s: %d %s, want %d %s", c.host, c.method, c.path, c.body, a.status, a.body, c.status, c.want)
		}
	}
	// Connect and gRPC callers are generated from the exported .proto: they have the messages that stand for vectors.
	const matrix = `{"matrix":[{"items":[1,2]},{"items":[3,4]}]}`
	for _, host := range []string{"", "old.test"} {
		a := g.call("POST", "/Shop.Desk/transpose", matrix, "Content-Type", "application/json", "Connect-Protocol-Version", "1", "Host", host)
		if a.status != 200 || a.body != `{"ret":[{"items":[1,3]},{"items":[2,4]}]}` {
			t.Errorf("Connect at %q: %d %s", host, a.status, a.body)
		}
	}
	set, err := source.Tars(t.Context(), []string{idl}, nil, "", source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := set.Schema()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(strings.TrimPrefix(g.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, _ := s.Method("/Shop.Desk/transpose")
	out := dynamicpb.NewMessage(m.Output.Desc)
	if err := conn.Invoke(t.Context(), m.Name, dynamic(t, m.Input, matrix), out); err != nil {
		t.Fatal(err)
	}
	rows := out.Get(m.Output.Desc.Fields().ByName("ret")).List()
	first := rows.Get(0).Message()
	if numbers := first.Get(first.Descriptor().Fields().ByName("items")).List(); rows.Len() != 2 || numbers.Len() != 2 || numbers.Get(1).Int() != 3 {
		t.Errorf("gRPC: %v", out)
	}
}

// TestTARSPackage: with a package before the modules, paths have it, and servants are called by their own names.
func TestTARSPackage(t *testing.T) {
	t.Parallel()
	address, idl := startDesk(t, "acme.games")
	g := startGateway(t, deskGateway(address, idl, "acme.games", `  - {name: all, service: desk, methods: ["acme.games.Shop.Desk/*"]}`))
	if a := g.call("POST", "/acme.games.Shop.Desk/rates", `{"base":"EUR"}`); a.status != 200 || !strings.HasPrefix(a.body, `{"ret":2,"table":[{"key":1.5,`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.call("POST", "/Shop.Desk/rates", `{"base":"EUR"}`); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestTARSRules: a rule that would bind a vector of vectors to a part of a path is refused when the configuration is loaded.
func TestTARSRules(t *testing.T) {
	address, idl := startDesk(t, "")
	for rule, want := range map[string]string{
		`{method: Shop.Desk/transpose, get: "/v1/{matrix}"}`:                 `variable {matrix}: wanted a field that one string can set, found repeated message`,
		`{method: Shop.Desk/transpose, get: "/v1/{matrix.items}"}`:           `field "matrix" of Shop.transposeRequest is repeated message, so it has no field "items"`,
		`{method: Shop.Desk/rates, get: "/v1/{base}", response_body: notes}`: `response_body "notes": Shop.ratesResponse has no field "notes"; did you mean "note"?`,
	} {
		_, err := tryGateway(t, t.TempDir(), deskGateway(address, idl, "", "  - {name: r, service: desk, http: "+rule+"}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", rule, err, want)
		}
	}
}
