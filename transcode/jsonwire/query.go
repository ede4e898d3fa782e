package jsonwire

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

// AppendQuery appends to dst the parameters of a raw query string (application/x-www-form-urlencoded, pairs divided by &
// alone), each resolved to a field of m: by JSON or declared name, with dots between a message and its field. Values are
// substrings of query where nothing is encoded in them. It allocates for encoded values and dotted names only.
//
// Refused, with an *Error, are names that m does not have unless o says to ignore them, percent-encoding that is none, and
// text that is not UTF-8. dst is then returned as it was. o may be nil.
func AppendQuery(dst []Param, m *schema.Message, query string, o *Options) ([]Param, error) {
	maxDepth, maxElements := o.limits()
	out := dst
	for len(query) > 0 {
		pair, rest, _ := strings.Cut(query, "&")
		query = rest
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := decoded(name)
		if err != nil {
			return dst, err
		}
		var path schema.Path
		if f := m.ByNameString(name); f != nil {
			path = f.Self
		} else if path, err = resolve(m, name, maxDepth); err != nil {
			if o != nil && o.IgnoreUnknown {
				if _, err := decoded(value); err != nil {
					return dst, err
				}
				continue
			}
			return dst, err
		}
		if value, err = decoded(value); err != nil {
			return dst, err
		}
		if len(out)-len(dst) >= maxElements {
			return dst, &Error{Message: fmt.Sprintf("wanted at most %d parameters in the query, found more", maxElements)}
		}
		out = append(out, Param{Field: path, Value: value, From: FromQuery})
	}
	return out, nil
}

// resolve finds the path of a dotted name.
func resolve(m *schema.Message, name string, maxDepth int) (schema.Path, error) {
	shown := string(validPrefix([]byte(name), 128))
	if strings.Count(name, ".") >= maxDepth {
		return nil, &Error{Path: shown, Message: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	path, err := m.Path(name)
	if err != nil {
		const longest = 400 // the error repeats the name, which may be as long as the caller likes
		why := err.Error()
		if len(why) > longest {
			why = string(validPrefix([]byte(why), longest)) + "..."
		}
		return nil, &Error{Path: shown, Message: "a parameter of the query names no field: " + why}
	}
	return path, nil
}

// decoded resolves percent-encoding and plus signs.
func decoded(s string) (string, error) {
	if strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '+') >= 0 {
		d, err := url.QueryUnescape(s)
		if err != nil {
			return "", &Error{Message: fmt.Sprintf("wanted percent-encoding in the query, found %q", shortQuery(s))}
		}
		s = d
	}
	if !utf8.ValidString(s) {
		return "", &Error{Message: fmt.Sprintf("wanted UTF-8 in the query, found %q", shortQuery(s))}
	}
	return s, nil
}

func shortQuery(s string) string {
	const longest = 64
	if len(s) > longest {
		return s[:longest] + "..."
	}
	return s
}
