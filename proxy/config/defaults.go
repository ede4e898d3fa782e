package config

import (
	"path/filepath"
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
	defaultDialTimeout = 3 * time.Second
	defaultTimeout     = 15 * time.Second
	defaultMaxMessage  = 4 << 20
	defaultMaxBody     = 4 << 20

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
	}
	for _, r := range c.GetRoutes() {
		setDefault(&r.MaxBody, defaultMaxBody)
		if r.GetTimeout() == nil {
			r.Timeout = durationpb.New(defaultTimeout)
		}
		for i, h := range r.GetHosts() {
			r.Hosts[i] = strings.ToLower(h)
		}
	}
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
	case *configv1.Schema_Reflection:
		d.resolveTLS(src.Reflection.GetTls())
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

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
