package http1

import (
	"sync/atomic"
	"time"
)

// dates keeps the text of the present second, for the Date of answers.
type dates struct {
	text atomic.Pointer[date]
}

type date struct {
	second int64 // since 1970
	text   string
}

// dateFormat is the form of RFC 9110 section 5.6.7, of times in UTC.
const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// tick is told the time; it need not be told often.
func (d *dates) tick(now time.Time) {
	s := now.Unix()
	if old := d.text.Load(); old == nil || old.second < s {
		d.text.Store(&date{s, now.UTC().Format(dateFormat)})
	}
}

// append appends the date. start is when the request came: the present is not before it, and the sweeper has ticked since
// unless it was just now.
func (d *dates) append(b []byte, start time.Time) []byte {
	d.tick(start)
	return append(b, d.text.Load().text...)
}

// phrase is a status's reason phrase as RFC 9110 and the registry have it.
func phrase(status int) string {
	if status == 200 {
		return "OK"
	}
	return phrases[status]
}

var phrases = map[int]string{
	201: "Created", 202: "Accepted", 203: "Non-Authoritative Information", 204: "No Content", 205: "Reset Content", 206: "Partial Content",
	300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other", 304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
	400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
	406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout", 409: "Conflict", 410: "Gone", 411: "Length Required",
	412: "Precondition Failed", 413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
	417: "Expectation Failed", 418: "I'm a teapot", 421: "Misdirected Request", 422: "Unprocessable Content", 423: "Locked", 424: "Failed Dependency",
	425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
	451: "Unavailable For Legal Reasons", 499: "Client Closed Request",
	500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
	507: "Insufficient Storage", 508: "Loop Detected", 511: "Network Authentication Required",
}
