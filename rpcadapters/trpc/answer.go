package trpc

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// outcome is the end of a call as it is told to a client of tRPC.
type outcome struct {
	ret     int32 // the framework's code
	funcRet int32 // the application's
	message string
}

// maxText is the most bytes of an error's text that are told.
const maxText = 8 << 10

// outcomeOf is what becomes of an error: an answer of the method is the application's, with the code that the upstream's own
// protocol has for it; all else is the framework's, and so is what servers of gRPC say of themselves.
func outcomeOf(e *rpc.Error) outcome {
	if e == nil {
		return outcome{}
	}
	o := outcome{message: clipped(e.Message)}
	if e.Class == rpc.Business {
		if o.ret = statusRet(e); o.ret == retOK {
			if o.funcRet = e.Native; o.funcRet == 0 {
				o.funcRet = int32(e.Code) //nolint:gosec // a small number
			}
		}
		return o
	}
	o.ret = retOf(e)
	return o
}

// statusRet is the framework's code of a status by which servers of gRPC speak of themselves: SDKs count time-outs, and know of
// methods that are not there. 0: it is the application's.
func statusRet(e *rpc.Error) int32 {
	if e.Native != 0 && e.Native != int32(e.Code) || e.Header.Has(funcRetHeader) || e.Header.Has("tars-ret") { //nolint:gosec // a small number
		return retOK // a number of TARS or tRPC
	}
	switch e.Code {
	case codes.DeadlineExceeded:
		return retTimeout
	case codes.Unimplemented:
		return retNoFunc
	}
	return retOK
}

// clipped is as much of a text as is told, in UTF-8.
func clipped(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		s = s[:max(len(s)-1, 0)] // what it began may be cut
	}
	if !utf8.ValidString(s) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}

// retOf is the framework's code of an error that is not the application's.
func retOf(e *rpc.Error) int32 {
	if _, ok := verdictOf(e.Native); ok {
		return e.Native // a tRPC upstream said so
	}
	switch e.Reason {
	case "METHOD_NOT_FOUND", "ROUTE_NOT_FOUND":
		return retNoFunc
	case "INVALID_REQUEST", "MALFORMED_MESSAGE", "MESSAGE_TOO_LARGE", "INVALID_MESSAGE", "UNSUPPORTED_ENCODING":
		return retDecode
	case "INVALID_ANSWER":
		return retEncode
	case "UPSTREAM_UNREACHABLE":
		return retClientConnect
	case "UPSTREAM_RESET":
		return retClientNetwork
	case "UPSTREAM_MALFORMED":
		return retClientDecode
	}
	switch e.Code {
	case codes.Canceled:
		return retClientCanceled
	case codes.InvalidArgument, codes.OutOfRange, codes.FailedPrecondition:
		return retValidation
	case codes.DeadlineExceeded:
		return retTimeout
	case codes.PermissionDenied, codes.Unauthenticated:
		return retAuth
	case codes.ResourceExhausted:
		return retThrottled
	case codes.Unimplemented:
		return retNoFunc
	case codes.Unavailable:
		if !e.Executed {
			return retClientRoute
		}
		return retOverload
	case codes.Internal, codes.DataLoss:
		return retSystem
	}
	return retUnknown
}

// maxInfo bounds the trans_info of an answer, so that its header has room for it.
const maxInfo = 48 << 10

// infoWriter appends trans_info of an answer, as much as there is room for.
type infoWriter struct {
	dst   []byte
	start int
	field protowire.Number
	names names // those that pass; nil: all

	speller  rpc.Speller
	spelling *rpcadapters.Spelling
}

// metadata appends what of metadata is not the framework's.
func (w *infoWriter) metadata(md rpc.Metadata) {
	for i := range md {
		key := md[i].Key
		name, value := asStood(&w.speller, &md[i])
		if !w.passes(key) {
			continue
		}
		w.pair(w.spelling.Of(key, name), value)
	}
}

func (w *infoWriter) passes(key string) bool {
	return rpcadapters.PassesBack(key) && !strings.HasPrefix(key, frameworkPrefix) && (w.names == nil || w.names.has(key))
}

func (w *infoWriter) pair(key, value string) {
	if len(w.dst)-w.start+len(key)+len(value) < maxInfo {
		w.dst = appendEntry(w.dst, w.field, key, value)
	}
}

// answered tells whether an answer has metadata of a name.
func answered(r *rpc.Reply, key string) bool { return r.Header.Has(key) || r.Trailer.Has(key) }

// appendReply appends the trans_info of an answer: its metadata, and the request's where that is sent back.
func (n *inlet) appendReply(dst []byte, field protowire.Number, c *rpc.Call, e *rpc.Error, echo *transInfo) []byte {
	w := infoWriter{dst: dst, start: len(dst), field: field, names: n.response, speller: c.Reply.Spelled.Speller(), spelling: n.spelling}
	if n.echo {
		for it := echo.entries(); it.next(); {
			if name := string(it.key); !answered(&c.Reply, rpc.Lower(name)) {
				w.pair(name, string(it.value))
			}
		}
	}
	w.metadata(c.Reply.Header)
	w.metadata(c.Reply.Trailer)
	for i := range c.Reply.Spelled {
		if s := &c.Reply.Spelled[i]; s.As.Key == "" && utf8.ValidString(s.Name) && w.passes(rpc.Lower(s.Name)) {
			w.pair(s.Name, s.Text)
		}
	}
	if e != nil {
		w.metadata(e.Header)
	}
	if c.ID != "" && !c.Reply.Header.Has("x-request-id") && (w.names == nil || w.names.has("x-request-id")) {
		w.pair(n.spelling.Of("x-request-id", "x-request-id"), c.ID)
	}
	return w.dst
}
