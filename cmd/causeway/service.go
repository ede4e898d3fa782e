package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// defaultZooKeeper is where ZooKeeper is when nobody says.
const defaultZooKeeper = "127.0.0.1:2181"

// centre is the ZooKeeper that a command speaks to, as flags and the environment name it.
type centre struct {
	servers  string
	root     string
	authFile string
	secure   bool
	ca       string
	cert     string
	key      string
	timeout  time.Duration
}

func serviceCommand() *cobra.Command {
	var z centre
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Register instances of services in ZooKeeper, look at them, drain them",
		Args:  known,
		RunE:  needsCommand,
	}
	z.flags(cmd)
	cmd.AddCommand(serviceRegister(&z), serviceList(&z), serviceWatch(&z), serviceInspect(&z), serviceDrain(&z), serviceUndrain(&z))
	return cmd
}

func (z *centre) flags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&z.servers, "zookeeper", cmp.Or(os.Getenv("CAUSEWAY_ZOOKEEPER"), defaultZooKeeper), "`addresses` of ZooKeeper's servers, HOST:PORT,... (environment: CAUSEWAY_ZOOKEEPER)")
	f.StringVar(&z.root, "root", "", "`node` below which services are; /causeway, or where the layout has them")
	f.StringVar(&z.authFile, "auth-file", "", "`file` with user:password of the digest scheme (environment: CAUSEWAY_ZOOKEEPER_AUTH, the text itself)")
	f.BoolVar(&z.secure, "zookeeper-tls", false, "speak TLS with ZooKeeper; any file below says it, too")
	f.StringVar(&z.ca, "zookeeper-ca", "", "with TLS: PEM `file` of the authorities that ZooKeeper's certificate is held to")
	f.StringVar(&z.cert, "zookeeper-cert", "", "with TLS: PEM `file` of this client's certificate")
	f.StringVar(&z.key, "zookeeper-key", "", "with TLS: PEM `file` of its key")
}

// waits is for commands that end by themselves.
func (z *centre) waits(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&z.timeout, "timeout", 10*time.Second, "how long ZooKeeper may take to answer")
}

// config is how to connect. Problems are usage errors.
func (z *centre) config(log *slog.Logger) (zookeeper.Config, error) {
	c := zookeeper.Config{Root: z.root, Log: log}
	for s := range strings.SplitSeq(z.servers, ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(s); err != nil {
			return c, usage("--zookeeper %q: want HOST:PORT,..., such as %s", z.servers, defaultZooKeeper)
		}
		c.Servers = append(c.Servers, s)
	}
	if len(c.Servers) == 0 {
		return c, usage("--zookeeper %q: want HOST:PORT,..., such as %s", z.servers, defaultZooKeeper)
	}
	c.Auth = os.Getenv("CAUSEWAY_ZOOKEEPER_AUTH")
	if z.authFile != "" {
		raw, err := os.ReadFile(z.authFile)
		if err != nil {
			return c, usage("--auth-file: %s", err)
		}
		c.Auth = strings.TrimSpace(string(raw))
	}
	if c.Auth != "" && !strings.Contains(c.Auth, ":") {
		return c, usage("want user:password in --auth-file, or in CAUSEWAY_ZOOKEEPER_AUTH")
	}
	if (z.cert == "") != (z.key == "") {
		return c, usage("give --zookeeper-cert and --zookeeper-key together")
	}
	if z.secure || z.ca != "" || z.cert != "" {
		var err error
		if c.TLS, err = z.tls(); err != nil {
			return c, usage("%s", err)
		}
	}
	return c, nil
}

// tls is what connections to ZooKeeper are held to; each has its server's name.
func (z *centre) tls() (*tls.Config, error) {
	cfg, err := certs.Client{CA: z.ca, Cert: z.cert, Key: z.key}.Config("", nil)
	if err == nil {
		cfg.NextProtos = nil
	}
	return cfg, err
}

// reach is a connection that a command waits for.
type reach struct {
	*zookeeper.Conn
	z       *centre
	servers []string
	began   time.Time
	give    context.CancelFunc // ends the wait

	mu      sync.Mutex
	refused map[string]int // connections in a row that a server has refused
}

// with connects, does something within the timeout, and ends the session. An error says where no ZooKeeper was found.
func (z *centre) with(ctx context.Context, do func(context.Context, *zookeeper.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, z.timeout)
	defer cancel()
	r, err := z.reach(cancel)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.explain(do(ctx, r.Conn))
}

// reach begins to connect. When all servers refuse connections it calls give long before any timeout.
func (z *centre) reach(give context.CancelFunc) (*reach, error) {
	cfg, err := z.config(nil)
	if err != nil {
		return nil, err
	}
	r := &reach{z: z, servers: cfg.Servers, began: time.Now(), give: give, refused: map[string]int{}}
	cfg.Dial = r.dial
	if r.Conn, err = zookeeper.Connect(cfg); err != nil {
		return nil, usage("%s", strings.TrimPrefix(err.Error(), "zookeeper: "))
	}
	return r, nil
}

func (r *reach) dial(ctx context.Context, address string) (net.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	r.mu.Lock()
	defer r.mu.Unlock()
	var unknown *net.DNSError
	if !errors.Is(err, syscall.ECONNREFUSED) && (!errors.As(err, &unknown) || !unknown.IsNotFound) {
		r.refused[address] = 0
		return nc, err
	}
	r.refused[address]++
	for _, s := range r.servers {
		if r.refused[s] < 2 {
			return nc, err
		}
	}
	r.give()
	return nc, err
}

// explain makes an error of ZooKeeper's one that a person can act on.
func (r *reach) explain(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, zookeeper.ErrDenied) {
		return &exitError{exitDenied, fmt.Errorf("%w; give --auth-file with the user:password that it was written with", clean(err))}
	}
	late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	why := r.Err()
	if !late || why == nil {
		return clean(err)
	}
	return unreachable(fmt.Errorf("no ZooKeeper answers at %s (tried for %v): %w; is --zookeeper right? For development, `causeway zk` runs one",
		strings.Join(r.servers, ", "), time.Since(r.began).Round(100*time.Millisecond), clean(why)))
}

// clean takes the package's name from the beginning of an error, which the command's own name precedes.
func clean(err error) error {
	text, has := strings.CutPrefix(err.Error(), "zookeeper: ")
	var coded *exitError
	if !has || errors.As(err, &coded) {
		return err
	}
	return errors.New(text)
}

// layouts are those that can be read by name.
func layouts() []string { return []string{"native", "dubbo", "curator", "kratos", "seed"} }

// layout finds the layout of a name.
func (z *centre) layout(name string) (zookeeper.Layout, error) {
	if z.root != "" && (!strings.HasPrefix(z.root, "/") || strings.HasSuffix(z.root, "/")) {
		return nil, usage("--root %q: want a node such as /causeway", z.root)
	}
	switch name {
	case "native":
		return zookeeper.Native{Root: z.root}, nil
	case "dubbo":
		return zookeeper.Dubbo{Root: z.root}, nil
	case "curator":
		return zookeeper.Curator{Root: z.root}, nil
	case "kratos":
		return zookeeper.Kratos{Root: z.root}, nil
	case "seed":
		return zookeeper.Seed{Root: z.root}, nil
	}
	return nil, usage("--layout %q: want %s%s", name, strings.Join(layouts(), ", "), schema.DidYouMean(name, layouts()))
}

func layoutFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "layout", "native", "how the nodes are laid out: "+strings.Join(layouts(), ", "))
}

// named reports whether somebody has said where ZooKeeper is.
func (z *centre) named(cmd *cobra.Command) bool {
	return os.Getenv("CAUSEWAY_ZOOKEEPER") != "" || cmd.Flags().Changed("zookeeper")
}

// notThere is the error for what ZooKeeper has not.
type notThere struct{ text string }

// Error is the text.
func (e *notThere) Error() string { return e.text }

func notThereErr(format string, args ...any) error { return &notThere{fmt.Sprintf(format, args...)} }

// unknownService is the error for a service that has no node at all.
func unknownService(ctx context.Context, conn *zookeeper.Conn, layout zookeeper.Layout, service string) error {
	names, err := conn.Services(ctx, layout)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return notThereErr("there is no service %q, and no other either; are --zookeeper, --root and --layout right?", service)
	}
	hint := schema.DidYouMean(service, names)
	if hint == "" {
		hint = "; `causeway service list` lists those that are"
	}
	return notThereErr("there is no service %q%s", service, hint)
}
