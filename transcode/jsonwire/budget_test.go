package jsonwire_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// TestAllocBudget holds every call to no allocation at all once its buffers have grown.
func TestAllocBudget(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := theWorld(t)
	request := w.message(t, "test.three.Request")
	type call struct {
		name string
		run  func(dst []byte) ([]byte, error)
	}
	var calls []call
	cases := benchCases(t, request)
	for _, c := range cases {
		in, mirrored := []byte(c.json), backwards(c.wire)
		calls = append(calls,
			call{c.name + " to wire", func(dst []byte) ([]byte, error) { return jsonwire.AppendWire(dst, in, request, nil) }},
			call{c.name + " to JSON", func(dst []byte) ([]byte, error) { return jsonwire.AppendJSON(dst, c.wire, request, nil) }},
			call{c.name + " backwards", func(dst []byte) ([]byte, error) { return jsonwire.AppendJSON(dst, mirrored, request, nil) }})
	}
	full := &jsonwire.Options{EmitUnpopulated: true}
	for root, text := range map[string]string{
		"test.three.Known": `{"any":{"name":"n","@type":"type.googleapis.com/test.three.Tree"},"time":"2024-02-29T23:59:59.5Z","duration":"-1.5s",` +
			`"mask":"fooBar,a","struct":{"a":null,"b":[1,"x",{"c":true}]},"wInt64":"5","wBytes":"YQ=="}`,
		"test.three.Maps":    `{"mInt32":{"3":"a","-5":"b"},"mBool":{"true":"RED"},"mTree":{"b":{},"a":{"name":"n"}}}`,
		"test.three.Scalars": `{"fString":"a\u00e9\n\"","fDouble":"1.5","fInt32":1e2,"rDouble":[0.1,"NaN"],"rString":["ünï","日本"],"fBytes":"-_8="}`,
		"test.two.Two":       `{"mygroup":{"deeper":{"farInside":1}},"needies":[{"id":1,"name":"n"}],"[test.two.ext_number]":5}`,
	} {
		m := w.message(t, root)
		in := []byte(text)
		wire, err := jsonwire.AppendWire(nil, in, m, nil)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls,
			call{root + " to wire", func(dst []byte) ([]byte, error) { return jsonwire.AppendWire(dst, in, m, nil) }},
			call{root + " to JSON", func(dst []byte) ([]byte, error) { return jsonwire.AppendJSON(dst, wire, m, full) }})
	}
	name, err := request.Path("name")
	if err != nil {
		t.Fatal(err)
	}
	city, err := request.Path("address.city")
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(requestJSON)
	params := make([]jsonwire.Param, 0, 8)
	calls = append(calls, call{"path and query", func(dst []byte) ([]byte, error) {
		params = append(params[:0], jsonwire.Param{Field: name, Value: "orders/1"}, jsonwire.Param{Field: city, Value: "Lisbon"})
		var err error
		if params, err = jsonwire.AppendQuery(params, request, "total=50&tags=a&tags=b&created=2024-01-01T00:00:00Z", nil, nil); err != nil {
			return dst, err
		}
		return jsonwire.AppendRequest(dst, &jsonwire.Request{Message: request, Params: params}, nil)
	}}, call{"body, path and query", func(dst []byte) ([]byte, error) {
		params = append(params[:0], jsonwire.Param{Field: name, Value: "orders/1"})
		var err error
		if params, err = jsonwire.AppendQuery(params, request, "color=RED", nil, nil); err != nil {
			return dst, err
		}
		return jsonwire.AppendRequest(dst, &jsonwire.Request{Message: request, Body: body, Params: params, Override: true}, nil)
	}}, call{"one field", func(dst []byte) ([]byte, error) {
		return jsonwire.AppendFieldJSON(dst, cases[0].wire, request, name, nil)
	}})
	for _, c := range calls {
		dst := make([]byte, 0, 64<<10)
		if _, err := c.run(dst); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		n := testing.AllocsPerRun(50, func() {
			if _, err := c.run(dst); err != nil {
				t.Error(err)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations, 0 are allowed", c.name, n)
		}
	}
}

// backwards is the wire form with its fields in the other order.
func backwards(wire []byte) []byte {
	fields := split(wire)
	slices.Reverse(fields)
	return bytes.Join(fields, nil)
}
