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

	"github.com/coder/websocket"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/cmd/causeway/chat"
	"github.com/causeway-gateway/causeway/cmd/causeway/inventory"
	"github.com/causeway-gateway/causeway/cmd/causeway/orders"
	"github.com/causeway-gateway/causeway/cmd/causeway/pricing"
	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/transcode/jsonwire"
)

func demoCommand() *cobra.Command {
	var check bool
	var service string
	var alone bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the gateway in front of small services and show what it does",
		Long: `Run the gateway in front of small services, two instances of each, which register themselves in a small ZooKeeper:
all of it in this process and on loopback. Print curl lines that show what it does, and kill an instance while it is called.
Each line is run and checked before it is printed. With --check the program ends after that, with exit code 1 if one of
them does not answer as it should. With --service-only there is no gateway: the order service waits for yours.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if alone {
				return runService(cmd, service)
			}
			return runDemo(cmd, service, check)
		},
	}
	cmd.Flags().StringVar(&service, "service", "127.0.0.1:50051", "address of the order service; a free port is taken if it is in use")
	cmd.Flags().BoolVar(&alone, "service-only", false, "run the order service alone")
	cmd.Flags().BoolVar(&check, "check", false, "run and check the lines, then end")
	return cmd
}

// runService serves the order service until a signal.
func runService(cmd *cobra.Command, address string) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d := &demo{backends: backends{log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))}}
	defer d.stop()
	if err := d.startServices(address); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "order service at grpc://%s, with reflection; Ctrl-C stops it\n", d.service); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func runDemo(cmd *cobra.Command, service string, check bool) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d, err := startDemo(ctx, service, cmd.ErrOrStderr())
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

// demo is the gateway and its services in one process.
type demo struct {
	backends backends
	app      *app
	orders   *orders.Server
	chat     *chat.Server
	dir      string // of configuration, token and pushed schemas
	gateway  string // http://host:port
	tars     string // host:port of the gateway's TARS listener
	admin    string
	service  string // host:port of the first instance
	client   http.Client
}

func startDemo(ctx context.Context, service string, errOut io.Writer) (*demo, error) {
	std, err := standard()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "causeway-demo-")
	if err != nil {
		return nil, err
	}
	d := &demo{dir: dir, client: http.Client{Timeout: 10 * time.Second}}
	started := false
	defer func() {
		if !started {
			d.stop()
		}
	}()
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d.backends.log = log
	if err := d.startServices(service, "127.0.0.1:50052"); err != nil {
		return nil, err
	}
	if err := d.registerAll(ctx); err != nil {
		return nil, err
	}
	if err := d.startOthers(ctx); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "causeway.yaml")
	text := fmt.Sprintf(demoConfig, freeAddress("127.0.0.1:8080"), freeAddress("127.0.0.1:18080"), freeAddress("127.0.0.1:8081"), d.backends.zkAddress, filepath.Join(dir, "access.log"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d.app, err = startApp(ctx, appOptions{
		std:  std,
		log:  log,
		load: func() (*config.Document, error) { return config.Load(file, std.ConfigTypes()) },
	})
	if err != nil {
		return nil, err
	}
	d.gateway, d.admin, d.tars = "http://"+d.app.gateway.Addresses()[0], "http://"+d.app.adminAddr, d.app.gateway.Addresses()[1]
	started = true
	return d, nil
}

// demoConfig is what the demo runs with: the schema comes by a push, as in life.
const demoConfig = `listen:
  - address: %s
  - address: %s
    protocol: tars
    options: {servants: [{name: Demo.Gateway.OrdersObj, service: demo.orders.v1.Orders}]}
admin:
  address: %s
registries:
  - name: zk
    zookeeper: {servers: ["%s"], session: 2s}
schemas:
  - name: orders
    pushed: {}
  - name: inventory
    tars: {paths: [inventory.tars]}
  - name: pricing
    descriptor_set: pricing.binpb
services:
  - name: orders
    schema: orders
    serves: [demo.orders.v1.Orders]
    discovery: [{registry: zk, service: demo.orders.v1.Orders}]
  - name: chat
    schema: orders
    serves: [demo.chat.v1.Chat]
    discovery: [{registry: zk, service: demo.chat.v1.Chat}]
  - name: inventory
    adapter: tars
    schema: inventory
    options: {servant: ` + inventory.Name + `}
    discovery: [{registry: zk, service: ` + inventory.Name + `}]
    health_check: {adapter: {}}
  - name: pricing
    adapter: trpc
    schema: pricing
    options: {callee: ` + pricing.Name + `}
    discovery: [{registry: zk, service: ` + pricing.Name + `}]
routes:
  - name: stock
    service: inventory
    http: {method: Demo.Inventory/check, get: "/v1/stock/{sku}", response_body: level}
  - name: removal
    service: orders
    methods: [demo.orders.v1.Orders/DeleteOrder]
    plugins:
      - name: key_auth
      - name: limit_count
        config: {count: 1, window: 3600s, type: sliding, key: {consumer: true}}
consumers:
  - name: staff
    credentials:
      - {plugin: key_auth, config: {key: ` + demoKey + `}}
plugins:
  - name: access_log
    config: {output: %s}
  - name: metrics
`

// demoKey is the API key of the demo's only consumer.
const demoKey = "demo-5f4dcc3b5aa765d61d8327deb882cf99"

// startServices serves orders and chat at each address wanted, or at a free port.
func (d *demo) startServices(addresses ...string) error {
	d.orders, d.chat = orders.New(), chat.New()
	for _, a := range addresses {
		in, err := d.backends.startGRPC(a, d.orders, d.chat)
		if err != nil {
			return err
		}
		if d.service == "" {
			d.service = in.address
		}
	}
	return nil
}

// registerAll has every instance announce itself.
func (d *demo) registerAll(ctx context.Context) error {
	if err := d.backends.startZooKeeper("127.0.0.1:2181"); err != nil {
		return err
	}
	for _, in := range d.backends.instances {
		if err := d.backends.register(ctx, in, "grpc", "demo.orders.v1.Orders", "demo.chat.v1.Chat"); err != nil {
			return err
		}
	}
	return nil
}

// startOthers serves what is in stock over TARS, and what it costs over tRPC, and has each instance announce itself.
func (d *demo) startOthers(ctx context.Context) error {
	raw, err := proto.Marshal(pricing.Files())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "pricing.binpb"), raw, 0o600); err != nil {
		return err
	}
	stock := inventory.NewStock()
	for range 2 {
		s, err := stock.Server(ctx, d.dir, d.backends.log)
		if err != nil {
			return err
		}
		if err := d.backends.startServant(ctx, s, "tars", inventory.Name); err != nil {
			return err
		}
		if s, err = pricing.New(d.backends.log); err != nil {
			return err
		}
		if err := d.backends.startServant(ctx, s, "trpc", pricing.Name); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stop() {
	if d.app != nil {
		d.client.CloseIdleConnections()
		d.app.stop(context.Background(), proxy.Stop{Grace: 2 * time.Second})
	}
	if d.orders != nil {
		d.orders.Close()
		d.chat.Close()
	}
	d.backends.close()
	if d.dir != "" {
		_ = os.RemoveAll(d.dir) // a folder of temporary files
	}
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
	upload string // instead of body: a file, sent as it is
	stream bool   // the answer comes bit by bit
	// say are the messages of a WebSocket call; it is shown with causeway's own client, since not every curl has one.
	say []string
	// rpc is the method of a gRPC call for the order that body names; it is shown as grpcurl would make it.
	rpc string
	// tars is the method of a call by a TARS client with body.
	tars   string
	status int
	// want is JSON that the answer must hold: every key of an object in it with an equal value.
	want string
	// text is what an answer that is not JSON must contain.
	text string
}

func (d *demo) show(ctx context.Context, out io.Writer) error {
	p := printer{w: out}
	p.printf("Causeway in front of services that register themselves in ZooKeeper\n\n")
	p.printf("  gateway   %s\n  admin     %s   token %s\n  zookeeper %s\n  services  grpc  %s   demo.orders.v1.Orders and demo.chat.v1.Chat, with reflection\n            tars  %s   %s\n            trpc  %s   %s\n  its file  %s\n\n",
		d.gateway, d.admin, d.app.token, d.backends.zkAddress, d.backends.addresses("grpc"), d.backends.addresses("tars"), inventory.Name, d.backends.addresses("trpc"), pricing.Name, filepath.Join(d.dir, "causeway.yaml"))
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
	if err := d.survive(ctx, &p); err != nil {
		return err
	}
	return p.err
}

// register pushes the service's descriptors, which its team made from its .proto files; here the service is asked.
func (d *demo) register(ctx context.Context, p *printer) error {
	body, _, err := readSchema(ctx, nil, d.service, nil, "")
	if err != nil {
		return err
	}
	file := filepath.Join(d.dir, "orders.binpb")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return err
	}
	return d.try(ctx, p, step{
		title: "register the service's descriptors while the gateway runs", admin: true, path: "/api/v1/schemas/orders",
		upload: file, status: 200, want: `{"number":1,"active":true,"services":2,"methods":13}`,
	})
}

// try runs one step, checks its answer and prints it.
func (d *demo) try(ctx context.Context, p *printer, s step) error {
	if s.say != nil {
		return d.talk(ctx, p, s)
	}
	if s.rpc != "" {
		return d.call(ctx, p, s)
	}
	if s.tars != "" {
		return d.callTARS(ctx, p, s)
	}
	base := d.gateway
	if s.admin {
		base = d.admin
		s.header = "Authorization: Bearer " + d.app.token
	}
	payload := []byte(s.body)
	if s.upload != "" {
		var err error
		if payload, err = os.ReadFile(s.upload); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, s.verb(), base+s.path, bytes.NewReader(payload))
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

// talk runs a step over WebSocket.
func (d *demo) talk(ctx context.Context, p *printer, s step) error {
	url := "ws" + strings.TrimPrefix(d.gateway, "http") + s.path
	line := os.Args[0] + " ws '" + url + "' '" + strings.Join(s.say, "' '") + "'"
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var answer bytes.Buffer
	err := talk(ctx, url, &websocket.DialOptions{HTTPClient: &d.client}, strings.NewReader(strings.Join(s.say, "\n")), &answer)
	if err == nil && !strings.Contains(answer.String(), s.text) {
		err = fmt.Errorf("want %q in it", s.text)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w; the answer was %s", s.title, line, err, answer.String())
	}
	p.printf("✓ %s\n    %s\n    %s\n\n", s.title, line, clip(answer.Bytes()))
	return nil
}

// call runs a step over gRPC.
func (d *demo) call(ctx context.Context, p *printer, s step) error {
	address := strings.TrimPrefix(d.gateway, "http://")
	line := fmt.Sprintf("grpcurl -plaintext -d '{\"name\":%q}' %s %s", s.body, address, s.rpc)
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	order := &ordersv1.Order{}
	err = cc.Invoke(ctx, "/"+s.rpc, &ordersv1.GetOrderRequest{Name: s.body}, order)
	if err = errors.Join(err, cc.Close()); err != nil {
		return fmt.Errorf("%s: %s: %w", s.title, line, err)
	}
	m, err := orderMethod("/" + s.rpc)
	if err != nil {
		return err
	}
	raw, err := proto.Marshal(order)
	if err != nil {
		return err
	}
	answer, err := jsonwire.AppendJSON(nil, raw, m.Output, &jsonwire.Options{}) // as grpcurl prints it, in one line
	if err == nil && !strings.Contains(string(answer), s.text) {
		err = fmt.Errorf("want %q in it", s.text)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w; the answer was %s", s.title, line, err, answer)
	}
	p.printf("✓ %s\n    %s\n    %s\n\n", s.title, line, clip(answer))
	return nil
}

func (s *step) verb() string {
	switch {
	case s.method != "":
		return s.method
	case s.body != "", s.upload != "":
		return http.MethodPost
	}
	return http.MethodGet
}

// curl is the command line of the step.
func (s *step) curl(base string) string {
	parts := []string{"curl"}
	if s.stream {
		parts = append(parts, "-N")
	}
	if s.method != "" {
		parts = append(parts, "-X", s.method)
	}
	if s.header != "" {
		parts = append(parts, "-H", "'"+s.header+"'")
	}
	if s.body != "" {
		parts = append(parts, "-d", "'"+s.body+"'")
	}
	if s.upload != "" {
		parts = append(parts, "--data-binary", "@"+s.upload)
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
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " ..."
	}
	return strings.ReplaceAll(s, "\n", "\n    ")
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
