// Package plugin is the contract of the chain that every call passes. One plugin is one folder below and one line in
// cmd/causeway/standard.go; README.md here says how to write one.
//
// # Order
//
// A call passes the plugins of four scopes, from the widest to the narrowest: those of every call, of the service, of the
// route, and of the consumer who calls; within a scope in the order of the configuration. Each is around the next: what is
// first goes in first and comes out last.
//
// # Refusing
//
// A plugin that is not sure refuses: an error, a panic, and the end of the call's time all end the call before it reaches
// the service. What a plugin waits for ends with its context.
package plugin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// Plugin is one configured member of a chain. What it can do beside is a further interface, looked up once, when the chain
// is built: io.Closer for one that holds resources, rpc.Finisher for one that wants to see the end of each call,
// Authenticator, Preflighter, Dresser, Director.
type Plugin interface {
	// Wrap returns the handler that stands around next, or next itself where the plugin has nothing to do before the end of
	// calls. It is called once for each route of a snapshot; what must outlive a snapshot lives in the Plugin.
	Wrap(next rpc.Handler) rpc.Handler
}

// Authenticator is a plugin that finds out who calls. Its Wrap returns Authenticated(p, next).
type Authenticator interface {
	Plugin
	// Authenticate checks the credentials of c. Without an error it has set c.Consumer or c.Claims, or is content
	// without, and has taken its own credentials out of c.Header; with one it has changed nothing. The error of Missing says
	// that the call shows no credentials of this kind.
	Authenticate(ctx context.Context, c *rpc.Call) error
}

// Preflighter is asked by the edge for a CORS preflight (https://fetch.spec.whatwg.org/#cors-preflight-fetch), on the route
// that the asked-for request would match, or on what all routes have in common where none does. Of several on a route the
// innermost is asked. A preflight passes no other plugin.
type Preflighter interface {
	// Preflight returns the answer, or an error that refuses; h is the preflight itself.
	Preflight(h *rpc.HTTP, asked *Asked) (*rpc.Answer, error)
}

// Asked is the request that a preflight asks leave for.
type Asked struct {
	Method string // the verb
	// Takes tells whether a header (lower case) of that request would be used: it is one of the protocol's, or becomes
	// metadata.
	Takes func(header string) bool
}

// Dresser adds headers to every answer by HTTP on its routes, also to errors, preflights, and what the gateway answers
// itself.
type Dresser interface {
	// Dress appends to header, which has the headers of the answer to h. preflight: h asks leave for another request.
	Dress(header rpc.Metadata, h *rpc.HTTP, preflight bool) rpc.Metadata
}

// Director is a plugin that sends calls elsewhere: to another service than the route's, by Call.Service, or a copy by
// Env.Service.
type Director interface {
	// Services are the names of the services that it may choose for Call.Service, and those that only get copies or calls
	// of its own. The snapshot is refused where one is not there, or where one to choose does not serve the route's methods.
	Services() (chosen, called []string)
}

// Scripted is a plugin that reads headers of requests which scripts in browsers may send on its routes: credentials, tokens.
// A CORS preflight on such a route gives leave for them.
type Scripted interface {
	// RequestHeaders are the headers, lower case.
	RequestHeaders() []string
}

// CallerReader is a plugin that goes by who calls. A snapshot in which it stands in front of the plugin that finds out is
// refused.
type CallerReader interface {
	// ReadsCaller tells whether it does so as it is configured, and whether it is of no use where nobody finds out.
	ReadsCaller() (reads, needs bool)
}

// CallerNamer is a plugin whose configuration names consumers or groups. A snapshot is refused where it names a consumer that is
// not there, and warns of a group that nobody is in.
type CallerNamer interface {
	Callers() []CallerName
}

// CallerName is the name of a consumer or of a group at its place within the plugin's configuration.
type CallerName struct {
	Path, Name string
	Group      bool
}

// Evaluator is a plugin that evaluates expressions over calls. It is asked while a snapshot is built, for each method whose calls
// pass it: a snapshot is refused where one would fail whatever the call is, and warns of one that may, and of names in it that
// nothing has.
type Evaluator interface {
	// Expressions are those that calls of the method come to.
	Expressions(m *schema.Method) []Expression
}

// Expression is one at its place within a plugin's configuration.
type Expression struct {
	Path string // "rules[1].when"
	// Source is a *expr.Program or *expr.Template of proxy/expr, which plugins without expressions need not be built with.
	Source fmt.Stringer
	// Sometimes: it depends on something else of a call, a header for instance, whether it is evaluated.
	Sometimes bool
}

// HTTPReader is a plugin that goes by what only requests by HTTP have. A snapshot is refused where no call comes so, and warns
// where some do and others do not.
type HTTPReader interface {
	// WithoutHTTP is why the plugin refuses every call of the method that does not come by HTTP, "" where it does not.
	WithoutHTTP(m *schema.Method) (why string)
}

// Kind is one sort of plugin, as the list of plugins has it.
type Kind struct {
	Name   string               // as the configuration calls it: "access_log"
	Config func() proto.Message // an empty configuration message
	// Credential is an empty message of what a consumer shows to the plugin; nil: it knows no consumers.
	Credential func() proto.Message
	New        Factory
}

// Factory makes a plugin of its configuration. It runs while a snapshot is built, never on a call's path. An error
// refuses the whole snapshot; a *Fault has its position.
type Factory func(config proto.Message, env Env) (Plugin, error)

// Fault is an error in a plugin's configuration with its place.
type Fault struct {
	Path    string // within the configuration: "keys[2].secret"
	Message string // what was wanted and what was found
	Fix     string
}

// Error implements error.
func (f *Fault) Error() string { return f.Path + ": " + f.Message }

// Faultf makes a fault of the value at path.
func Faultf(path, fix, format string, args ...any) *Fault {
	return &Fault{Path: path, Fix: fix, Message: fmt.Sprintf(format, args...)}
}

// Env is what the gateway lends to plugins. It is valid as long as the plugin is.
type Env struct {
	Scope string // where the plugin stands: "global", "route orders"
	Meter *telemetry.Meter
	Log   *slog.Logger
	// Now is the time, also monotonic.
	Now func() time.Time
	// Open returns a writer to a log output, shared by all who name the same one: see telemetry.Sinks.Open. The plugin
	// closes it in its Close.
	Open func(output string, r telemetry.Rotation) (io.WriteCloser, error)
	// Spans takes spans of calls, for the collector that the configuration names.
	Spans *telemetry.Spans
	// Credentials are what consumers have for a plugin of this kind. A change to them makes the plugin anew.
	Credentials []Credential
	// Consumer finds a consumer of the configuration in force by name; nil: there is none. It is for plugins that learn the
	// name from elsewhere; what it returns is for one call.
	Consumer func(name string) *rpc.Consumer
	// Store finds a configured store.
	Store func(name string) (Store, error)
	// Service finds a configured service, which the plugin names as a Director.
	Service func(name string) Service
	// Fetch makes an HTTP request of the gateway's own; see Fetcher.
	Fetch Fetcher
	// Keep holds state that outlives the plugin: what StateOf is made of.
	Keep func(name string, create func() (any, error)) (any, error)
}

// StateOf returns state that outlives a plugin which is made anew because of its consumers: key sets, caches, nonces. It is
// made by create where the former plugin of the same scope and configuration has none under this name. State that is an
// io.Closer is closed when no plugin holds it any more.
func StateOf[T any](env Env, name string, create func() (T, error)) (T, error) {
	v, err := env.Keep(name, func() (any, error) { return create() })
	if err != nil {
		var zero T
		return zero, err
	}
	return v.(T), nil //nolint:forcetypeassert // one plugin's name for one sort of state
}

// Credential is what a consumer shows.
type Credential struct {
	Consumer *rpc.Consumer
	Config   proto.Message // of the type of Kind.Credential
	Path     string        // of its configuration, for faults: "consumers[2].credentials[0].config"
}

// Store is a database that gateways share. It may be used by many goroutines.
type Store interface {
	// Run runs a script on the server. The error of a server that is slow or gone comes within the store's own time, at once
	// while it is known to be gone.
	Run(ctx context.Context, s *Script, keys []string, args ...any) (any, error)
}

// Script is a Lua script for a store. Its keys are all named by the caller, so that they can be on several servers.
type Script struct{ Source string }

// Service calls a configured service: over the connections, and with the balancing, of the calls that go there.
type Service interface {
	// Unary calls method c.Method.Name with req as rpcadapters.Transport.Unary does; also the errors are its.
	Unary(ctx context.Context, c *rpc.Call, req *rpc.Message, out *rpc.Reply) error
}

// Fetcher makes HTTP requests of the gateway's own, to key sets and authorisation servers. It follows no redirect, dials
// only what `outbound` allows, and reads at most so many bytes.
type Fetcher interface {
	// Fetch sends r and reads the whole answer. Any status is an answer.
	Fetch(ctx context.Context, r *FetchRequest) (*FetchResponse, error)
}

// FetchRequest is a request of the gateway's own.
type FetchRequest struct {
	Method string // "" is GET
	URL    string
	Header rpc.Metadata
	Body   []byte
	// Timeout bounds all of it, 0: 2 s. MaxBytes bounds the answer's body, 0: 64 KiB.
	Timeout  time.Duration
	MaxBytes int64
}

// FetchResponse is the answer.
type FetchResponse struct {
	Status int
	Header rpc.Metadata // lower-case keys
	Body   []byte
}
