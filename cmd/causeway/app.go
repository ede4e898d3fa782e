package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/proxy/admin"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/proxy/telemetry"
	"github.com/causeway-gateway/causeway/proxy/upstream"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// app is one running gateway with its control listener and its watch over files.
type app struct {
	gateway *proxy.Gateway
	sinks   *telemetry.Sinks
	log     *slog.Logger
	token   string

	admin     *admin.Server
	adminAddr string
	adminDone chan struct{}
	stopWatch context.CancelFunc
	watching  sync.WaitGroup
}

// appOptions say how an app is made.
type appOptions struct {
	std  *proxy.Standard
	load func() (*config.Document, error)
	log  *slog.Logger
	// prepare is called with the store before the first load; the quick start puts its first schema there.
	prepare func(context.Context, *source.Store) error
	// adminFallback: when the admin address is taken, use a free one.
	adminFallback bool
	watch         bool
}

// startApp loads the configuration and serves it. The first document decides on the admin listener and the data
// directory; both stay until the process ends.
func startApp(ctx context.Context, o appOptions) (*app, error) {
	began := time.Now()
	first, err := o.load()
	if err != nil {
		return nil, err
	}
	o.load = fixedAdmin(first, o.load)
	a := &app{log: o.log, adminDone: make(chan struct{})}
	meter, err := telemetry.NewMeter()
	if err != nil {
		return nil, err
	}
	a.sinks, err = telemetry.NewSinks(meter, func(output string, err error) {
		if output != "stderr" {
			o.log.Error("log output fails; its lines are dropped and counted", "output", output, "error", err)
		}
	})
	if err != nil {
		return nil, err
	}
	conf := first.Config.GetAdmin()
	var store *source.Store
	if conf != nil {
		if store, err = source.OpenStore(filepath.Join(conf.GetDataDir(), "schemas")); err != nil {
			return nil, err
		}
		if a.token, err = adminToken(conf.GetToken(), conf.GetDataDir()); err != nil {
			return nil, err
		}
	}
	if o.prepare != nil {
		if err := o.prepare(ctx, store); err != nil {
			return nil, err
		}
	}
	a.gateway, err = proxy.New(proxy.Options{
		Standard: o.std, Load: o.load, Store: store, Shelf: upstream.NewShelf(filepath.Join(first.DataDir(), "discovery")), Meter: meter, Sinks: a.sinks, Log: o.log, Version: version,
		Memory: groupLimit(os.ReadFile), TuneMemory: collectWithin,
	})
	if err != nil {
		return nil, err
	}
	started := false
	defer func() {
		if !started {
			a.gateway.Shutdown(ctx, proxy.Stop{})
		}
	}()
	var ln net.Listener
	if conf != nil {
		if ln, err = listenAdmin(conf.GetAddress(), o.adminFallback); err != nil {
			return nil, err
		}
		if got := ln.Addr().String(); o.adminFallback && got != conf.GetAddress() {
			o.log.Warn("the admin listener has another address, for its own is taken; give --admin to choose", "wanted", conf.GetAddress(), "address", got)
		}
		a.adminAddr = ln.Addr().String()
		a.admin = admin.New(admin.Options{Gateway: a.gateway, Store: store, Metrics: meter.Handler(), Token: a.token, Log: o.log})
	}
	if err := a.gateway.Reload(ctx); err != nil {
		if ln != nil {
			_ = ln.Close() // it never served
		}
		return nil, err
	}
	if ln != nil {
		go a.serveAdmin(ln)
	}
	if o.watch {
		a.watch(began)
	}
	started = true
	return a, nil
}

// fixedAdmin refuses a configuration whose admin listener is not the one that runs: it stays until the process ends.
func fixedAdmin(first *config.Document, load func() (*config.Document, error)) func() (*config.Document, error) {
	return func() (*config.Document, error) {
		doc, err := load()
		if err == nil && !proto.Equal(doc.Config.GetAdmin(), first.Config.GetAdmin()) {
			err = config.Faults{doc.Fault("admin", "the admin listener cannot be changed while the gateway runs").WithFix("restart the gateway")}
		}
		return doc, err
	}
}

func (a *app) serveAdmin(ln net.Listener) {
	defer close(a.adminDone)
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("panic in the admin listener", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	if err := a.admin.Serve(ln); err != nil {
		a.log.Error("admin listener ended", "error", err)
	}
}

// reload puts changed files into force and says how it went.
func (a *app) reload(ctx context.Context) {
	before := a.gateway.Current().Revision
	if err := a.gateway.Reload(ctx); err != nil {
		a.log.Error("the changed configuration is refused; the former one serves on", "revision", before, "error", err.Error())
		return
	}
	a.log.Info("configuration in force", "revision", a.gateway.Current().Revision)
}

// watch reloads when a file that the configuration depends on changes, or has since it was first read.
func (a *app) watch(since time.Time) {
	ctx, cancel := context.WithCancel(context.Background())
	a.stopWatch = cancel
	a.watching.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				a.log.Error("panic while watching files; changes are not seen any more", "panic", r, "stack", string(debug.Stack()))
			}
		}()
		w := config.Watcher{Files: a.gateway.Files, Changed: func() { a.reload(ctx) }, Since: since, Warn: func(err error) {
			a.log.Warn("changes of files are found by looking every few seconds, not at once", "error", err)
		}}
		if err := w.Run(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("files cannot be watched; restart the gateway to put changes into force", "error", err)
		}
	})
}

// stop ends everything, gracefully until hurry ends.
func (a *app) stop(hurry context.Context, stop proxy.Stop) {
	if a.stopWatch != nil {
		a.stopWatch()
	}
	a.gateway.Shutdown(hurry, stop)
	a.watching.Wait()
	if a.admin != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := a.admin.Shutdown(ctx); err != nil {
			a.log.Warn("admin calls were cut at the end", "error", err)
		}
		<-a.adminDone
	}
}

// listenAdmin binds the control listener; with fallback a taken address gives way to a free port.
func listenAdmin(address string, fallback bool) (net.Listener, error) {
	ln, err := net.Listen("tcp", address) //nolint:noctx // binding does not wait
	if err != nil && fallback {
		ln, err = net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // as above
	}
	if err != nil {
		return nil, fmt.Errorf("admin: %w; name another address with admin.address", err)
	}
	return ln, nil
}

// tokenFile is where a token that the gateway made is kept, in the data directory.
const tokenFile = "admin.token"

// adminToken is the configured token, else the one kept in the data directory, else a new one that is kept there.
func adminToken(configured, dataDir string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	path := filepath.Join(dataDir, tokenFile)
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if err == nil {
		if token := strings.TrimSpace(string(raw)); token != "" {
			return token, nil
		}
		return "", fmt.Errorf("%s is empty: remove it, and a token is made at the next start", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var b [24]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	token := hex.EncodeToString(b[:])
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dataDir, tokenFile+"-") // with mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(token + "\n")
	// Linked, not renamed: a gateway that starts at the same time keeps the token it has made.
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	return token, errors.Join(err, os.Remove(f.Name()))
}
