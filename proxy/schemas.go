package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoregistry"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/proxy/certs"
	"github.com/causeway-gateway/causeway/proxy/config"
	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// loaded is one schema of a snapshot.
type loaded struct {
	name    string
	digest  string // of the descriptor set; "" while nothing was pushed
	origin  string // where it came from, for people: "descriptor set orders.binpb", "pushed, version 3"
	version int    // of a pushed schema
	pushed  bool
	schema  *schema.Schema
	watch   []string  // files and folders it was read from
	stale   error     // why the source could not be read again; the former descriptors serve on
	outside []outside // HTTP rules kept outside the protos, in the order of their files
}

// reflectTimeout bounds asking a live server for its descriptors.
const reflectTimeout = 10 * time.Second

// loadSchema reads and compiles one schema of the document. former is the one that serves now, or nil: equal descriptors
// are not compiled again, and a live server that cannot be asked again leaves them in force.
func (b *builder) loadSchema(ctx context.Context, conf *configv1.Schema, former *loaded) (*loaded, error) {
	l := &loaded{name: conf.GetName()}
	var set *source.Set
	var err error
	limits := limitsOf(conf.GetLimits())
	switch src := conf.GetSource().(type) {
	case *configv1.Schema_DescriptorSet:
		l.origin = "descriptor set " + src.DescriptorSet
		set, err = source.DescriptorSetFile(src.DescriptorSet, limits)
	case *configv1.Schema_Proto:
		l.origin = "proto files " + strings.Join(src.Proto.GetPaths(), ", ")
		set, err = source.Proto(ctx, src.Proto.GetPaths(), src.Proto.GetImportRoots(), limits)
	case *configv1.Schema_Tars:
		l.origin = "tars files " + strings.Join(src.Tars.GetPaths(), ", ")
		set, err = source.Tars(ctx, src.Tars.GetPaths(), src.Tars.GetImportRoots(), src.Tars.GetPackage(), limits)
	case *configv1.Schema_Reflection:
		l.origin = "reflection from " + src.Reflection.GetAddress()
		set, err = reflectSet(ctx, src.Reflection, limits, b.log)
		if err != nil && former != nil && former.origin == l.origin {
			kept := *former
			kept.stale = err
			return &kept, nil
		}
	case *configv1.Schema_Pushed:
		l.pushed = true
		return b.loadPushed(l, former)
	default:
		return nil, fmt.Errorf("schema %q has no source", conf.GetName())
	}
	if err != nil {
		return nil, err
	}
	l.watch = set.Watch
	for _, w := range set.Warnings {
		b.log.Warn("code generators do not understand all of a schema alike", "schema", l.name, "at", w)
	}
	return l, l.compile(set, former)
}

// loadPushed takes the candidate of the push under way, else the active version of the store.
func (b *builder) loadPushed(l, former *loaded) (*loaded, error) {
	if set, ok := b.candidates[l.name]; ok {
		l.origin = "pushed"
		return l, l.compile(set, former)
	}
	if b.store != nil {
		set, version, ok, err := b.store.Active(l.name)
		if err != nil {
			return nil, err
		}
		if ok {
			l.pushedAs(version)
			return l, l.compile(set, former)
		}
	}
	l.origin = "nothing pushed so far"
	var err error
	l.schema, err = schema.New(new(protoregistry.Files))
	return l, err
}

// pushedAs says which version of the store the schema is.
func (l *loaded) pushedAs(v source.Version) {
	l.version, l.origin = v.Number, fmt.Sprintf("pushed, version %d", v.Number)
}

func (l *loaded) compile(set *source.Set, former *loaded) error {
	l.digest = set.Digest
	if former != nil && former.digest == set.Digest {
		l.schema = former.schema
		return nil
	}
	var err error
	l.schema, err = set.Schema()
	return err
}

func limitsOf(l *configv1.SchemaLimits) source.Limits {
	return source.Limits{
		MaxBytes:    l.GetMaxBytes(),
		MaxFiles:    int(l.GetMaxFiles()),
		MaxMessages: int(l.GetMaxMessages()),
		MaxFields:   int(l.GetMaxFields()),
		MaxNesting:  int(l.GetMaxNesting()),
	}
}

func reflectSet(ctx context.Context, r *configv1.ReflectionSource, limits source.Limits, log *slog.Logger) (*source.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, reflectTimeout)
	defer cancel()
	tlsConfig, err := clientTLS(r.GetTls(), r.GetAddress(), log)
	if err != nil {
		return nil, err
	}
	return source.Reflect(ctx, r.GetAddress(), tlsConfig, limits)
}

// clientTLS makes the TLS configuration of connections to address; nil in, nil out.
func clientTLS(t *configv1.ClientTLS, address string, log *slog.Logger) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return certs.Client{CA: t.GetCaFile(), Cert: t.GetCertFile(), Key: t.GetKeyFile(), ServerName: t.GetServerName()}.Config(host, certificateLog(t.GetCertFile(), log))
}

// fault places an error of a schema's source in the document.
func schemaFault(doc *config.Document, i int, conf *configv1.Schema, err error) *config.Fault {
	path := fmt.Sprintf("schemas[%d]", i)
	switch conf.GetSource().(type) {
	case *configv1.Schema_DescriptorSet:
		path += ".descriptor_set"
	case *configv1.Schema_Proto:
		path += ".proto"
	case *configv1.Schema_Tars:
		path += ".tars"
	case *configv1.Schema_Reflection:
		path += ".reflection"
	}
	return doc.Fault(path, "schema %q: %s", conf.GetName(), err)
}
