package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/causeway-gateway/causeway/proxy"
	"github.com/causeway-gateway/causeway/transcode/source"
)

// Schema is one schema as the admin calls show it.
type Schema struct {
	Name     string    `json:"name"`
	Origin   string    `json:"origin"`
	Digest   string    `json:"digest,omitempty"`
	Version  int       `json:"version,omitempty"`
	Services []string  `json:"services"`
	Methods  int       `json:"methods"`
	Stale    string    `json:"stale,omitempty"`
	Fault    string    `json:"fault,omitempty"` // what of its versions on disk was found corrupt
	Versions []Version `json:"versions,omitempty"`
	Routes   []string  `json:"routes,omitempty"`
}

// Version is one version of a pushed schema.
type Version struct {
	Number  int       `json:"number"`
	Digest  string    `json:"digest"`
	Created time.Time `json:"created"`
	From    string    `json:"from,omitempty"`
	Active  bool      `json:"active"`
	// Unchanged says that a push brought what was in force already.
	Unchanged bool `json:"unchanged,omitempty"`
	Services  int  `json:"services"`
	Methods   int  `json:"methods"`
}

func versionOf(v source.Version) Version {
	return Version{Number: v.Number, Digest: v.Digest, Created: v.Created, From: v.From, Active: v.Active, Services: v.Services, Methods: v.Methods}
}

func schemaOf(s proxy.SchemaStatus) Schema {
	out := Schema{Name: s.Name, Origin: s.Origin, Digest: s.Digest, Version: s.Version, Services: s.Services, Methods: s.Methods}
	if s.Stale != nil {
		out.Stale = s.Stale.Error()
	}
	return out
}

// storeFaults are the faults that the store found on disk, by schema.
func (s *Server) storeFaults() map[string]string {
	faults := map[string]string{}
	if s.opts.Store != nil {
		for _, e := range s.opts.Store.List() {
			if e.Fault != "" {
				faults[e.Name] = e.Fault
			}
		}
	}
	return faults
}

func (s *Server) listSchemas(w http.ResponseWriter, _ *http.Request) {
	list := []Schema{}
	faults := s.storeFaults()
	for _, sc := range s.opts.Gateway.Status().Schemas {
		out := schemaOf(sc)
		out.Fault = faults[sc.Name]
		list = append(list, out)
	}
	answer(w, map[string]any{"schemas": list})
}

func (s *Server) showSchema(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	for _, sc := range s.opts.Gateway.Status().Schemas {
		if sc.Name != name {
			continue
		}
		out := schemaOf(sc)
		out.Fault = s.storeFaults()[name]
		if sc.Pushed && s.opts.Store != nil {
			versions, err := s.opts.Store.Versions(name)
			if err != nil {
				fault(w, err, http.StatusInternalServerError)
				return
			}
			for _, v := range versions {
				out.Versions = append(out.Versions, versionOf(v))
			}
		}
		if snap := s.opts.Gateway.Current(); snap != nil {
			out.Routes = snap.RoutesOf(name)
		}
		answer(w, out)
		return
	}
	refuse(w, http.StatusNotFound, "there is no schema %q", name)
}

// maxUpload bounds what is read of a push before its own limits are looked at.
const maxUpload = 64 << 20

func (s *Server) pushSchema(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxUpload))
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			refuse(w, http.StatusRequestEntityTooLarge, "the descriptor set is larger than %d bytes", tooLarge.Limit)
			return
		}
		refuse(w, http.StatusBadRequest, "the descriptor set did not arrive whole: %s", err)
		return
	}
	name := r.PathValue("name")
	limits, err := s.opts.Gateway.SchemaLimits(name)
	if err != nil {
		fault(w, err, http.StatusUnprocessableEntity)
		return
	}
	set, err := source.DescriptorSet(body, limits)
	if err != nil {
		fault(w, err, http.StatusUnprocessableEntity)
		return
	}
	before := s.inForce(name)
	v, err := s.opts.Gateway.Push(context.WithoutCancel(r.Context()), name, set, r.URL.Query().Get("from"))
	if err != nil {
		fault(w, err, http.StatusUnprocessableEntity)
		return
	}
	s.opts.Log.Info("schema pushed", "schema", name, "version", v.Number, "digest", v.Digest, "from", v.From, "unchanged", before == v.Number)
	out := versionOf(v)
	out.Unchanged = before == v.Number
	answer(w, out)
}

// inForce is the version of a schema that serves, 0 for none.
func (s *Server) inForce(name string) int {
	for _, sc := range s.opts.Gateway.Status().Schemas {
		if sc.Name == name {
			return sc.Version
		}
	}
	return 0
}

func (s *Server) rollbackSchema(w http.ResponseWriter, r *http.Request) {
	to := 0
	if q := r.URL.Query().Get("to"); q != "" {
		n, err := strconv.Atoi(q)
		if err != nil || n < 1 {
			refuse(w, http.StatusBadRequest, "to: want the number of a version, found %q", q)
			return
		}
		to = n
	}
	name := r.PathValue("name")
	v, err := s.opts.Gateway.Rollback(context.WithoutCancel(r.Context()), name, to)
	if err != nil {
		fault(w, err, http.StatusConflict)
		return
	}
	s.opts.Log.Info("schema rolled back", "schema", name, "version", v.Number, "digest", v.Digest)
	answer(w, versionOf(v))
}
