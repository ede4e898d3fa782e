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
	return len(key) >= len(frameworkStatus) && strings.EqualFold(key[:len(frameworkStatus)], frameworkStatus)
}

// appendMetadata adds metadata to the context and the status of a packet. The names of the framework stay behind, and those
// that are not among allowed.
func appendMetadata(context, status *Entries, metadata rpc.Metadata, allowed names) {
	for i := range metadata {
		key, value := metadata[i].Key, metadata[i].Value
		into := context
		if !allowed.has(key) {
			continue
		}
		if name, ok := strings.CutPrefix(key, statusPrefix); ok {
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

// appendEntries appends what of the context and the status of a packet is metadata.
func appendEntries(dst rpc.Metadata, context, status *Entries, allowed names) rpc.Metadata {
	dst = appendOf(dst, context, "", allowed)
	return appendOf(dst, status, statusPrefix, allowed)
}

func appendOf(dst rpc.Metadata, e *Entries, prefix string, allowed names) rpc.Metadata {
	if e.n == 0 {
		return dst
	}
	for it := e.Read(); it.Next(); {
		key := strings.ToLower(string(it.Key))
		if reservedStatus(key) || prefix == "" && strings.HasPrefix(key, statusPrefix) || !allowed.has(prefix+key) {
			continue
		}
		dst = rpcadapters.AppendCarried(dst, prefix+key, string(it.Value))
	}
	return dst
}
