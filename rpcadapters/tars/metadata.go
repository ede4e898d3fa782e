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

// appendMetadata adds metadata to the context and the status of a packet, spelled as sp and then spelling have it. The names of the
// framework stay behind but for those whose bits are in framework, and so do those that are not among allowed. messageType has the
// bits of what was added.
func appendMetadata(context, status *Entries, metadata rpc.Metadata, sp rpc.Spelled, allowed names, spelling *rpcadapters.Spelling, framework int32) (messageType int32) {
	speller := sp.Speller()
	for i := range metadata {
		key, value := metadata[i].Key, metadata[i].Value
		name, text, own := key, value, false
		if len(sp) > 0 {
			name, text, own = speller.Next(&metadata[i])
		}
		if rest, ofStatus := strings.CutPrefix(key, statusPrefix); ofStatus && reservedStatus(rest) {
			if known, bit := frameworkKey(rest); bit&framework&^messageType != 0 {
				status.Add(known, text)
				messageType |= bit
			}
			continue
		}
		if !allowed.has(key) {
			continue
		}
		name = spelling.Of(key, name)
		if !own && strings.HasSuffix(key, "-bin") {
			addEntry(context, status, key, name, "", value)
		} else {
			addEntry(context, status, key, name, text, "")
		}
	}
	for i := range sp {
		if name := sp[i].Name; sp[i].As.Key == "" && allowed.has(rpc.Lower(name)) {
			addEntry(context, status, name, name, sp[i].Text, "")
		}
	}
	return messageType
}

// addEntry adds an entry to the context or the status of a packet: text, or, where that is empty, raw in base64. Names of the framework
// stay behind.
func addEntry(context, status *Entries, key, name, text, raw string) {
	into := context
	if strings.HasPrefix(key, statusPrefix) {
		into, name = status, name[len(statusPrefix):]
	}
	switch {
	case name == "" || reservedStatus(name):
	case raw != "":
		into.addBase64(name, raw)
	default:
		into.Add(name, text)
	}
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

// appendEntries appends what of the context and the status of an answer is metadata. How it stood is kept in sp where spelled says so.
func appendEntries(dst rpc.Metadata, sp rpc.Spelled, context, status *Entries, allowed names, spelled bool) (rpc.Metadata, rpc.Spelled) {
	dst, sp = appendOf(dst, sp, context, "", allowed, 0, spelled)
	return appendOf(dst, sp, status, statusPrefix, allowed, 0, spelled)
}

// appendRequest appends what of the context and the status of a request is metadata.
func appendRequest(dst rpc.Metadata, sp rpc.Spelled, context, status *Entries) (rpc.Metadata, rpc.Spelled) {
	dst, sp = appendOf(dst, sp, context, "", nil, 0, true)
	return appendOf(dst, sp, status, statusPrefix, nil, traceBit|dyedBit, true)
}

// appendOf appends entries under a prefix; framework are the bits of what of the framework is among them.
func appendOf(dst rpc.Metadata, sp rpc.Spelled, e *Entries, prefix string, allowed names, framework int32, spelled bool) (rpc.Metadata, rpc.Spelled) {
	if e.n == 0 {
		return dst, sp
	}
	for it := e.Read(); it.Next(); {
		name := string(it.Key)
		if reservedStatus(name) {
			if _, bit := frameworkKey(name); bit&framework == 0 {
				continue
			}
		}
		if prefix != "" {
			name = prefix + name
		} else if len(name) >= len(statusPrefix) && rpc.EqualFold(name[:len(statusPrefix)], statusPrefix) {
			continue
		}
		if !allowed.has(rpc.Lower(name)) {
			continue
		}
		if spelled {
			dst, sp = rpcadapters.AppendSpelled(dst, sp, name, string(it.Value))
		} else {
			dst = rpcadapters.AppendCarried(dst, name, string(it.Value))
		}
	}
	return dst, sp
}

// appendAnswer adds metadata of an answer to the context and the status of a packet.
func appendAnswer(context, status *Entries, metadata rpc.Metadata, speller *rpc.Speller, spelling *rpcadapters.Spelling) {
	for i := range metadata {
		key, value := metadata[i].Key, metadata[i].Value
		name, text, own := speller.Next(&metadata[i])
		if !rpcadapters.PassesBack(key) || key == requestID { // every answer has one already
			continue
		}
		name = spelling.Of(key, name)
		if !own && strings.HasSuffix(key, "-bin") {
			addEntry(context, status, key, name, "", value)
		} else {
			addEntry(context, status, key, name, text, "")
		}
	}
}

// requestID is what every answer has in its context.
const requestID = "x-request-id"
