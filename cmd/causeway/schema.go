package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-gateway/causeway/proxy/admin"
	"github.com/causeway-gateway/causeway/transcode/source"
)

func schemaCommand() *cobra.Command {
	var c client
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Register descriptors with a gateway that runs, and look at them",
		Args:  known,
		RunE:  needsCommand,
	}
	c.flags(cmd)
	cmd.AddCommand(schemaPush(&c), schemaList(&c), schemaShow(&c), schemaRollback(&c), schemaExport())
	return cmd
}

func schemaPush(c *client) *cobra.Command {
	var name, reflectAt, from, pkg string
	var roots []string
	cmd := &cobra.Command{
		Use:   "push (FILE | DIR | --reflect ADDR) --name NAME",
		Short: "Check a new version of a schema and put it into force",
		Long: `Check a new version of a schema and put it into force, without a lost call. The gateway keeps it on disk; on a fault
it changes nothing and says why.

FILE is a FileDescriptorSet (protoc --include_imports --descriptor_set_out, buf build), plain or gzip, or a .proto or .tars
file; DIR is a folder of .proto or of .tars files; --reflect asks a live server (grpc://, or grpcs:// for TLS, may stand before ADDR).`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				return usage("give --name: what the configuration calls the schema")
			}
			if (len(args) == 1) == (reflectAt != "") {
				return usage("give a file, a folder, or --reflect ADDR")
			}
			body, origin, err := readSchema(cmd.Context(), args, reflectAt, roots, pkg)
			if err != nil {
				return err
			}
			if from == "" {
				from = origin
			}
			var v admin.Version
			path := "/api/v1/schemas/" + url.PathEscape(name) + "?" + url.Values{"from": {from}}.Encode()
			if err := c.call(cmd.Context(), http.MethodPost, path, body, &v); err != nil {
				return err
			}
			if v.Unchanged {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "schema %s: unchanged, version %d is in force (%s)\n", name, v.Number, short(v.Digest))
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "schema %s: version %d in force, %d services, %d methods (%s)\n", name, v.Number, v.Services, v.Methods, short(v.Digest))
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what the configuration calls the schema")
	cmd.Flags().StringVar(&reflectAt, "reflect", "", "`ADDR` of a live server that offers reflection")
	cmd.Flags().StringSliceVar(&roots, "import-root", nil, "folder that import statements start from; may be repeated")
	cmd.Flags().StringVar(&pkg, "package", "", "what stands before the names of TARS modules, such as acme.games")
	cmd.Flags().StringVar(&from, "from", "", "a note kept with the version, such as a commit; default: the file as it was named")
	return cmd
}

// readSchema reads what is to be pushed as the bytes of a FileDescriptorSet. A file that is one already is sent as it is:
// the gateway is who checks it.
func readSchema(ctx context.Context, args []string, reflectAt string, roots []string, pkg string) (body []byte, origin string, err error) {
	var set *source.Set
	if reflectAt != "" {
		address, secure := reflectAt, false
		if a, s, err := upstreamAddress(reflectAt); err == nil {
			address, secure = a, s
		}
		origin = "reflection from " + address
		if set, err = reflectFrom(ctx, address, secure); err != nil {
			return nil, "", err
		}
	} else {
		origin = args[0]
		kind, err := kindOfSource(args[0])
		if err != nil {
			return nil, "", err
		}
		if kind == "" {
			body, err = os.ReadFile(args[0])
			return body, origin, err
		}
		if set, err = readSources(ctx, args, roots, pkg); err != nil {
			return nil, "", err
		}
	}
	body, err = proto.Marshal(set.Files)
	return body, origin, err
}

func schemaList(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the schemas",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list struct{ Schemas []admin.Schema }
			if err := c.get(cmd.Context(), "/api/v1/schemas", &list); err != nil {
				return err
			}
			return table(cmd.OutOrStdout(), "NAME\tSERVICES\tMETHODS\tDIGEST\tFROM", func(row func(...any)) {
				for _, s := range list.Schemas {
					origin := s.Origin
					if s.Fault != "" {
						origin += "; " + s.Fault
					}
					row(s.Name, len(s.Services), s.Methods, short(s.Digest), origin)
				}
			})
		},
	}
}

func schemaShow(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a schema: its services, its versions and the routes over it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var s admin.Schema
			if err := c.get(cmd.Context(), "/api/v1/schemas/"+url.PathEscape(args[0]), &s); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if _, err := fmt.Fprintf(w, "schema %s: %s, %d methods (%s)\n", s.Name, s.Origin, s.Methods, short(s.Digest)); err != nil {
				return err
			}
			for _, name := range s.Services {
				if _, err := fmt.Fprintln(w, "  service", name); err != nil {
					return err
				}
			}
			for _, r := range s.Routes {
				if _, err := fmt.Fprintln(w, "  route", r); err != nil {
					return err
				}
			}
			if len(s.Versions) == 0 {
				return nil
			}
			return table(w, "VERSION\tACTIVE\tCREATED\tMETHODS\tDIGEST\tFROM", func(row func(...any)) {
				for _, v := range s.Versions {
					active := ""
					if v.Active {
						active = "*"
					}
					row(v.Number, active, v.Created.Format(time.RFC3339), v.Methods, short(v.Digest), v.From)
				}
			})
		},
	}
}

func schemaRollback(c *client) *cobra.Command {
	var to int
	cmd := &cobra.Command{
		Use:   "rollback NAME",
		Short: "Put a former version of a schema into force",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/api/v1/schemas/" + url.PathEscape(args[0]) + "/rollback"
			if to != 0 {
				path += "?to=" + strconv.Itoa(to)
			}
			var v admin.Version
			if err := c.call(cmd.Context(), http.MethodPost, path, nil, &v); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "schema %s: version %d in force again (%s)\n", args[0], v.Number, short(v.Digest))
			return err
		},
	}
	cmd.Flags().IntVar(&to, "to", 0, "number of the version; default: the one before the active")
	return cmd
}

// short is a digest as people compare it.
func short(digest string) string {
	const prefix, shown = len("sha256:"), 12
	if len(digest) > prefix+shown {
		return digest[:prefix+shown]
	}
	return digest
}

func table(w io.Writer, head string, fill func(row func(...any))) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if _, err := fmt.Fprintln(t, head); err != nil {
		return err
	}
	var failed error
	fill(func(cells ...any) {
		for i, c := range cells {
			sep := "\t"
			if i == len(cells)-1 {
				sep = "\n"
			}
			if _, err := fmt.Fprint(t, c, sep); err != nil {
				failed = err
			}
		}
	})
	if failed != nil {
		return failed
	}
	return t.Flush()
}
