package tars

import (
	"encoding/base64"
	"strings"

	"github.com/causeway-gateway/causeway/rpcadapters"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

// What metadata has of the status of a packet, beside its context.
const statusPrefix = "tars-status-"

// frameworkStatus is what the names begin with that belong to the framework: callers do not set them.
const frameworkStatus = "status_"

// reservedStatus tells the names of the framework, in every case.
func reservedStatus(key string) bool {
	return len(key) >= len(frameworkStatus) && rpc.EqualFold(key[:len(frameworkStatus)], frameworkStatus)
}

// frameworkKeys are the keys of the framework that go with a request through everything that it passes, and the bits of the
// message type that say that they are there.
var frameworkKeys = [...]struct {
	name string
	bit  int32
}{
	{"STATUS_GRID_KEY", 0x02},
	{"STATUS_DYED_KEY", dyedBit},
	{"STATUS_SETNAME_VALUE", 0x80},
	{traceKey, traceBit},
}

// The trace of SDKs, which is passed on as traceparent is, and the mark of calls that are to be logged everywhere.
const (
	traceKey = "STATUS_TRACE_KEY"
	traceBit = 0x100
	dyedBit  = 0x04
)

// frameworkKey finds a key, in any case; bit is 0 where there is none.
func frameworkKey(key string) (name string, bit int32) {
	for i := range frameworkKeys {
		if f := &frameworkKeys[i]; len(key) == len(f.name) && rpc.EqualFold(key, f.name) {
			return f.name, f.bit
		}
	}
	return "", 0
}

// appendMetadata adds metadata to the context and the status of a packet. The names of the framework stay behind but for those
// whose bits are in framework, and so do those that are not among allowed. messageType has the bits of what was added.
func appendMetadata(context, status *Entries, metadata rpc.Metadata, allowed names, framework int32) (messageType int32) {
	for i := range metadata {
		key, value := metadata[i].Key, metadata[i].Value
		into := context
		name, ofStatus := strings.CutPrefix(key, statusPrefix)
		if ofStatus && reservedStatus(name) {
			if known, bit := frameworkKey(name); bit&framework&^messageType != 0 {
				status.Add(known, value)
				messageType |= bit
			}
			continue
		}
		if !allowed.has(key) {
			continue
		}
		if ofStatus {
			into, key = status, name
		}
		switch {
		case key == "" || reservedStatus(key):
		case strings.HasSuffix(key, "-bin"):
			into.addBase64(key, value)
		default:
			into.Add(key, value)
		}
	}
	return messageType
}

// addBase64 adds an entry whose value is the base64 of value.
func (e *Entries) addBase64(key, value string) {
	e.raw = tarswire.AppendString(e.raw, 0, key)
	e.raw = tarswire.AppendStringHead(e.raw, 1, base64.RawStdEncoding.EncodedLen(len(value)))
	var in [96]byte
	for len(value) > 0 {
		n := copy(in[:], value) // a multiple of 3, so that pieces join
		e.raw = base64.RawStdEncoding.AppendEncode(e.raw, in[:n])
		value = value[n:]
	}
	e.n++
}

// appendEntries appends what of the context and the status of an answer is metadata.
func appendEntries(dst rpc.Metadata, context, status *Entries, allowed names) rpc.Metadata {
	dst = appendOf(dst, context, "", allowed, 0)
	return appendOf(dst, status, statusPrefix, allowed, 0)
}

// appendRequest appends what of the context and the status of a request is metadata.
func appendRequest(dst rpc.Metadata, context, status *Entries) rpc.Metadata {
	dst = appendOf(dst, context, "", nil, 0)
	return appendOf(dst, status, statusPrefix, nil, traceBit|dyedBit)
}

// appendOf appends entries under a prefix; framework are the bits of what of the framework is among them.
func appendOf(dst rpc.Metadata, e *Entries, prefix string, allowed names, framework int32) rpc.Metadata {
	if e.n == 0 {
		return dst
	}
	for it := e.Read(); it.Next(); {
		key := rpc.Lower(string(it.Key))
		if reservedStatus(key) {
			if _, bit := frameworkKey(key); bit&framework == 0 {
				continue
			}
		}
		if prefix == "" && strings.HasPrefix(key, statusPrefix) || !allowed.has(prefix+key) {
			continue
		}
		dst = rpcadapters.AppendCarried(dst, prefix+key, string(it.Value))
	}
	return dst
}
