package config

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
)

// What a document does not say.
const (
	defaultAdmin       = "127.0.0.1:8081"
	defaultDataDir     = ".causeway"
	defaultAdapter     = "grpc"
	defaultProtocol    = "http"
	defaultDialTimeout = 3 * time.Second
	defaultTimeout     = 15 * time.Second
	defaultStreamIdle  = 300 * time.Second
	defaultMaxMessage  = 4 << 20
	defaultMaxBody     = 4 << 20
	defaultTranslation = 256 << 20
	defaultStreams     = 100_000

	defaultStoreTimeout = 20 * time.Millisecond
	defaultOTLPInterval = 15 * time.Second
	defaultOTLPTimeout  = 10 * time.Second

	defaultMaxBytes    = 16 << 20
	defaultMaxFiles    = 5_000
	defaultMaxMessages = 50_000
	defaultMaxFields   = 500_000
	defaultMaxNesting  = 32
)

// finish fills in the defaults, joins relative paths with the folder, and writes hosts in lower case.
func (d *Document) finish() {
	c := d.Config
	if a := c.GetAdmin(); a != nil {
		setDefault(&a.Address, defaultAdmin)
		setDefault(&a.DataDir, defaultDataDir)
		a.DataDir = resolvePath(d.Dir, a.DataDir)
	}
	for _, l := range c.GetListen() {
		setDefault(&l.Protocol, defaultProtocol)
		if t := l.GetTls(); t != nil {
			d.resolve(&t.CertFile, &t.KeyFile, &t.ClientCaFile)
		}
	}
	for _, s := range c.GetSchemas() {
		d.finishSchema(s)
	}
	for _, s := range c.GetServices() {
		setDefault(&s.Adapter, defaultAdapter)
		setDefault(&s.MaxMessage, defaultMaxMessage)
		if s.GetDialTimeout() == nil {
			s.DialTimeout = durationpb.New(defaultDialTimeout)
		}
		d.resolveTLS(s.GetTls())
		finishService(s)
	}
	for _, r := range c.GetRegistries() {
		d.resolveTLS(r.GetZookeeper().GetTls())
		d.resolveTLS(r.GetTars().GetTls())
		finishRegistry(r)
	}
	if c.GetDefaults() == nil {
		c.Defaults = &configv1.Defaults{}
	}
	if c.GetLimits() == nil {
		c.Limits = &configv1.Limits{}
	}
	setDefault(&c.GetLimits().TranslationBytes, defaultTranslation)
	setDefault(&c.GetLimits().Streams, defaultStreams)
	for _, s := range c.GetStores() {
		if r := s.GetRedis(); r != nil {
			setDefault(&r.Timeout, durationpb.New(defaultStoreTimeout))
			d.resolveTLS(r.GetTls())
		}
	}
	if o := c.GetTelemetry().GetOtlp(); o != nil {
		setDefault(&o.Protocol, "grpc")
		setDefault(&o.Interval, durationpb.New(defaultOTLPInterval))
		setDefault(&o.Timeout, durationpb.New(defaultOTLPTimeout))
		if len(o.GetSignals()) == 0 {
			o.Signals = []string{"traces", "metrics"}
		}
		d.resolveTLS(o.GetTls())
	}
	all := c.GetDefaults()
	setDefault(&all.MaxBody, defaultMaxBody)
	if all.GetTimeout() == nil {
		all.Timeout = durationpb.New(defaultTimeout)
	}
	setDefault(&all.Json, &configv1.JSONOptions{})
	setDefault(&all.Rest, &configv1.RESTOptions{})
	setDefault(&all.Stream, &configv1.StreamOptions{})
	setDefault(&all.Stream.IdleTimeout, durationpb.New(defaultStreamIdle))
	retries := map[string]*configv1.Retry{}
	for _, s := range c.GetServices() {
		retries[s.GetName()] = s.GetRetry()
	}
	for _, r := range c.GetRoutes() {
		finishRetry(r.GetRetry(), retries[r.GetService()])
		setDefault(&r.MaxBody, all.GetMaxBody())
		setDefault(&r.Timeout, all.GetTimeout())
		setDefault(&r.Json, all.GetJson())
		setDefault(&r.Rest, all.GetRest())
		setDefault(&r.Stream, all.GetStream())
		setDefault(&r.Stream.IdleTimeout, all.GetStream().GetIdleTimeout())
		setDefault(&r.Stream.MaxAge, all.GetStream().GetMaxAge())
		r.RequestHeaders = added(all.GetRequestHeaders(), r.GetRequestHeaders())
		r.ResponseHeaders = added(all.GetResponseHeaders(), r.GetResponseHeaders())
		for i, h := range r.GetHosts() {
			r.Hosts[i] = strings.ToLower(h)
		}
	}
}

// DataDir is the folder where the gateway keeps what has to outlive it: that of the admin listener, or the default one where
// there is none.
func (d *Document) DataDir() string {
	if dir := d.Config.GetAdmin().GetDataDir(); dir != "" {
		return dir
	}
	return resolvePath(d.Dir, defaultDataDir)
}

func (d *Document) finishSchema(s *configv1.Schema) {
	switch src := s.GetSource().(type) {
	case *configv1.Schema_DescriptorSet:
		d.resolve(&src.DescriptorSet)
	case *configv1.Schema_Proto:
		for i := range src.Proto.GetPaths() {
			d.resolve(&src.Proto.Paths[i])
		}
		for i := range src.Proto.GetImportRoots() {
			d.resolve(&src.Proto.ImportRoots[i])
		}
	case *configv1.Schema_Tars:
		for i := range src.Tars.GetPaths() {
			d.resolve(&src.Tars.Paths[i])
		}
		for i := range src.Tars.GetImportRoots() {
			d.resolve(&src.Tars.ImportRoots[i])
		}
	case *configv1.Schema_Reflection:
		d.resolveTLS(src.Reflection.GetTls())
	}
	for i := range s.GetHttpRules() {
		d.resolve(&s.HttpRules[i])
	}
	if s.GetLimits() == nil {
		s.Limits = &configv1.SchemaLimits{}
	}
	l := s.GetLimits()
	setDefault(&l.MaxBytes, defaultMaxBytes)
	setDefault(&l.MaxFiles, defaultMaxFiles)
	setDefault(&l.MaxMessages, defaultMaxMessages)
	setDefault(&l.MaxFields, defaultMaxFields)
	setDefault(&l.MaxNesting, defaultMaxNesting)
}

func (d *Document) resolveTLS(t *configv1.ClientTLS) {
	if t != nil {
		d.resolve(&t.CaFile, &t.CertFile, &t.KeyFile)
	}
}

func (d *Document) resolve(paths ...*string) {
	for _, p := range paths {
		if *p != "" {
			*p = filepath.Clean(resolvePath(d.Dir, *p))
		}
	}
}

// added is a list with another's items behind it, each once.
func added(list, more []string) []string {
	out := slices.Clone(list)
	for _, s := range more {
		if !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, s) }) {
			out = append(out, s)
		}
	}
	return out
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
