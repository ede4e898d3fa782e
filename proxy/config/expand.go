package config

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/causeway-gateway/causeway/transcode/schema"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} by the environment variable and ${file:PATH} by the file's content without one newline at its
// end; $${ stands for ${. What is put in is not read again. A value with a reference is secret from then on.
func (r *reader) expand(n *yaml.Node, at *place) (string, bool) {
	s := n.Value
	if !strings.Contains(s, "${") {
		return s, true
	}
	var b strings.Builder
	good := true
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		if end < 0 {
			r.fault(at.where(), at.path(), "${ without its }").WithFix("close it, or write $${ where ${ is meant as text")
			good = false
			break
		}
		value, ok := r.reference(s[i+2:i+end], at)
		good = good && ok
		if ok {
			at.secret = true
			r.doc.hide(value)
		}
		b.WriteString(value)
		s = s[i+end+1:]
	}
	if !good {
		at.failed = true
		return "", false
	}
	b.WriteString(s)
	if at.secret {
		r.doc.hide(b.String())
	}
	return b.String(), true
}

func (d *Document) hide(secret string) {
	if secret != "" {
		d.secrets = append(d.secrets, secret)
	}
}

// reference gives what NAME or file:PATH stands for.
func (r *reader) reference(ref string, at *place) (string, bool) {
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		return r.secretFile(path, at)
	}
	if !envName.MatchString(ref) {
		f := r.fault(at.where(), at.path(), "wanted ${NAME} or ${file:PATH}, found %q", "${"+abridge(ref)+"}")
		if name, _, ok := strings.Cut(ref, ":"); ok && envName.MatchString(name) {
			f.WithFix("there are no default values; write ${" + name + "} and set the variable")
		} else {
			f.WithFix("name a variable with A-Z, a-z, 0-9 and _, or write $${ where ${ is meant as text")
		}
		return "", false
	}
	value, ok := os.LookupEnv(ref)
	if !ok {
		names := map[string]bool{}
		for _, kv := range os.Environ() {
			name, _, _ := strings.Cut(kv, "=")
			names[name] = true
		}
		r.fault(at.where(), at.path(), "the environment variable %s is not set%s", ref,
			schema.DidYouMean(ref, slices.Sorted(maps.Keys(names)))).
			WithFix("set " + ref + " before the gateway starts, or write $${ where ${ is meant as text")
		return "", false
	}
	if !utf8.ValidString(value) {
		r.fault(at.where(), at.path(), "the environment variable %s is not UTF-8 text", ref).WithFix("set it to UTF-8 text")
		return "", false
	}
	return value, true
}

func (r *reader) secretFile(path string, at *place) (string, bool) {
	full := resolvePath(r.doc.Dir, path)
	if !slices.Contains(r.doc.Files, full) {
		r.doc.Files = append(r.doc.Files, full)
	}
	b, err := readFile(full, maxSecret)
	if err == nil && !utf8.Valid(b) {
		err = errNotText
	}
	if err != nil {
		f := r.fault(at.where(), at.path(), "the file %s cannot be read: %s", full, reason(err))
		f.Fix, f.cause = "create the file, or name one that the gateway may read", err
		return "", false
	}
	s := string(b)
	if cut, ok := strings.CutSuffix(s, "\n"); ok {
		s = strings.TrimSuffix(cut, "\r")
	}
	return s, true
}

var errNotText = errors.New("not UTF-8 text")

// resolvePath joins a relative path with the folder of the document.
func resolvePath(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
