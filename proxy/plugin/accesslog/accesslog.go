// Package accesslog is the plugin access_log: one JSON line per call, written when the last byte of its answer went out.
package accesslog

import (
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	accesslogv1 "github.com/causeway-gateway/causeway/protos/causeway/plugin/accesslog/v1"
	"github.com/causeway-gateway/causeway/proxy/plugin"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// Kind is the plugin as the list of plugins has it.
var Kind = plugin.Kind{
	Name:   "access_log",
	Config: func() proto.Message { return new(accesslogv1.AccessLog) },
	New:    newPlugin,
}

// accessLog writes a call's line in Done. It does nothing on the way in: its Wrap returns next itself.
type accessLog struct {
	out io.WriteCloser
}

var (
	_ rpc.Finisher = (*accessLog)(nil)
	_ io.Closer    = (*accessLog)(nil)
)

func newPlugin(config proto.Message, env plugin.Env) (plugin.Plugin, error) {
	conf, ok := config.(*accesslogv1.AccessLog)
	if !ok {
		return nil, fmt.Errorf("want a configuration of type %T, found %T", conf, config)
	}
	output := conf.GetOutput()
	if output == "" {
		output = "stdout"
	}
	out, err := env.Open(output)
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	return &accessLog{out: out}, nil
}

// Wrap returns next: the plugin has nothing to do before a call's end.
func (l *accessLog) Wrap(next rpc.Handler) rpc.Handler { return next }

// Done writes the call's line. It neither blocks nor, for a call that went well, allocates.
func (l *accessLog) Done(c *rpc.Call, sent rpc.Sent) {
	b := rpc.GetBuffer()
	b.B = appendLine(b.B, c, &sent)
	_, _ = l.out.Write(b.B) // the sink counts what it drops
	b.Free()
}

// Close gives the output up.
func (l *accessLog) Close() error { return l.out.Close() }
