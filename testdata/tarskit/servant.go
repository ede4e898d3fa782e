package tarskit

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// Servant answers calls of Kit.Echo in bodies of version 1: add, hello, echoNode, reverse, transform, meta, fail, slow, note and
// noteCount. The zero Servant is ready.
type Servant struct {
	mu    sync.Mutex
	notes int
	calls []Packet
	conns map[net.Conn]struct{}
}

// Calls are the requests so far, without bodies.
func (s *Servant) Calls() []Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Notes is how often note was called.
func (s *Servant) Notes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes
}

// Serve takes connections from l until l is closed; then it closes those that are open and waits for their calls.
func (s *Servant) Serve(l net.Listener) {
	var all sync.WaitGroup
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		s.mu.Lock()
		if s.conns == nil {
			s.conns = map[net.Conn]struct{}{}
		}
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		all.Go(func() { s.serve(c) })
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	all.Wait()
}

func (s *Servant) serve(c net.Conn) {
	var writing sync.Mutex
	var calls sync.WaitGroup
	defer func() {
		calls.Wait()
		_ = c.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
	for {
		r, err := ReadRequest(c)
		if err != nil {
			return
		}
		calls.Go(func() {
			a := s.answer(r)
			if r.Type == 1 {
				return
			}
			writing.Lock()
			defer writing.Unlock()
			_, _ = c.Write(a.Answer())
		})
	}
}

func (s *Servant) answer(r *Packet) (a *Packet) {
	a = &Packet{Version: r.Version, ID: r.ID, Body: []byte{}}
	defer func() {
		if p := recover(); p != nil { // a parameter that is not what it should be
			a.Ret, a.Desc, a.Body = -1, fmt.Sprint(p), []byte{}
		}
	}()
	seen := *r
	seen.Body = nil
	s.mu.Lock()
	s.calls = append(s.calls, seen)
	s.mu.Unlock()
	if r.Function == "tars_ping" {
		return a
	}
	if r.Servant != "Kit.EchoServer.EchoObj" {
		a.Ret = -4
		return a
	}
	p, err := Read(r.Body)
	if err != nil || r.Version != 1 {
		a.Ret, a.Desc = -1, fmt.Sprint(err)
		return a
	}
	switch r.Function {
	case "add":
		a.Body = Int(nil, 0, p[1].(int64)+p[2].(int64))
	case "hello":
		a.Body = String(nil, 0, "hello "+p[1].(string))
	case "echoNode":
		_ = p[1].(Members)
		a.Body = slices.Clone(r.Body)
		a.Body[0] = typeBegin // the same with tag 0
	case "reverse":
		b := slices.Clone(p[1].([]byte))
		slices.Reverse(b)
		a.Body = Bytes(nil, 0, b)
	case "transform":
		node := p[1].(Members)
		a.Body = Int(nil, 0, 4)
		a.Body = append(a.Body, r.Body[:len(r.Body)]...)
		a.Body[len(Int(nil, 0, 4))] = 2<<4 | typeBegin
		a.Body = String(Int(a.Body, 3, 17), 4, "note of "+node[0].(string))
	case "meta":
		var list []string
		for k, v := range r.Context {
			list = append(list, p[1].(string)+k+"="+v)
		}
		slices.Sort(list)
		a.Body = Map(Map(Strings(nil, 0, list), 2, r.Context), 3, r.Status)
		a.Context, a.Status = map[string]string{"resp-ctx": p[1].(string)}, map[string]string{"resp-status": "1", "STATUS_X": "hidden"}
	case "fail":
		a.Ret, a.Desc = p[1].(int64), p[2].(string)
	case "slow":
		time.Sleep(time.Millisecond * time.Duration(p[1].(int64))) //nolint:durationcheck // a number of milliseconds
		a.Body = Int(nil, 0, p[1].(int64))
	case "note":
		s.mu.Lock()
		s.notes++
		s.mu.Unlock()
	case "noteCount":
		a.Body = Int(nil, 0, int64(s.Notes()))
	default:
		a.Ret = -3
	}
	return a
}

// Client is one connection to a servant. It is used for one call at a time.
type Client struct {
	Conn net.Conn
	id   int64
}

// Call sends a request, whose id it sets, and waits for the answer; it returns at once when none is wanted.
func (c *Client) Call(p Packet) (*Packet, error) {
	c.id++
	p.ID = c.id
	if p.Version == 0 {
		p.Version = 1
	}
	if _, err := c.Conn.Write(p.Request()); err != nil || p.Type == 1 {
		return nil, err
	}
	for {
		a, err := ReadAnswer(c.Conn)
		if err != nil || a.ID == p.ID {
			return a, err
		}
	}
}
