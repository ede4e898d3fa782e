package rest

import (
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// form is how a stream of answers is written. Every form tells a failure in band, in a way that no answer of the service
// can look like, and none closes a stream that failed as it closes one that ended well.
type form uint8

const (
	// arrayForm is a JSON array. A failure is a last element {"@error":{...}}, after which the array stays open, so that
	// whoever reads it whole finds it cut.
	arrayForm form = iota
	// linesForm is one JSON text per line (https://jsonlines.org). A failure is a last line {"@error":{...}}.
	linesForm
	// eventsForm is server-sent events (WHATWG HTML, section 9.2): answers are events without a name; the stream ends with
	// an event "end", or "error" with the status.
	eventsForm
	// gatewayForm is grpc-gateway's: lines {"result":{...}}, and {"error":{...}} for a failure.
	gatewayForm
	// contentForm is the data of google.api.HttpBody messages, one after the other. A failure cuts the answer.
	contentForm
)

// formOf picks the form that the caller accepts: of those that are here the one it names first.
func formOf(accept string) form {
	for accept != "" {
		var one string
		one, accept, _ = strings.Cut(accept, ",")
		typ, _, _ := strings.Cut(one, ";")
		switch strings.ToLower(strings.TrimSpace(typ)) {
		case jsonType:
			return arrayForm
		case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
			return linesForm
		case "text/event-stream":
			return eventsForm
		}
	}
	return arrayForm
}

// contentType is the content type of an answer in the form.
func (f form) contentType() string {
	switch f {
	case linesForm:
		return "application/x-ndjson"
	case eventsForm:
		return "text/event-stream"
	case arrayForm, gatewayForm, contentForm:
	}
	return jsonType
}

// before and after are what stands around answer n, counted from 0.
func (f form) before(n int) string {
	switch f {
	case arrayForm:
		if n == 0 {
			return "["
		}
		return ",\n"
	case eventsForm:
		return "data: "
	case gatewayForm:
		return `{"result":`
	case linesForm, contentForm:
	}
	return ""
}

func (f form) after() string {
	switch f {
	case linesForm:
		return "\n"
	case eventsForm:
		return "\n\n"
	case gatewayForm:
		return "}\n"
	case arrayForm, contentForm:
	}
	return ""
}

// end closes a stream of n answers that ended well.
func (f form) end(n int) string {
	switch f {
	case arrayForm:
		if n == 0 {
			return "[]"
		}
		return "]"
	case eventsForm:
		return "event: end\ndata: {\"code\":0}\n\n"
	case linesForm, gatewayForm, contentForm:
	}
	return ""
}

// appendFailure writes what tells a failure after n answers; status is a google.rpc.Status in JSON.
func (f form) appendFailure(dst []byte, n int, status []byte) []byte {
	switch f {
	case arrayForm:
		dst = append(dst, f.before(n)...)
		dst = append(append(append(dst, `{"@error":`...), status...), '}')
	case linesForm:
		dst = append(append(append(dst, `{"@error":`...), status...), "}\n"...)
	case eventsForm:
		dst = append(append(append(dst, "event: error\ndata: "...), status...), "\n\n"...)
	case gatewayForm:
		dst = append(append(append(dst, `{"error":`...), status...), "}\n"...)
	case contentForm:
	}
	return dst
}

// keepAlive is what may be sent while there is nothing to say; "" where a form has nothing of the kind.
func (f form) keepAlive() string {
	if f == eventsForm {
		return ": keep-alive\n\n"
	}
	return ""
}

// appendAnswer writes answer n as the form has it.
func (c *call) appendAnswer(dst []byte, m *rpc.Message, n int) ([]byte, error) {
	dst = append(dst, c.form.before(n)...)
	var err error
	if rule := c.m.Rule; rule.ResponseBody != nil {
		dst, err = jsonwire.AppendFieldJSON(dst, m.Data, c.Method.Output, rule.ResponseBody, c.m.Options.JSON)
	} else {
		dst, err = jsonwire.AppendJSON(dst, m.Data, c.Method.Output, c.m.Options.JSON)
	}
	return append(dst, c.form.after()...), err
}
