// Package admin is the control listener: health, metrics, the schema calls and explain, over HTTP on loopback.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// Options are what the listener serves.
type Options struct {
	Gateway *proxy.Gateway
	Store   *source.Store // nil: no schemas are kept
	Metrics http.Handler
	Token   string // what callers show; never empty
	Log     *slog.Logger
}

// Server is the control listener. Its methods are safe for concurrent use.
type Server struct {
	opts   Options
	token  [sha256.Size]byte
	server http.Server
}

// New makes the server.
func New(o Options) *Server {
	s := &Server{opts: o, token: sha256.Sum256([]byte(o.Token))}
	open := http.NewServeMux()
	open.HandleFunc("GET /livez", s.livez)
	open.HandleFunc("GET /readyz", s.readyz)
	closed := http.NewServeMux()
	closed.HandleFunc("GET /metrics", s.metrics)
	closed.HandleFunc("GET /api/v1/schemas", s.listSchemas)
	closed.HandleFunc("GET /api/v1/schemas/{name}", s.showSchema)
	closed.HandleFunc("POST /api/v1/schemas/{name}", s.pushSchema)
	closed.HandleFunc("PUT /api/v1/schemas/{name}", s.pushSchema)
	closed.HandleFunc("POST /api/v1/schemas/{name}/rollback", s.rollbackSchema)
	closed.HandleFunc("GET /api/v1/explain", s.explain)
	closed.HandleFunc("GET /api/v1/services", s.services)
	closed.HandleFunc("GET /api/v1/services/{name}", s.service)
	// One wrapper for all that is not open, so that no path can be forgotten outside it.
	open.Handle("/", s.guarded(closed))
	s.server = http.Server{
		Handler:           s.local(open),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers on l until Shutdown; it returns nil then.
func (s *Server) Serve(l net.Listener) error {
	if err := s.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends the listener.
func (s *Server) Shutdown(ctx context.Context) error { return s.server.Shutdown(ctx) }

// local refuses what only a browser on a foreign page would send: a Host that is no loopback name (DNS rebinding), or an
// Origin.
func (s *Server) local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "localhost" && (err != nil || !addr.IsLoopback()) {
			refuse(w, http.StatusForbidden, "the admin listener answers to loopback names only, found host %q", r.Host)
			return
		}
		if o := r.Header.Get("Origin"); o != "" {
			refuse(w, http.StatusForbidden, "the admin listener does not answer pages, found origin %q", o)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.authorized(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="causeway admin"`)
			found := "found none"
			if r.Header.Get("Authorization") != "" {
				found = "found another"
			}
			refuse(w, http.StatusUnauthorized, "want the admin token as `Authorization: Bearer TOKEN`, %s: `run -c` keeps it in admin.token of the data directory, `run --upstream` prints it", found)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) authorized(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(token))
	return ok && subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") }

// readyz answers 200 while the gateway takes calls, whatever is wrong with its parts. With ?verbose (and the token) it says how each of
// those stands.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	code, verdict := http.StatusOK, "ok\n"
	if !s.opts.Gateway.Ready() {
		code, verdict = http.StatusServiceUnavailable, "not ready\n"
	}
	if _, verbose := r.URL.Query()["verbose"]; !verbose {
		text(w, code, verdict)
		return
	}
	if !s.authorized(r) {
		refuse(w, http.StatusUnauthorized, "?verbose wants the admin token")
		return
	}
	parts := report(s.opts.Gateway.Status(), s.storeFaults())
	if code == http.StatusOK && strings.Contains("\n"+parts, "\n[-]") {
		verdict = "ok, calls are taken; what has [-] is at fault\n"
	}
	text(w, code, parts+"readyz: "+verdict)
}

// report is a line per part: [+] in order, [-] not. Faults of parts do not make the gateway unready: it serves what it can, and a
// balancer in front of it could only send the calls to a gateway that has the same faults.
func report(st proxy.Status, storeFaults map[string]string) string {
	var b strings.Builder
	line := func(fault error, format string, args ...any) {
		mark := "[+]"
		if fault != nil {
			mark = "[-]"
		}
		fmt.Fprintf(&b, mark+format, args...)
		if fault != nil {
			fmt.Fprintf(&b, ": %s", strings.ReplaceAll(strings.TrimSpace(fault.Error()), "\n", "\n    "))
		}
		b.WriteByte('\n')
	}
	if st.Draining {
		line(errors.New("the gateway is stopping"), "lifecycle")
	}
	line(nil, "configuration: revision %d, in force since %s", st.Revision, st.Built.UTC().Format(time.RFC3339))
	if st.Refused != nil {
		line(st.Refused, "configuration: the one tried at %s was refused, revision %d serves on", st.RefusedAt.UTC().Format(time.RFC3339), st.Revision)
	}
	for _, l := range st.Listeners {
		line(l.Fault, "listener %s: %d connections", l.Address, l.Connections)
	}
	for _, sc := range st.Schemas {
		fault := sc.Stale
		if f := storeFaults[sc.Name]; f != "" {
			fault = errors.Join(fault, errors.New(f))
		}
		line(fault, "schema %s: %s, %d services, %d methods", sc.Name, sc.Origin, len(sc.Services), sc.Methods)
	}
	for _, sv := range st.Services {
		fault := sv.Stale
		switch {
		case sv.Known == 0:
			fault = errors.Join(fault, errors.New("no instance is known"))
		case sv.Used == 0:
			fault = errors.Join(fault, errors.New("no instance is well: see service inspect"))
		}
		line(fault, "service %s: %d instances, %d used", sv.Name, sv.Known, sv.Used)
	}
	return b.String()
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	s.opts.Gateway.Sample()
	s.opts.Metrics.ServeHTTP(w, r)
}

// explain tells what a request would do: ?method=GET&url=/v1/x&header=Name:value.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	snap := s.opts.Gateway.Current()
	if snap == nil {
		refuse(w, http.StatusServiceUnavailable, "no configuration is in force so far")
		return
	}
	answer(w, snap.Explain(proxy.Question{Method: q.Get("method"), URL: q.Get("url"), Headers: q["header"]}))
}

// fault answers an error of a change: whose it is decides on the status, which is otherwise the one given.
func fault(w http.ResponseWriter, err error, otherwise int) {
	var unknown *proxy.UnknownSchemaError
	var faults config.Faults
	switch {
	case errors.As(err, &unknown):
		refuse(w, http.StatusConflict, "%s", err)
	case errors.Is(err, proxy.ErrNoStore), errors.Is(err, proxy.ErrClosed):
		refuse(w, http.StatusServiceUnavailable, "%s", err)
	case errors.As(err, &faults):
		refuse(w, http.StatusUnprocessableEntity, "%s", strings.TrimSpace(err.Error()))
	default:
		refuse(w, otherwise, "%s", err)
	}
}

// Problem is the body of every refused call.
type Problem struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Problem{status, fmt.Sprintf(format, args...)}) // the caller has gone: nobody to tell
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // as in refuse
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body) // as in refuse
}
