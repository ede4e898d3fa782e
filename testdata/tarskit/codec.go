// Package tarskit is a TARS servant and client for tests: part of Kit.Echo (testdata/tars/Kit.tars), with a codec of its own,
// so that what the gateway writes is read by somebody else.
package tarskit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// Packet is a request or an answer; which members count depends on that.
type Packet struct {
	Version, Type, MessageType, ID, Ret, Timeout int64
	Servant, Function, Desc                      string
	Body                                         []byte
	Context, Status                              map[string]string
}

// The types of values.
const (
	typeByte = iota
	typeShort
	typeInt
	typeLong
	typeFloat
	typeDouble
	typeString1
	typeString4
	typeMap
	typeList
	typeBegin
	typeEnd
	typeZero
	typeSimple
)

func head(dst []byte, tag, typ int) []byte {
	if tag < 15 {
		return append(dst, byte(tag<<4|typ))
	}
	return append(dst, byte(0xf0|typ), byte(tag))
}

// Int appends an integer.
func Int(dst []byte, tag int, v int64) []byte {
	switch {
	case v == 0:
		return head(dst, tag, typeZero)
	case v == int64(int8(v)):
		return append(head(dst, tag, typeByte), byte(v))
	case v == int64(int16(v)):
		return binary.BigEndian.AppendUint16(head(dst, tag, typeShort), uint16(v))
	case v == int64(int32(v)):
		return binary.BigEndian.AppendUint32(head(dst, tag, typeInt), uint32(v))
	}
	return binary.BigEndian.AppendUint64(head(dst, tag, typeLong), uint64(v))
}

// String appends a string.
func String(dst []byte, tag int, s string) []byte {
	if len(s) < 256 {
		return append(append(head(dst, tag, typeString1), byte(len(s))), s...)
	}
	return append(binary.BigEndian.AppendUint32(head(dst, tag, typeString4), uint32(len(s))), s...)
}

// Bytes appends a vector<byte>.
func Bytes(dst []byte, tag int, b []byte) []byte {
	return append(Int(append(head(dst, tag, typeSimple), 0), 0, int64(len(b))), b...)
}

// Map appends a map<string, string>, by key.
func Map(dst []byte, tag int, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	dst = Int(head(dst, tag, typeMap), 0, int64(len(m)))
	for _, k := range keys {
		dst = String(String(dst, 0, k), 1, m[k])
	}
	return dst
}

// Strings appends a vector<string>.
func Strings(dst []byte, tag int, list []string) []byte {
	dst = Int(head(dst, tag, typeList), 0, int64(len(list)))
	for _, s := range list {
		dst = String(dst, 0, s)
	}
	return dst
}

// Value is a value that was read: int64, string, []byte, map[string]string where it is that, []any, or Members.
type Value any

// Members are the members of a struct, or the parameters of a function, by tag.
type Members map[int]Value

var errCut = errors.New("the data ends in the middle of a value")

// Read reads the members that a body holds.
func Read(b []byte) (m Members, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errCut
		}
	}()
	m = Members{}
	for len(b) > 0 {
		var tag int
		var v Value
		if tag, v, b, err = read(b); err != nil {
			return nil, err
		}
		m[tag] = v
	}
	return m, nil
}

type end struct{}

func read(b []byte) (tag int, v Value, rest []byte, err error) {
	tag, typ := int(b[0]>>4), b[0]&15
	if b = b[1:]; tag == 15 {
		tag, b = int(b[0]), b[1:]
	}
	switch typ {
	case typeByte:
		return tag, int64(int8(b[0])), b[1:], nil
	case typeShort:
		return tag, int64(int16(binary.BigEndian.Uint16(b))), b[2:], nil
	case typeInt:
		return tag, int64(int32(binary.BigEndian.Uint32(b))), b[4:], nil
	case typeLong:
		return tag, int64(binary.BigEndian.Uint64(b)), b[8:], nil
	case typeFloat:
		return tag, b[:4], b[4:], nil
	case typeDouble:
		return tag, b[:8], b[8:], nil
	case typeString1:
		return tag, string(b[1 : 1+int(b[0])]), b[1+int(b[0]):], nil
	case typeString4:
		n := int(binary.BigEndian.Uint32(b))
		return tag, string(b[4 : 4+n]), b[4+n:], nil
	case typeZero:
		return tag, int64(0), b, nil
	case typeEnd:
		return tag, end{}, b, nil
	case typeSimple:
		_, n, b, err := read(b[1:])
		if err != nil {
			return 0, nil, nil, err
		}
		return tag, b[:n.(int64):n.(int64)], b[n.(int64):], nil
	case typeBegin:
		m := Members{}
		for {
			var at int
			var v Value
			if at, v, b, err = read(b); err != nil {
				return 0, nil, nil, err
			}
			if _, over := v.(end); over {
				return tag, m, b, nil
			}
			m[at] = v
		}
	case typeList, typeMap:
		_, n, b, err := read(b)
		if err != nil {
			return 0, nil, nil, err
		}
		count := n.(int64)
		if typ == typeMap {
			count *= 2
		}
		var list []any
		for range count {
			var v Value
			if _, v, b, err = read(b); err != nil {
				return 0, nil, nil, err
			}
			list = append(list, v)
		}
		if typ == typeList {
			return tag, list, b, nil
		}
		m := map[string]string{}
		for i := 0; i < len(list); i += 2 {
			k, isKey := list[i].(string)
			v, isValue := list[i+1].(string)
			if !isKey || !isValue {
				return tag, list, b, nil
			}
			m[k] = v
		}
		return tag, m, b, nil
	}
	return 0, nil, nil, fmt.Errorf("type %d", typ)
}

func framed(p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(p)+4)), p...)
}

// readFrame reads a frame and gives what follows its length.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > 100<<20 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	b := make([]byte, n-4)
	_, err := io.ReadFull(r, b)
	return b, err
}

// Request is the frame of a request.
func (p *Packet) Request() []byte {
	b := Int(Int(Int(Int(nil, 1, p.Version), 2, p.Type), 3, p.MessageType), 4, p.ID)
	b = Int(Bytes(String(String(b, 5, p.Servant), 6, p.Function), 7, p.Body), 8, p.Timeout)
	return framed(Map(Map(b, 9, p.Context), 10, p.Status))
}

// Answer is the frame of an answer.
func (p *Packet) Answer() []byte {
	if p.Version == 3 {
		q := *p
		q.Status = map[string]string{"STATUS_RESULT_CODE": strconv.FormatInt(p.Ret, 10), "STATUS_RESULT_DESC": p.Desc}
		return q.Request()
	}
	b := Int(Int(Int(Int(Int(nil, 1, p.Version), 2, p.Type), 3, p.ID), 4, p.MessageType), 5, p.Ret)
	b = Map(Bytes(b, 6, p.Body), 7, p.Status)
	if p.Desc != "" {
		b = String(b, 8, p.Desc)
	}
	if len(p.Context) > 0 {
		b = Map(b, 9, p.Context)
	}
	return framed(b)
}

// ReadRequest reads a request.
func ReadRequest(r io.Reader) (*Packet, error) {
	b, err := readFrame(r)
	if err != nil {
		return nil, err
	}
	m, err := Read(b)
	if err != nil {
		return nil, err
	}
	p := &Packet{}
	ok := m.set(1, &p.Version) && m.set(2, &p.Type) && m.set(3, &p.MessageType) && m.set(4, &p.ID) && m.set(5, &p.Servant) &&
		m.set(6, &p.Function) && m.set(7, &p.Body) && m.set(8, &p.Timeout) && m.set(9, &p.Context) && m.set(10, &p.Status)
	if !ok {
		return nil, fmt.Errorf("a request without all members: %v", m)
	}
	return p, nil
}

// ReadAnswer reads an answer to a request of version 1 or 5.
func ReadAnswer(r io.Reader) (*Packet, error) {
	b, err := readFrame(r)
	if err != nil {
		return nil, err
	}
	m, err := Read(b)
	if err != nil {
		return nil, err
	}
	p := &Packet{}
	if !(m.set(1, &p.Version) && m.set(2, &p.Type) && m.set(3, &p.ID) && m.set(4, &p.MessageType) && m.set(5, &p.Ret) && m.set(6, &p.Body) && m.set(7, &p.Status)) {
		return nil, fmt.Errorf("an answer without all members: %v", m)
	}
	m.set(8, &p.Desc)
	m.set(9, &p.Context)
	return p, nil
}

func (m Members) set(tag int, to any) bool {
	switch to := to.(type) {
	case *int64:
		v, ok := m[tag].(int64)
		*to = v
		return ok
	case *string:
		v, ok := m[tag].(string)
		*to = v
		return ok
	case *[]byte:
		v, ok := m[tag].([]byte)
		*to = v
		return ok
	case *map[string]string:
		v, ok := m[tag].(map[string]string)
		*to = v
		return ok
	}
	return false
}
