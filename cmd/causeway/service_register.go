package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/registry"
	"github.com/causeway-gateway/causeway/registry/zookeeper"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// registerFlags are the flags of `causeway service register`.
type registerFlags struct {
	service  string
	endpoint registry.Endpoint
	region   string
	version  string
	meta     []string
	check    check
	interval time.Duration
	hold     bool
	beat     time.Duration
	session  time.Duration
	drain    time.Duration
	grace    time.Duration
	log      string
}

func serviceRegister(z *centre) *cobra.Command {
	var f registerFlags
	cmd := &cobra.Command{
		Use:   "register --service NAME --address HOST:PORT --check KIND [-- COMMAND ARGS...]",
		Short: "Register an instance of a program in any language, for as long as this command runs",
		Long: `Register an instance for as long as this command runs: beside the program, as a sidecar, or, with -- COMMAND, around it.

The instance's status follows the check: "starting" until it has passed once, "down" while it fails. With --hold the
instance is in ZooKeeper only while the check passes: nothing is there before the first success, it is taken out when the
check fails, and put back when it passes again. That is for readers who count nodes and know no status, and for a new
process that must not take its predecessor's place before it works.

SIGTERM or SIGINT marks the instance as draining, waits for the drain window so that gateways hear it, and takes the
instance out; a second signal ends the window at once. A ZooKeeper that is down ends nothing: the command goes on trying.

With -- COMMAND the program runs as a child. SIGTERM and SIGINT come to it as SIGTERM after the instance is out, and
SIGKILL after the grace period; other signals are handed on. When the program ends, the instance is taken out, and this
command ends with the program's exit code, or 128 and the number of the signal that ended it. In a container that is the
whole entry point: causeway service register ... -- /app/server (with an init, such as docker run --init, when the
program leaves processes of its own behind).`,
		Example: `  causeway service register --service shop.v1.OrderService --address 10.0.3.7:9000 --check grpc
  causeway service register --service shop.v1.OrderService --address $POD_IP:9000 --check grpc --check-address 127.0.0.1:9000 -- /app/server
  causeway service register --service shop.web --address 10.0.3.7:8080 --protocol http --check http --check-path /healthz --hold`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return usage("found %q: a program to run stands behind --; see %s --help", args[0], cmd.CommandPath())
			}
			if err := f.complete(); err != nil {
				return err
			}
			return f.run(cmd, z, args)
		},
	}
	cmd.Flags().StringVar(&f.service, "service", "", "the full `name` that callers know the service by, such as shop.v1.OrderService")
	cmd.Flags().StringVar(&f.endpoint.Address, "address", "", "`address` at which gateways reach the instance, HOST:PORT")
	cmd.Flags().StringVar(&f.check.kind, "check", "", "grpc (grpc.health.v1), http, tcp or none: what says whether the instance is well")
	cmd.Flags().StringVar(&f.check.address, "check-address", "", "`address` to check; that of --address by default")
	cmd.Flags().StringVar(&f.check.path, "check-path", "/", "with --check http: the path, which answers 200 to 399")
	cmd.Flags().StringVar(&f.check.service, "check-service", "", "with --check grpc: the service to ask for; by default the server as a whole")
	cmd.Flags().IntVar(&f.check.failures, "check-failures", 2, "failed checks in a row after which the instance is down")
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, "how often to check; a check may take that long, but always 1s")
	cmd.Flags().BoolVar(&f.hold, "hold", false, "be in ZooKeeper only while the check passes")
	cmd.Flags().StringVar(&f.endpoint.ID, "id", "", "of this instance, the same over its restarts; HOST-PORT by default")
	cmd.Flags().Uint32Var(&f.endpoint.Weight, "weight", 100, "its share of calls, against the others'")
	cmd.Flags().StringVar(&f.endpoint.Zone, "zone", "", "where it runs, such as bj-a")
	cmd.Flags().StringVar(&f.region, "region", "", "where it runs, such as cn-north")
	cmd.Flags().StringVar(&f.version, "version", "", "of the program, such as 1.8.2")
	cmd.Flags().StringArrayVar(&f.meta, "meta", nil, "`key=value` of its metadata; may be repeated")
	cmd.Flags().StringVar(&f.endpoint.Protocol, "protocol", "grpc", "what it speaks at its address")
	cmd.Flags().BoolVar(&f.endpoint.TLS, "tls", false, "it speaks it over TLS; checks then do, too")
	cmd.Flags().DurationVar(&f.beat, "beat", 0, "how often to write a beat; 0 is never: the session is the heartbeat")
	cmd.Flags().DurationVar(&f.session, "session", 6*time.Second, "how long the instance stays in ZooKeeper when this command is killed")
	cmd.Flags().DurationVar(&f.drain, "drain", 5*time.Second, "the drain window: how long gateways have to hear that it is draining; 0 is none")
	cmd.Flags().DurationVar(&f.grace, "grace", 30*time.Second, "with -- COMMAND: how long the program may take to end after SIGTERM")
	cmd.Flags().StringVar(&f.log, "log-format", "auto", "auto, text or json: of the log on standard error")
	return cmd
}

// complete checks the flags and fills in what follows from others.
func (f *registerFlags) complete() error {
	switch {
	case f.service == "":
		return usage("give --service: the name that callers know the service by")
	case f.endpoint.Address == "":
		return usage("give --address: HOST:PORT at which gateways reach the instance")
	case f.check.kind == "":
		return usage("give --check grpc, http or tcp, so that calls come only while the instance answers, or --check none")
	case !slices.Contains(checkKinds(), f.check.kind):
		return usage("--check %q: want %s%s", f.check.kind, strings.Join(checkKinds(), ", "), schema.DidYouMean(f.check.kind, checkKinds()))
	case f.check.kind == "none" && f.hold:
		return usage("--hold needs a check: give --check grpc, http or tcp")
	case f.endpoint.Weight == 0:
		return usage("--weight 0: want 1 or more; to keep calls away use `causeway service drain`")
	case f.interval < 100*time.Millisecond:
		return usage("--interval %v: want 100ms or more", f.interval)
	case f.check.failures < 1:
		return usage("--check-failures %d: want 1 or more", f.check.failures)
	case f.beat != 0 && f.beat < time.Second:
		return usage("--beat %v: want 1s or more, or 0 for none", f.beat)
	case f.drain < 0 || f.grace < 0:
		return usage("--drain %v, --grace %v: want no less than 0", f.drain, f.grace)
	case f.session < time.Second:
		return usage("--session %v: want 1s or more", f.session)
	}
	f.endpoint.Meta = map[string]string{}
	for _, m := range f.meta {
		key, value, found := strings.Cut(m, "=")
		if !found || key == "" {
			return usage("--meta %q: want KEY=VALUE", m)
		}
		if slices.Contains([]string{"version", "region", "schema"}, key) {
			return usage("--meta %q: %s has a place of its own%s", m, key, ownFlag(key))
		}
		f.endpoint.Meta[key] = value
	}
	for key, value := range map[string]string{"version": f.version, "region": f.region} {
		if value != "" {
			f.endpoint.Meta[key] = value
		}
	}
	if err := zookeeper.Valid(f.service, f.endpoint); err != nil {
		return usage("%s", clean(err))
	}
	f.check.address, f.check.secure = cmp.Or(f.check.address, f.endpoint.Address), f.endpoint.TLS
	if _, _, err := net.SplitHostPort(f.check.address); err != nil {
		return usage("--check-address %q: want HOST:PORT", f.check.address)
	}
	return nil
}

func ownFlag(key string) string {
	if key == "schema" {
		return " in the node"
	}
	return ": give --" + key
}

// sidecar is one run of `causeway service register`.
type sidecar struct {
	f       *registerFlags
	log     *slog.Logger
	conn    *zookeeper.Conn
	signals chan os.Signal
	child   *child // nil: the program is somebody else's
	began   time.Time
	checked atomic.Pointer[error] // how the last check ended; nil: none has so far
}

// ask is the check, as the registrar asks it.
func (s *sidecar) ask(ctx context.Context) error {
	err := s.f.check.ask(ctx)
	s.checked.Store(&err)
	return err
}

// unwell is why an instance that is registered takes no calls by its own check.
func (s *sidecar) unwell() error {
	if s.f.check.prober == nil {
		return nil
	}
	if last := s.checked.Load(); last != nil {
		return *last
	}
	return errors.New("the check has not answered so far")
}

func (f *registerFlags) run(cmd *cobra.Command, z *centre, program []string) error {
	log, err := newLogger(cmd.ErrOrStderr(), f.log)
	if err != nil {
		return err
	}
	cfg, err := z.config(log)
	if err != nil {
		return err
	}
	cfg.Session = f.session
	s := &sidecar{f: f, log: log, signals: make(chan os.Signal, 16), began: time.Now()}
	wanted := []os.Signal{syscall.SIGTERM, os.Interrupt}
	if len(program) > 0 {
		wanted = append(wanted, forwarded()...)
	}
	signal.Notify(s.signals, wanted...)
	defer signal.Stop(s.signals)
	if err := f.check.open(); err != nil {
		return err
	}
	defer f.check.close()
	if s.conn, err = zookeeper.Connect(cfg); err != nil {
		return usage("%s", clean(err))
	}
	defer s.conn.Close()
	if len(program) > 0 {
		if s.child, err = startChild(program); err != nil {
			return err
		}
	}
	return s.run(cmd.Context())
}

// registered is how the first registration ended.
type registered struct {
	lease registry.Lease
	err   error
}

// run registers, and goes on until a signal or the program's end.
func (s *sidecar) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first := make(chan registered, 1)
	go func() {
		r := &zookeeper.Registrar{Conn: s.conn, Window: s.f.drain, HealthEvery: s.f.interval, Hold: s.f.hold, Beat: s.f.beat}
		if s.f.check.prober != nil {
			r.Health = s.ask
		}
		lease, err := r.Register(ctx, s.f.service, s.f.endpoint)
		first <- registered{lease, err}
	}()
	// Who is not registered yet is told why, at first soon; so is who is, while the check does not pass.
	reminder := time.NewTimer(3 * time.Second)
	defer reminder.Stop()
	var lease registry.Lease
	for {
		select {
		case r := <-first:
			if r.err != nil {
				s.endChild(os.Kill)
				return clean(r.err)
			}
			lease = r.lease
			said := "registered"
			if s.f.hold {
				said = "registered while the check passes"
			}
			s.log.Info(said, "service", s.f.service, "address", s.f.endpoint.Address, "check", s.f.check.kind)
		case <-reminder.C:
			reminder.Reset(30 * time.Second)
			since := time.Since(s.began).Round(time.Second).String()
			if lease == nil {
				s.log.Warn("not registered yet, going on", "for", since, "error", s.conn.Err())
			} else if err := s.unwell(); err != nil {
				s.log.Warn("gateways send no calls: the check does not pass", "service", s.f.service, "address", s.f.endpoint.Address, "error", err)
			}
		case sig := <-s.signals:
			if sig != syscall.SIGTERM && sig != os.Interrupt {
				s.child.tell(sig)
				continue
			}
			if lease == nil {
				cancel() // a registration that comes to its end all the same is taken back below
				r := <-first
				lease = r.lease
			}
			return s.stop(lease, sig)
		case <-s.over():
			cancel()
			if lease == nil {
				r := <-first
				lease = r.lease
			}
			_ = s.withdraw(lease) // it is logged, and what the program said comes first
			return s.child.result()
		}
	}
}

// over is closed when the program has ended.
func (s *sidecar) over() <-chan struct{} {
	if s.child == nil {
		return nil
	}
	return s.child.ended
}

// stop drains, takes the instance out, and ends the program, in this order.
func (s *sidecar) stop(lease registry.Lease, sig os.Signal) error {
	var fault error
	if own, is := lease.(*zookeeper.Lease); is && (s.f.drain == 0 || own.Status() == registry.Starting) {
		fault = s.withdraw(lease) // without a wait: none is wanted, or nobody has sent it calls
	} else if lease != nil {
		s.log.Info("draining; a second signal ends the wait", "signal", sig.String(), "window", s.f.drain.String())
		ctx, hurry := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer hurry()
			for {
				select {
				case again := <-s.signals:
					if again == syscall.SIGTERM || again == os.Interrupt {
						return
					}
					s.child.tell(again)
				case <-s.over():
					return
				case <-done:
					return
				}
			}
		}()
		// What was interrupted was told to, and is no fault.
		if err := lease.Drain(ctx); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Warn("gateways were not told", "error", err)
			fault = clean(err)
		}
		close(done)
		<-ctx.Done()
		if err := s.withdraw(lease); err != nil {
			fault = err
		}
	}
	if s.child == nil {
		return fault
	}
	s.endChild(syscall.SIGTERM)
	return s.child.result()
}

// withdraw takes the instance out at once.
func (s *sidecar) withdraw(lease registry.Lease) error {
	if lease == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // the node goes with the session anyway
	defer cancel()
	if err := lease.Close(ctx); err != nil {
		s.log.Warn("the instance is left to expire", "session", s.f.session.String(), "error", err)
		return clean(err)
	}
	s.log.Info("withdrawn", "service", s.f.service, "address", s.f.endpoint.Address)
	return nil
}

// endChild sends a signal to the program and waits for its end; a further SIGTERM or SIGINT is handed on, and the grace
// period ends in SIGKILL.
func (s *sidecar) endChild(sig os.Signal) {
	if s.child == nil {
		return
	}
	s.child.tell(sig)
	grace := time.NewTimer(s.f.grace)
	defer grace.Stop()
	for {
		select {
		case <-s.child.ended:
			return
		case again := <-s.signals:
			s.child.tell(again)
		case <-grace.C:
			s.log.Warn("the program has not ended in time and is killed", "grace", s.f.grace.String())
			s.child.tell(os.Kill)
		}
	}
}
