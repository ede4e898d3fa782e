package tars

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// answer is what findObjectById4Any gives: int ret, out active at the position 2, out inactive at 3.
type answer struct {
	ret              int32
	active, inactive []endpoint
	skipped          int
}

// endpoint is an EndpointF, as far as it is used.
type endpoint struct {
	host       string
	port       int64
	proto      int64 // istcp: 0 udp, 1 tcp, 2 ssl
	set        string
	weight     int64
	weightType int64 // 0: all alike, 1: weight holds
	subset     string
}

// The kinds of endpoint, and of weight.
const (
	overUDP      = 0
	overTCP      = 1
	overSSL      = 2
	staticWeight = 1
)

// parse reads the body of an answer; of one service at most that many endpoints are read.
func (a *answer) parse(body []byte, most int) error {
	in := tarswire.NewReader(body)
	seen := false
	for in.More() {
		tag, t := in.Head()
		switch {
		case in.Fault() != "":
		case tag == 0:
			a.ret, seen = int32(in.Int(t, tarswire.Int)), true //nolint:gosec // no wider type is read
		case tag == 2:
			a.active = a.list(&in, t, a.active, most)
		case tag == 3:
			a.inactive = a.list(&in, t, a.inactive, most)
		default:
			in.Skip(t)
		}
		if len(a.active)+len(a.inactive) > most {
			return fmt.Errorf("want at most %d instances, found more", most)
		}
	}
	switch {
	case in.Fault() != "":
		return errors.New("the answer: " + in.Fault())
	case !seen:
		return errors.New("the answer lacks its return value")
	case a.ret != 0:
		return fmt.Errorf("the registry says %d", a.ret)
	}
	return nil
}

// list reads a vector of endpoints and appends them.
func (a *answer) list(in *tarswire.Reader, t tarswire.Type, to []endpoint, most int) []endpoint {
	if t != tarswire.List {
		in.Skip(t) // an empty vector<byte> is no list of endpoints
		a.skipped++
		return to
	}
	for n := in.Len(t); n > 0 && in.Fault() == "" && len(to) <= most; n-- {
		_, et := in.Head()
		if et != tarswire.StructBegin {
			in.Skip(et)
			a.skipped++
			continue
		}
		to = append(to, read(in))
	}
	return to
}

// read reads the members of one, with its end.
func read(in *tarswire.Reader) endpoint {
	var e endpoint
	for in.More() {
		tag, t := in.Head()
		if t == tarswire.StructEnd {
			break
		}
		switch {
		case tag == 0 && text(t):
			e.host = string(in.Bytes(t))
		case tag == 7 && text(t):
			e.set = string(in.Bytes(t))
		case tag == 14 && text(t):
			e.subset = string(in.Bytes(t))
		case tag == 1 && number(t):
			e.port = in.Int(t, tarswire.Int)
		case tag == 3 && number(t):
			e.proto = in.Int(t, tarswire.Int)
		case tag == 11 && number(t):
			e.weight = in.Int(t, tarswire.Int)
		case tag == 12 && number(t):
			e.weightType = in.Int(t, tarswire.Int)
		default:
			in.Skip(t)
		}
	}
	return e
}

func text(t tarswire.Type) bool { return t == tarswire.String1 || t == tarswire.String4 }

func number(t tarswire.Type) bool { return t <= tarswire.Int || t == tarswire.Zero }

// defaultWeight is that of instances without one of their own.
const defaultWeight = 100

// endpoints makes the registry's endpoints of an answer, by address; what is listed as active is that.
func (a *answer) endpoints() []registry.Endpoint {
	// Weights hold where all have one: an instance without would else stand beside them with a number that nobody gave it.
	weighed := !slices.ContainsFunc(a.active, func(e endpoint) bool { return e.proto != overUDP && (e.weightType != staticWeight || e.weight < 0) })
	out := make([]registry.Endpoint, 0, len(a.active)+len(a.inactive))
	known := map[string]bool{}
	add := func(e *endpoint, status registry.Status, weight uint32) {
		if e.proto == overUDP {
			return
		}
		if e.proto != overTCP && e.proto != overSSL || e.port < 1 || e.port > 65535 || !hostname(e.host) {
			a.skipped++
			return
		}
		address := net.JoinHostPort(e.host, strconv.FormatInt(e.port, 10))
		if known[address] {
			return
		}
		known[address] = true
		ep := registry.Endpoint{ID: address, Address: address, Weight: weight, Status: status, Protocol: "tars", TLS: e.proto == overSSL}
		ep.Meta = meta(e)
		out = append(out, ep)
	}
	for i := range a.active {
		weight := uint32(defaultWeight)
		if weighed {
			weight = uint32(min(a.active[i].weight, maxWeight)) //nolint:gosec // not negative
		}
		add(&a.active[i], registry.Up, weight)
	}
	for i := range a.inactive {
		add(&a.inactive[i], registry.Down, 0)
	}
	return out
}

// maxWeight bounds what a registry may say.
const maxWeight = 10_000

// meta is what subsets go by: the set that an instance belongs to ("name.area.group"), and its subset.
func meta(e *endpoint) map[string]string {
	var m map[string]string
	for _, p := range [...][2]string{{"set", e.set}, {"subset", e.subset}} {
		if p[1] == "" || len(p[1]) > 256 || !utf8.ValidString(p[1]) {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		m[p[0]] = p[1]
	}
	return m
}

// hostname tells what may be the host of an address.
func hostname(h string) bool {
	return h != "" && len(h) <= 253 && !strings.ContainsFunc(h, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && r != ':' && r != '%' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}
