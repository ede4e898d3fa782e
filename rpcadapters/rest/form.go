package rest

import (
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

// form is how a stream of answers is written. Every form tells a failure in band, and none closes a stream that failed as
// it closes one that ended well; but for grpc-gateway's, which are as its clients know them.
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
	// gatewayContentForm is the same as grpc-gateway has it: a line end behind each piece, and {"error":{...}} in the last line
	// for a failure. It is for text that is read line by line.
	gatewayContentForm
)

// content tells whether answers are the data of google.api.HttpBody messages.
func (f form) content() bool { return f == contentForm || f == gatewayContentForm }

// late tells whether the head of the answer waits for the first message: it has the content type, or the status depends on
// it.
func (f form) late() bool { return f.content() || f == gatewayForm }

// formOf picks the form that the caller accepts: of those that are here the one it names first.
func formOf(accept string) form {
	for accept != "" {
		var one string
		one, accept, _ = strings.Cut(accept, ",")
		typ, _, _ := strings.Cut(one, ";")
		switch rpc.Lower(strings.TrimSpace(typ)) {
		case jsonType:
			return arrayForm
		case "text/event-stream":
			return eventsForm
		default:
			if linesType(mediaType(typ)) {
				return linesForm
			}
		}
	}
	return arrayForm
}

// mediaType is a content type without its parameters, in lower case.
func mediaType(v string) string {
	v, _, _ = strings.Cut(v, ";")
	return rpc.Lower(strings.TrimSpace(v))
}

// linesType tells the media types by which JSON texts in lines go; none of them is registered.
func linesType(typ string) bool {
	switch typ {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
		return true
	}
	return false
}

// contentType is the content type of an answer in the form.
func (f form) contentType() string {
	switch f {
	case linesForm:
		return "application/x-ndjson"
	case eventsForm:
		return "text/event-stream"
	case arrayForm, gatewayForm, contentForm, gatewayContentForm:
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
	case linesForm, contentForm, gatewayContentForm:
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
	case gatewayContentForm:
		return "\n"
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
	case linesForm, gatewayForm, contentForm, gatewayContentForm:
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
	case gatewayForm, gatewayContentForm:
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
	dst, err := c.appendJSON(append(dst, c.form.before(n)...), m)
	return append(dst, c.form.after()...), err
}

// appendJSON writes an answer, or the field of it that the rule sends.
func (c *call) appendJSON(dst []byte, m *rpc.Message) ([]byte, error) {
	if rule := c.m.Rule; rule.ResponseBody != nil {
		return jsonwire.AppendFieldJSON(dst, m.Data, c.Method.Output, rule.ResponseBody, c.m.Options.JSON)
	}
	return jsonwire.AppendJSON(dst, m.Data, c.Method.Output, c.m.Options.JSON)
}
