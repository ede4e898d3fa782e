// Package jframe is a protocol of length-framed JSON, both ways: an adapter that calls services over it, and an inlet whose
// clients speak it. A frame is the length of what follows in 4 bytes, big endian, and one JSON object that begins with the
// number of the call:
//
//	{"id":7,"method":"acme.v1.Orders/Get","timeout":2000,"header":{"tenant":"a"},"body":{"name":"x"}}
//	{"id":7,"header":{"etag":"1"},"body":{"name":"x","price":5}}
//	{"id":7,"error":{"code":5,"message":"no such order"}}
//
// Timeout is in milliseconds. Codes are those of gRPC; an error with "retry" says that the call has not begun.
package jframe

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/rpcadapters/wire/framed"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

const name = "jframe"

// headSize is the bytes of a frame's length.
const headSize = 4

// framing says where frames end and whose they are. It has no state.
type framing struct{}

func (framing) Head() int { return headSize }

func (framing) Length(head []byte) (int, error) {
	n := binary.BigEndian.Uint32(head)
	if n > 1<<30 {
		return 0, fmt.Errorf("want the length of a frame, found %d", n)
	}
	return headSize + int(n), nil
}

func (framing) Label(frame []byte) (framed.Label, error) {
	rest, ok := bytes.CutPrefix(frame[headSize:], []byte(`{"id":`))
	end := bytes.IndexAny(rest, ",}")
	if !ok || end < 0 {
		return framed.Label{}, errors.New(`want a frame that begins with {"id":`)
	}
	id, err := strconv.ParseUint(string(rest[:end]), 10, 32)
	return framed.Label{ID: uint32(id)}, err
}

// request and answer are what frames hold behind the id.
type request struct {
	Method  string            `json:"method"`
	Timeout int64             `json:"timeout,omitempty"`
	Header  map[string]string `json:"header,omitempty"`
	Body    json.RawMessage   `json:"body"`
}

type answer struct {
	Header map[string]string `json:"header,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"`
	Error  *failure          `json:"error,omitempty"`
}

type failure struct {
	Code    uint32 `json:"code"`
	Message string `json:"message"`
	Retry   bool   `json:"retry,omitempty"`
}

// text is the JSON of a request or an answer, and a framed.Frame.
type text []byte

// AppendFrame is called once the connection has given the call its number, with the connection's lock held.
func (t text) AppendFrame(dst []byte, id uint32) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = strconv.AppendUint(append(dst, `{"id":`...), uint64(id), 10)
	dst = append(append(dst, ','), t[1:]...) // behind the {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-headSize))
	return dst
}

// form is the JSON form of messages.
var form = rpcadapters.JSONForm{Options: &jsonwire.Options{}}

// object is metadata as frames have it: the first of each name.
func object(m rpc.Metadata) map[string]string {
	out := make(map[string]string, len(m))
	for _, p := range m {
		if _, there := out[p.Key]; !there {
			out[p.Key] = p.Value
		}
	}
	return out
}

// appendHeader appends what of a frame's header is metadata.
func appendHeader(dst rpc.Metadata, header map[string]string) rpc.Metadata {
	for key, value := range header {
		dst = rpcadapters.AppendCarried(dst, key, value)
	}
	return dst
}
