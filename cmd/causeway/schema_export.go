package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/causeway-gateway/causeway/transcode/schema"
	"github.com/causeway-gateway/causeway/transcode/source"
	"github.com/causeway-gateway/causeway/transcode/tarswire"
)

func schemaExport() *cobra.Command {
	var pkg, out, format string
	var roots []string
	var options source.ExportOptions
	cmd := &cobra.Command{
		Use:   "export (FILE | DIR)...",
		Short: "Write a schema as .proto files, or as .tars, from which stubs are generated",
		Long: `Write a schema as .proto files, from which gRPC clients and servers generate their stubs: .tars files above all, but also
.proto files and descriptor sets. Comments are kept; for TARS they say what is required, bounds and defaults.

With --format tars it is the IDL by which TARS clients call services that are not of TARS, over a listener with the protocol
tars: services.tars.

FILE is a .tars or .proto file or a FileDescriptorSet, DIR a folder of .tars or of .proto files. Without --out the files are
printed.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readSources(cmd.Context(), args, roots, pkg)
			if err != nil {
				return err
			}
			files, err := exported(set, format, options)
			if err != nil {
				return err
			}
			if out == "" {
				return printFiles(cmd.OutOrStdout(), files)
			}
			for _, f := range files {
				path := filepath.Join(out, filepath.FromSlash(f.Name))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // source code
					return err
				}
				if err := os.WriteFile(path, f.Text, 0o644); err != nil { //nolint:gosec // source code
					return err
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), "wrote", path); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`DIR` to write the files below, as imports name them")
	cmd.Flags().StringVar(&format, "format", "proto", "proto or tars")
	cmd.Flags().StringVar(&pkg, "package", "", "what stands before the names of TARS modules, such as acme.games")
	cmd.Flags().StringSliceVar(&roots, "import-root", nil, "folder that imports and includes start from; may be repeated")
	cmd.Flags().BoolVar(&options.TarsOptions, "tars-options", false, "keep the options that make the files a schema of TARS services")
	return cmd
}

// exported are the files of a schema in a format.
func exported(set *source.Set, format string, o source.ExportOptions) ([]source.TextFile, error) {
	switch format {
	case "proto":
		return source.Export(set, o)
	case "tars":
	default:
		return nil, usage("--format: want proto or tars, found %q%s", format, schema.DidYouMean(format, []string{"proto", "tars"}))
	}
	s, err := set.Schema()
	if err != nil {
		return nil, &exitError{exitConfig, err}
	}
	text := tarswire.IDL(s.Services())
	if len(text) == 0 {
		return nil, usage("there is no service that is not of TARS already")
	}
	return []source.TextFile{{Name: "services.tars", Text: text}}, nil
}

func printFiles(w io.Writer, files []source.TextFile) error {
	for _, f := range files {
		if _, err := fmt.Fprintf(w, "// %s\n%s\n", f.Name, f.Text); err != nil {
			return err
		}
	}
	return nil
}

// readSources compiles files and folders, which must be of one kind.
func readSources(ctx context.Context, paths, roots []string, pkg string) (set *source.Set, err error) {
	kind := ""
	for _, p := range paths {
		k, err := kindOfSource(p)
		if err != nil {
			return nil, err
		}
		if kind != "" && k != kind {
			return nil, usage("%s is a source of another kind than %s: give them apart", p, paths[0])
		}
		kind = k
	}
	switch {
	case kind == ".tars":
		set, err = source.Tars(ctx, paths, roots, pkg, source.Limits{})
	case pkg != "":
		return nil, usage("--package is for .tars files; others have their package in them")
	case kind == ".proto":
		set, err = source.Proto(ctx, paths, roots, source.Limits{})
	case len(paths) > 1:
		return nil, usage("give one descriptor set at a time")
	default:
		set, err = source.DescriptorSetFile(paths[0], source.Limits{})
	}
	if err != nil {
		return nil, &exitError{exitConfig, err}
	}
	return set, nil
}

// kindOfSource is ".tars" or ".proto" for such a file, or for a folder that has one in it or below; "" is a descriptor set.
func kindOfSource(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		if ext := filepath.Ext(path); ext == ".tars" || ext == ".proto" {
			return ext, nil
		}
		return "", nil
	}
	kind := ".proto"
	found := errors.New("found")
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p != path && strings.HasPrefix(d.Name(), ".") && d.IsDir():
			return fs.SkipDir
		case !d.IsDir() && (filepath.Ext(p) == ".tars" || filepath.Ext(p) == ".proto"):
			kind = filepath.Ext(p)
			return found
		}
		return nil
	})
	if err != nil && !errors.Is(err, found) {
		return "", err
	}
	return kind, nil
}
