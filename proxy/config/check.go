package config

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// checker looks at the values of a configuration. Paths are those of the document, so that each fault finds its place.
type checker struct {
	doc     *Document
	types   Types // nil Plugins: their names are not checked
	faults  Faults
	schemas names
	service names
	lookups names                      // registries
	kinds   map[string]string          // of registries: "zookeeper"
	subsets map[string]map[string]bool // of services, by their names
}

// names are the named things of one list.
type names struct {
	at      map[string]string // name -> path of the thing that has it first
	partial bool              // some could not be read: nothing is said about what is missing
}

func (n names) list() []string { return slices.Sorted(maps.Keys(n.at)) }

// check reports what is wrong with the values of c. What could not be read is not reported as missing as well.
func check(d *Document, c *configv1.Config, types Types) Faults {
	k := &checker{doc: d, types: types}
	k.listeners(c)
	k.admin(c.GetAdmin())
	k.schemas = collect(k, "schemas", c.GetSchemas())
	k.service = collect(k, "services", c.GetServices())
	collect(k, "routes", c.GetRoutes())
	collect(k, "consumers", c.GetConsumers())
	collect(k, "stores", c.GetStores())
	k.lookups = collect(k, "registries", c.GetRegistries())
	k.kinds, k.subsets = map[string]string{}, map[string]map[string]bool{}
	for i, r := range c.GetRegistries() {
		k.registry(item("registries", i), r)
	}
	for i, s := range c.GetSchemas() {
		k.schema(item("schemas", i), s)
	}
	for i, s := range c.GetServices() {
		k.upstream(item("services", i), s)
	}
	for i, r := range c.GetRoutes() {
		k.route(item("routes", i), r)
	}
	k.plugins("plugins", c.GetPlugins())
	k.defaults("defaults", c.GetDefaults())
	for i, u := range c.GetConsumers() {
		k.consumer(item("consumers", i), u)
	}
	for i, s := range c.GetStores() {
		k.store(item("stores", i), s)
	}
	k.networks("trusted_proxies", c.GetTrustedProxies())
	k.networks("outbound.allow", c.GetOutbound().GetAllow())
	k.telemetry("telemetry", c.GetTelemetry())
	l := c.GetLimits()
	k.limit("limits.translation_bytes", l.GetTranslationBytes(), math.MaxInt64)
	k.limit("limits.connections", l.GetConnections(), math.MaxInt32)
	k.limit("limits.streams", l.GetStreams(), math.MaxInt32)
	k.limit("limits.memory_bytes", l.GetMemoryBytes(), math.MaxInt64)
	return k.faults
}

func item(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// fault notes a fault at a path; fix says what mends it.
func (k *checker) fault(path, fix, format string, args ...any) *Fault {
	at, _ := k.doc.root.find(path)
	f := at.where().fault(path, prefixed(path, fmt.Sprintf(format, args...)))
	f.Fix = fix
	k.faults = append(k.faults, f)
	return f
}

// at is the place of a path, when the document has one.
func (k *checker) at(path string) *place {
	if p, ok := k.doc.root.find(path); ok {
		return p
	}
	return nil
}

// failed reports whether the value was there but could not be read.
func (k *checker) failed(path string) bool {
	p, ok := k.doc.root.find(path)
	return p.failed && (ok || p.parent != nil)
}

// tried reports whether the value was there, or something in it, but could not be read.
func (k *checker) tried(path string) bool {
	p, ok := k.doc.root.find(path)
	return k.failed(path) || ok && slices.ContainsFunc(p.kids, func(kid *place) bool { return kid.failed })
}

// written reports whether the document has the value, even as an empty one.
func (k *checker) written(path string) bool {
	p := k.at(path)
	return p != nil && p.file != nil
}

// show quotes a value for a message, or masks it.
func (k *checker) show(path, value string) string {
	if p := k.at(path); p != nil && p.secret {
		return mask
	}
	return strconv.Quote(abridge(value))
}

// suggest is fix, unless the value is one that may not be shown.
func (k *checker) suggest(path, fix string) string {
	if p := k.at(path); p != nil && p.secret {
		return hiddenFix
	}
	return fix
}

// missing notes that a value is wanted, unless it was there and could not be read.
func (k *checker) missing(path, field, fix string) {
	full := path + "." + field
	switch {
	case k.failed(full):
	case k.written(full):
		k.fault(full, fix, "wanted a value, found an empty one")
	default:
		k.fault(path, fix, "no %s", field)
	}
}

// where tells the position of a path for the message of another fault: " (causeway.yaml:3:11)".
func (k *checker) where(path string) string {
	at, _ := k.doc.root.find(path)
	if s := at.where(); s.file != nil && s.line > 0 {
		return " (" + s.String() + ")"
	}
	return ""
}

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

const nameRule = "write 1 to 63 of a-z, 0-9, _, . and -, a letter or digit first"

// collect checks the names of a list and gives them.
func collect[T interface{ GetName() string }](k *checker, path string, items []T) names {
	n := names{at: map[string]string{}, partial: k.failed(path)}
	for i, it := range items {
		at := item(path, i)
		name := it.GetName()
		full := at + ".name"
		if k.failed(at) || k.failed(full) {
			n.partial = true
			continue
		}
		if name == "" {
			k.missing(at, "name", nameRule)
			n.partial = true
			continue
		}
		if !validName.MatchString(name) {
			fix := nameRule
			if near := nearestName(name); near != "" {
				fix += ": " + near
			}
			k.fault(full, k.suggest(full, fix), "%s is not a name", k.show(full, name))
		}
		if first, ok := n.at[name]; ok {
			k.fault(full, "give each its own name", "%s is the name of %s already%s", k.show(full, name), first, k.where(first+".name"))
			continue
		}
		n.at[name] = at
	}
	return n
}

// nearestName turns what was written into a name.
func nearestName(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
		return ""
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_', r == '.', r == '-':
			return r
		case r == ' ' || r == '/' || r == ':':
			return '-'
		default:
			return -1
		}
	}, strings.ToLower(s))
	s = strings.TrimLeft(s, "_.-")
	return s[:min(len(s), 63)]
}

// reference checks that a name stands for something; kind is "service", "schema" or "registry".
func (k *checker) reference(path, kind, name string, known names) {
	if name == "" || known.at[name] != "" || known.partial || k.failed(path) {
		return
	}
	all := known.list()
	near := schema.DidYouMean(name, all)
	if k.show(path, name) == mask {
		near = ""
	}
	fix := "name one of: " + list(k.visible(all, known))
	if len(all) == 0 {
		fix = "add it under `" + plural(kind) + "`"
	}
	k.fault(path, fix, "unknown %s %s%s", kind, k.show(path, name), near)
}

func plural(kind string) string {
	if cut, ok := strings.CutSuffix(kind, "y"); ok {
		return cut + "ies"
	}
	return kind + "s"
}

// visible leaves out names that came from ${...}.
func (k *checker) visible(all []string, known names) []string {
	return slices.DeleteFunc(slices.Clone(all), func(n string) bool {
		p := k.at(known.at[n] + ".name")
		return p != nil && p.secret
	})
}

// maxTimeout bounds timeouts: a longer one is a mistake of units, and holds resources of callers that are long gone.
const maxTimeout = time.Hour

func (k *checker) timeout(path string, d *durationpb.Duration) { k.between(path, d, maxTimeout) }

// callTimeout is timeout for the keys where 0s means none.
func (k *checker) callTimeout(path string, d *durationpb.Duration) {
	if d.GetSeconds() != 0 || d.GetNanos() != 0 {
		k.timeout(path, d)
	}
}

// between checks that a time is more than nothing and at most so much.
func (k *checker) between(path string, d *durationpb.Duration, most time.Duration) {
	if d == nil || k.failed(path) {
		return
	}
	t := time.Duration(math.MaxInt64)
	if d.GetSeconds() < int64(math.MaxInt64/time.Second) {
		t = d.AsDuration()
	}
	switch {
	case t <= 0:
		k.fault(path, "write a time above 0s, or remove the key for the default", "wanted more than 0s, found %s", k.shown(path, secondsText(t)))
	case t > most:
		k.fault(path, "write at most "+secondsText(most), "wanted at most "+secondsText(most)+", found %s", k.shown(path, strconv.FormatInt(d.GetSeconds(), 10)+"s"))
	}
}

// shown is text, or the mask.
func (k *checker) shown(path, text string) string {
	if p := k.at(path); p != nil && p.secret {
		return mask
	}
	return text
}

// limit checks a bound; 0 takes the default.
func (k *checker) limit(path string, n, most int64) {
	if n < 0 {
		k.fault(path, "write 0 for the default, or a positive number", "wanted at least 0, found %s", k.shown(path, strconv.FormatInt(n, 10)))
	} else if n > most {
		k.fault(path, "write a smaller number", "wanted at most %d, found %s", most, k.shown(path, strconv.FormatInt(n, 10)))
	}
}

// file checks a path to a file or folder.
func (k *checker) file(path, value string) {
	switch {
	case k.failed(path):
	case value == "" && k.written(path):
		k.fault(path, "name a file, or remove the key", "wanted a path, found an empty one")
	case strings.HasPrefix(value, "~"):
		k.fault(path, k.suggest(path, "write ${HOME}"+strings.TrimPrefix(value, "~")), "a path cannot begin with ~")
	case strings.Contains(value, "://"):
		k.fault(path, "write a path; only local files are read", "wanted a path, found the URL %s", k.show(path, value))
	case strings.ContainsRune(value, 0):
		k.fault(path, "remove the NUL character", "a path cannot hold a NUL character")
	}
}

func (t Messages) names() []string { return slices.Sorted(maps.Keys(t)) }
