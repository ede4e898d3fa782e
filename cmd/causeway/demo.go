package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"github.com/causeway-gateway/causeway/cmd/causeway/orders"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
)

func demoCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the gateway in front of a small order service and show what it does",
		Long: `Run the gateway in front of a small gRPC order service, both in this process and on loopback, and print curl lines
that show what it does. Each line is run and checked before it is printed. With --check the program ends after that, with
exit code 1 if one of them does not answer as it should.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd, check) },
	}
	cmd.Flags().BoolVar(&check, "check", false, "run and check the lines, then end")
	return cmd
}

func runDemo(cmd *cobra.Command, check bool) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d, err := startDemo(ctx, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	defer d.stop()
	out := cmd.OutOrStdout()
	if err := d.show(ctx, out); err != nil {
		return err
	}
	if check {
		return nil
	}
	if _, err := fmt.Fprintln(out, "\nAll of it was run just now. The gateway serves on: try it yourself, Ctrl-C stops everything."); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// demo is the gateway and the order service in one process.
type demo struct {
	app     *app
	orders  *orders.Server
	backend *grpc.Server
	dir     string // of configuration, token and pushed schemas
	gateway string // http://host:port
	admin   string
	service string // host:port
	client  http.Client
}

func startDemo(ctx context.Context, errOut io.Writer) (*demo, error) {
	std, err := standard()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "causeway-demo-")
	if err != nil {
		return nil, err
	}
	d := &demo{dir: dir, orders: orders.New(), backend: grpc.NewServer(), client: http.Client{Timeout: 10 * time.Second}}
	started := false
	defer func() {
		if !started {
			d.stop()
		}
	}()
	d.orders.Register(d.backend)
	reflection.Register(d.backend)
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding does not wait
	if err != nil {
		return nil, err
	}
	d.service = ln.Addr().String()
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
	go d.serveOrders(ln, log)

	file := filepath.Join(dir, "causeway.yaml")
	text := fmt.Sprintf(demoConfig, freeAddress("127.0.0.1:8080"), freeAddress("127.0.0.1:8081"), d.service, filepath.Join(dir, "access.log"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d.app, err = startApp(ctx, appOptions{
		std:  std,
		log:  log,
		load: func() (*config.Document, error) { return config.Load(file, pluginTypes(std)) },
	})
	if err != nil {
		return nil, err
	}
	d.gateway, d.admin = "http://"+d.app.gateway.Addresses()[0], "http://"+d.app.adminAddr
	started = true
	return d, nil
}

// demoConfig is what the demo runs with: the schema comes by a push, as in life.
const demoConfig = `listen:
  - address: %s
admin:
  address: %s
schemas:
  - name: orders
    pushed: {}
services:
  - name: orders
    schema: orders
    endpoints:
      - address: %s
plugins:
  - name: access_log
    config: {output: %s}
  - name: metrics
`

func (d *demo) serveOrders(ln net.Listener, log *slog.Logger) {
	defer func() {
		if r := recover(); r != nil {
			log.Error("panic in the order service", "panic", r)
		}
	}()
	if err := d.backend.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		log.Error("order service ended", "error", err)
	}
}

func (d *demo) stop() {
	if d.app != nil {
		d.client.CloseIdleConnections()
		d.app.stop(context.Background(), proxy.Stop{Grace: 2 * time.Second})
	}
	d.orders.Close()
	d.backend.Stop()
	_ = os.RemoveAll(d.dir) // a folder of temporary files
}

// freeAddress is the address wanted when it can be bound, else one with a free port.
func freeAddress(want string) string {
	ln, err := net.Listen("tcp", want) //nolint:noctx // binding does not wait
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = ln.Close() // it was only tried
	return want
}

// step is one thing that the demo shows: a curl line with what it must answer.
type step struct {
	title  string
	method string // "" is curl's own: GET, or POST with a body
	admin  bool   // to the admin listener, with its token
	path   string
	header string
	body   string
	upload []byte // instead of body: sent as it is
	status int
	// want is JSON that the answer must hold: every key of an object in it with an equal value.
	want string
	// text is what an answer that is not JSON must contain.
	text string
}

func (d *demo) show(ctx context.Context, out io.Writer) error {
	p := printer{w: out}
	p.printf("Causeway in front of a gRPC order service\n\n")
	p.printf("  gateway   %s\n  admin     %s   token %s\n  service   grpc://%s   demo.orders.v1.Orders, with reflection\n\n", d.gateway, d.admin, d.app.token, d.service)
	if err := d.try(ctx, &p, step{
		title: "nothing is registered so far", path: "/v1/orders/1", status: 404,
		want: `{"code":12,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ROUTE_NOT_FOUND","domain":"causeway"}]}`,
	}); err != nil {
		return err
	}
	if err := d.register(ctx, &p); err != nil {
		return err
	}
	for _, s := range demoSteps {
		if err := d.try(ctx, &p, s); err != nil {
			return err
		}
	}
	return p.err
}

// register pushes the service's descriptors, as `causeway schema push --reflect` does.
func (d *demo) register(ctx context.Context, p *printer) error {
	body, origin, err := readSchema(ctx, nil, d.service, nil)
	if err != nil {
		return err
	}
	c := client{address: strings.TrimPrefix(d.admin, "http://"), token: d.app.token, timeout: 10 * time.Second}
	var v struct{ Number, Methods int }
	if err := c.call(ctx, http.MethodPost, "/api/v1/schemas/orders?from="+strings.ReplaceAll(origin, " ", "+"), body, &v); err != nil {
		return err
	}
	if v.Number != 1 || v.Methods != 8 {
		return fmt.Errorf("schema push: want version 1 with 8 methods, found version %d with %d", v.Number, v.Methods)
	}
	p.printf("✓ register the service's descriptors while the gateway runs\n")
	p.printf("    CAUSEWAY_TOKEN=%s causeway schema push --reflect %s --name orders --admin %s\n", d.app.token, d.service, c.address)
	p.printf("    version 1, 8 methods\n\n")
	return nil
}

// try runs one step, checks its answer and prints it.
func (d *demo) try(ctx context.Context, p *printer, s step) error {
	base := d.gateway
	if s.admin {
		base = d.admin
		s.header = "Authorization: Bearer " + d.app.token
	}
	req, err := http.NewRequestWithContext(ctx, s.verb(), base+s.path, bytes.NewReader(append([]byte(s.body), s.upload...)))
	if err != nil {
		return err
	}
	if s.body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl -d says
	}
	if name, value, ok := strings.Cut(s.header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", s.title, err)
	}
	answer, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("%s: %w", s.title, err)
	}
	if err := s.check(resp.StatusCode, answer); err != nil {
		return fmt.Errorf("%s: %s: %w; the answer was %d %s", s.title, s.curl(base), err, resp.StatusCode, answer)
	}
	p.printf("✓ %s\n    %s\n    %d %s\n\n", s.title, s.curl(base), resp.StatusCode, clip(answer))
	return nil
}

func (s *step) verb() string {
	switch {
	case s.method != "":
		return s.method
	case s.body != "":
		return http.MethodPost
	}
	return http.MethodGet
}

// curl is the command line of the step.
func (s *step) curl(base string) string {
	parts := []string{"curl"}
	if s.method != "" {
		parts = append(parts, "-X", s.method)
	}
	if s.header != "" {
		parts = append(parts, "-H", "'"+s.header+"'")
	}
	if s.body != "" {
		parts = append(parts, "-d", "'"+s.body+"'")
	}
	return strings.Join(append(parts, "'"+base+s.path+"'"), " ")
}

func (s *step) check(status int, answer []byte) error {
	if status != s.status {
		return fmt.Errorf("want status %d, found %d", s.status, status)
	}
	if !strings.Contains(string(answer), s.text) {
		return fmt.Errorf("want %q in it", s.text)
	}
	if s.want == "" {
		return nil
	}
	var want, got any
	if err := json.Unmarshal([]byte(s.want), &want); err != nil {
		return err
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return err
	}
	return holds(got, want, "answer")
}

// holds says where got lacks what want has.
func holds(got, want any, at string) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: want an object, found %v", at, got)
		}
		for k, v := range w {
			if err := holds(g[k], v, at+"."+k); err != nil {
				return err
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) < len(w) {
			return fmt.Errorf("%s: want %d elements or more, found %v", at, len(w), got)
		}
		for i, v := range w {
			if err := holds(g[i], v, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	}
	if got != want {
		return fmt.Errorf("%s: want %v, found %v", at, want, got)
	}
	return nil
}

// clip shortens an answer to a few lines of a terminal.
func clip(answer []byte) string {
	const most = 400
	s := strings.TrimSpace(string(answer))
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " ..."
}

// printer keeps the first error of writing.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
