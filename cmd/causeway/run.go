package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/anypb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// runFlags are the flags of `causeway run`.
type runFlags struct {
	config        string
	upstream      string
	listen        string
	admin         string
	descriptorSet string
	proto         string
	drainDelay    time.Duration
	grace         time.Duration
	logFormat     string
	quiet         bool
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run (-c FILE | --upstream grpc://HOST:PORT)",
		Short: "Run the gateway",
		Long: `Run the gateway, from a configuration file or in front of one gRPC server.

With --upstream the schema comes from --descriptor-set or --proto, else from the server itself by reflection; then a
later version can be pushed with ` + "`causeway schema push --name upstream`" + ` (set CAUSEWAY_TOKEN to the token that is printed).

SIGTERM stops gracefully: readiness fails, the drain delay passes, clients are asked to leave, calls in flight end.
SIGINT does the same without the delay; a second signal stops at once.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runGateway(cmd, f) },
	}
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file, or folder of fragments")
	cmd.Flags().StringVar(&f.upstream, "upstream", "", "grpc://HOST:PORT, or grpcs:// for TLS: the one server to put the gateway before")
	cmd.Flags().StringVar(&f.listen, "listen", "127.0.0.1:8080", "with --upstream: the address that callers reach")
	cmd.Flags().StringVar(&f.admin, "admin", "127.0.0.1:8081", "with --upstream: the address of the admin listener")
	cmd.Flags().StringVar(&f.descriptorSet, "descriptor-set", "", "with --upstream: file with a FileDescriptorSet")
	cmd.Flags().StringVar(&f.proto, "proto", "", "with --upstream: folder (or file) of .proto files")
	cmd.Flags().DurationVar(&f.drainDelay, "drain-delay", 5*time.Second, "how long calls are taken as before after SIGTERM, while readiness fails")
	cmd.Flags().DurationVar(&f.grace, "grace", 30*time.Second, "how long connections and calls may take to end after that")
	cmd.Flags().StringVar(&f.logFormat, "log-format", "auto", "auto, text or json: of the gateway's own log on standard error")
	cmd.Flags().BoolVar(&f.quiet, "no-access-log", false, "with --upstream: no access log on standard output")
	return cmd
}

func runGateway(cmd *cobra.Command, f runFlags) error {
	switch {
	case (f.config == "") == (f.upstream == ""):
		return usage("give -c FILE, or --upstream grpc://HOST:PORT")
	case f.descriptorSet != "" && f.proto != "":
		return usage("give --descriptor-set or --proto, not both")
	}
	log, err := newLogger(cmd.ErrOrStderr(), f.logFormat)
	if err != nil {
		return err
	}
	std, err := standard()
	if err != nil {
		return err
	}
	o := appOptions{std: std, log: log, watch: true}
	if f.config != "" {
		o.load = func() (*config.Document, error) { return config.Load(f.config, std.ConfigTypes()) }
	} else {
		dir, err := os.MkdirTemp("", "causeway-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // a folder of temporary files
		q, err := quick(f, dir, std.ConfigTypes())
		if err != nil {
			return err
		}
		o.load, o.prepare, o.adminFallback = q.load, q.prepare, !cmd.Flags().Changed("admin")
	}
	return serveUntilSignal(cmd, f, o)
}

func serveUntilSignal(cmd *cobra.Command, f runFlags, o appOptions) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	starting := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			signals <- s // for the wait below, should the start succeed all the same
			cancel()
		case <-starting:
		}
	}()
	a, err := startApp(ctx, o)
	close(starting)
	if err != nil {
		if ctx.Err() != nil {
			return &exitError{exitFailure, fmt.Errorf("stopped by a signal before it served: %w", err)}
		}
		return err
	}
	announce(cmd.ErrOrStderr(), a, f)
	s := <-signals
	stop := proxy.Stop{Delay: f.drainDelay, Grace: f.grace}
	if s == syscall.SIGINT {
		stop.Delay = 0
	}
	o.log.Info("stopping; a second signal stops at once", "signal", s.String(), "drain_delay", stop.Delay, "grace", stop.Grace)
	hurry, rush := context.WithCancel(context.Background())
	defer rush()
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			rush()
		case <-done:
		}
	}()
	a.stop(hurry, stop)
	close(done)
	o.log.Info("stopped")
	return nil
}

// announce tells a person what serves where; machines read the log.
func announce(w io.Writer, a *app, f runFlags) {
	for _, addr := range a.gateway.Addresses() {
		a.log.Info("listening", "address", addr)
	}
	if a.admin == nil {
		return
	}
	if f.upstream != "" {
		// The token is made for this run alone: this is the one time it is shown.
		fmt.Fprintf(w, "admin listener http://%s, token %s\n", a.adminAddr, a.token)
		return
	}
	a.log.Info("admin listening", "address", a.adminAddr)
}

// quickStart is the document of `run --upstream`.
type quickStart struct {
	load    func() (*config.Document, error)
	prepare func(context.Context, *source.Store) error
}

// upstreamName is what `run --upstream` calls its one service and schema.
const upstreamName = "upstream"

func quick(f runFlags, dir string, types config.Types) (*quickStart, error) {
	address, secure, err := upstreamAddress(f.upstream)
	if err != nil {
		return nil, err
	}
	c := &configv1.Config{
		Listen:   []*configv1.Listener{{Address: f.listen}},
		Admin:    &configv1.Admin{Address: f.admin, DataDir: dir},
		Services: []*configv1.Service{{Name: upstreamName, Schema: upstreamName, Endpoints: []*configv1.Endpoint{{Address: address}}}},
		Plugins:  []*configv1.Plugin{{Name: "metrics", Config: &anypb.Any{}}},
	}
	if !f.quiet {
		c.Plugins = append([]*configv1.Plugin{{Name: "access_log", Config: &anypb.Any{}}}, c.Plugins...)
	}
	if secure {
		c.Services[0].Tls = &configv1.ClientTLS{}
	}
	q := &quickStart{}
	s := &configv1.Schema{Name: upstreamName}
	switch {
	case f.descriptorSet != "":
		s.Source = &configv1.Schema_DescriptorSet{DescriptorSet: f.descriptorSet}
	case f.proto != "":
		s.Source = &configv1.Schema_Proto{Proto: &configv1.ProtoSource{Paths: []string{f.proto}}}
	default:
		s.Source = &configv1.Schema_Pushed{Pushed: &configv1.PushedSource{}}
		q.prepare = func(ctx context.Context, store *source.Store) error { return reflectInto(ctx, store, address, secure) }
	}
	c.Schemas = []*configv1.Schema{s}
	cwd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	doc := config.New(c, cwd)
	if err := doc.Validate(types); err != nil {
		return nil, err
	}
	q.load = func() (*config.Document, error) { return doc, nil }
	return q, nil
}

// reflectInto asks the server for its descriptors and keeps them as the first version.
func reflectInto(ctx context.Context, store *source.Store, address string, secure bool) error {
	set, err := reflectFrom(ctx, address, secure)
	if err != nil {
		return err
	}
	_, err = store.Push(upstreamName, set, "reflection from "+address, time.Now())
	return err
}

const reflectTimeout = 10 * time.Second

func reflectFrom(ctx context.Context, address string, secure bool) (*source.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, reflectTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !secure {
		set, err := source.Reflect(ctx, address, nil, source.Limits{})
		return set, unreachable(err)
	}
	tlsConfig, err := certs.Client{}.Config(host, nil)
	if err != nil {
		return nil, err
	}
	set, err := source.Reflect(ctx, address, tlsConfig, source.Limits{})
	return set, unreachable(err)
}

func unreachable(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{exitUnreachable, err}
}

func upstreamAddress(raw string) (address string, secure bool, err error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "grpc" && u.Scheme != "grpcs") || u.Host == "" || u.Path != "" && u.Path != "/" {
		return "", false, usage("--upstream %q: want grpc://HOST:PORT, or grpcs://HOST:PORT for TLS", raw)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return "", false, usage("--upstream %q: want a port, like grpc://%s:50051", raw, u.Hostname())
	}
	return u.Host, u.Scheme == "grpcs", nil
}

// logOptions has durations written as text, "1.5s", in either form of the log.
func logOptions() *slog.HandlerOptions {
	return &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
}

// newLogger makes the gateway's own log: text for a person at a terminal, JSON lines for everybody else.
func newLogger(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "auto":
		if f, ok := w.(*os.File); ok {
			if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
				return slog.New(slog.NewTextHandler(w, logOptions())), nil
			}
		}
		return slog.New(slog.NewJSONHandler(w, logOptions())), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, logOptions())), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, logOptions())), nil
	}
	return nil, usage("--log-format %q: want auto, text or json", format)
}

func validateCommand() *cobra.Command {
	var file string
	var strict bool
	cmd := &cobra.Command{
		Use:   "validate -c FILE",
		Short: "Check a configuration: everything that running it would check, without serving",
		Long: `Check a configuration: everything that running it would check, without serving. What is in order and hardly meant so is
warned of: groups that nobody is in, credentials that no plugin asks for, stores that none uses, expressions that fail for some calls or
compare with names that nothing has, plugins that refuse what does not come by HTTP.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage("give -c FILE")
			}
			snap, release, err := checkConfig(cmd.Context(), file)
			if err != nil {
				return err
			}
			defer release()
			for _, w := range snap.Warnings() {
				if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n\n", w); err != nil {
					return err
				}
			}
			if n := len(snap.Warnings()); strict && n > 0 {
				return fmt.Errorf("%d warnings, and --strict takes none", n)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), snap.Summary())
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file, or folder of fragments")
	cmd.Flags().BoolVar(&strict, "strict", false, "fail for warnings too")
	return cmd
}

func jsonSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "json-schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Long: `Print the JSON Schema of the configuration. An editor that knows YAML completes and checks keys with it when the file
begins with: # yaml-language-server: $schema=causeway.schema.json`,
		Example: "  causeway json-schema > causeway.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			std, err := standard()
			if err != nil {
				return err
			}
			raw, err := config.JSONSchema(std.ConfigTypes())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(append(raw, '\n'))
			return err
		},
	}
}

// checkConfig builds a configuration without serving it.
func checkConfig(ctx context.Context, file string) (*proxy.Snapshot, func(), error) {
	std, err := standard()
	if err != nil {
		return nil, nil, err
	}
	doc, err := config.Load(file, std.ConfigTypes())
	if err != nil {
		return nil, nil, err
	}
	load := func() (*config.Document, error) { return doc, nil }
	o, err := offline(std, load)
	if err != nil {
		return nil, nil, err
	}
	if dir := doc.Config.GetAdmin().GetDataDir(); dir != "" {
		schemas := filepath.Join(dir, "schemas")
		if _, err := os.Stat(schemas); err == nil {
			if o.Store, err = source.OpenStore(schemas); err != nil {
				return nil, nil, err
			}
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
	}
	g, err := proxy.New(o)
	if err != nil {
		return nil, nil, err
	}
	return g.Check(ctx)
}
