package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	// maxSourceErrors bounds how many errors of .proto files are told at once.
	maxSourceErrors = 100
	// newestEdition is the newest edition that the compiler reads.
	newestEdition = "2023"
)

// Proto compiles .proto files and folders, the latter with everything below them except what begins with a dot.
// importRoots are the folders that import statements start from, the first that has a file wins; without them they are
// the folders of paths and the folders of its files. google/api, google/rpc, the well-known types and the options of
// grpc-gateway's OpenAPI generator need not be there. The error holds everything that is wrong, one fault a line, as
// file:line:column.
func Proto(ctx context.Context, paths, importRoots []string, l Limits) (set *Set, err error) {
	// Last defence, as in check: the parser runs in this goroutine.
	defer func() {
		if p := recover(); p != nil {
			set, err = nil, fmt.Errorf("the .proto files cannot be compiled: %v", p)
		}
	}()
	p := &protoSource{
		tree:    newTree(".proto", importRoots, l),
		files:   map[string]*protoFile{},
		shadows: map[string]*protoFile{},
	}
	found, err := p.find(ctx, paths, importRoots)
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		name, err := p.importName(path)
		if err != nil {
			return nil, err
		}
		p.todo = append(p.todo, name)
	}
	slices.Sort(p.todo)
	if err := p.load(ctx); err != nil {
		return nil, err
	}
	p.cycles()
	p.spread()
	files, err := p.compile(ctx)
	if err != nil {
		return nil, err
	}
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		return nil, plain(err)
	}
	set, err = check(data, l)
	if err != nil {
		return nil, err
	}
	set.Watch = slices.Sorted(maps.Keys(p.watched))
	return set, nil
}

// protoSource is one compilation.
type protoSource struct {
	tree

	todo    []string // names to load
	bytes   int64
	files   map[string]*protoFile
	shadows map[string]*protoFile // files at protected paths, compiled apart and only to be compared

	mu     sync.Mutex // protocompile reports from its goroutines, one at a time, but does not say so of its reporter
	errors []sourceError
}

// protoFile is one .proto file as it was read.
type protoFile struct {
	disk    string
	node    *ast.FileNode
	imports []protoImport
	bad     bool // it has faults, or imports a file that has: linking it would only repeat them
}

type protoImport struct {
	name string
	pos  ast.SourcePos
}

type sourceError struct {
	file      string
	line, col int
	text      string
}

func (p *protoSource) fault(file string, pos ast.SourcePos, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors = append(p.errors, sourceError{file: file, line: pos.Line, col: pos.Col, text: text})
}

// result is what was reported so far as one error, or nil.
func (p *protoSource) result() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	slices.SortStableFunc(p.errors, func(a, b sourceError) int {
		return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.line, b.line), cmp.Compare(a.col, b.col))
	})
	p.errors = slices.Compact(p.errors)
	errs := make([]error, 0, min(len(p.errors), maxSourceErrors)+1)
	for i, e := range p.errors {
		if i == maxSourceErrors {
			errs = append(errs, fmt.Errorf("and %d more", len(p.errors)-i))
			break
		}
		if e.line == 0 {
			errs = append(errs, fmt.Errorf("%s: %s", e.file, e.text))
			continue
		}
		errs = append(errs, fmt.Errorf("%s:%d:%d: %s", e.file, e.line, e.col, e.text))
	}
	return errors.Join(errs...)
}

// handler reports into p and goes on after an error.
func (p *protoSource) handler() reporter.Reporter {
	return reporter.NewReporter(func(err reporter.ErrorWithPos) error {
		p.report(err)
		return nil
	}, nil)
}

func (p *protoSource) report(err reporter.ErrorWithPos) {
	pos, text := err.GetPosition(), err.Unwrap().Error()
	// The compiler links files side by side, so which of two declarations comes second is a matter of luck.
	if m := definedTwice.FindStringSubmatch(text); m != nil {
		first := ast.SourcePos{Filename: m[2]}
		first.Line, _ = strconv.Atoi(m[3])
		first.Col, _ = strconv.Atoi(m[4])
		if cmp.Or(cmp.Compare(first.Filename, pos.Filename), cmp.Compare(first.Line, pos.Line), cmp.Compare(first.Col, pos.Col)) > 0 {
			first, pos = pos, first
		}
		text = fmt.Sprintf("%s %s:%d:%d", m[1], p.disk(first.Filename), first.Line, first.Col)
	}
	p.fault(p.disk(pos.Filename), pos, text)
}

var definedTwice = regexp.MustCompile(`^(symbol .* already defined at) (.+):(\d+):(\d+)$`)

// disk is the path of a file that errors know by its import name.
func (p *protoSource) disk(name string) string {
	for _, set := range []map[string]*protoFile{p.files, p.shadows} {
		if f, ok := set[name]; ok {
			return f.disk
		}
	}
	return name
}

// load reads and parses the files to compile and, in turn, those they import.
func (p *protoSource) load(ctx context.Context) error {
	for len(p.todo) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := p.todo[0]
		p.todo = p.todo[1:]
		if p.files[name] != nil || p.shadows[name] != nil {
			continue
		}
		disk := p.locate(name)
		if disk == "" {
			continue // in the bundle
		}
		f, err := p.parse(name, disk)
		if err != nil {
			return err
		}
		if f.node == nil || p.shadows[name] != nil {
			continue // its faults are reported, or it stands aside
		}
		for _, d := range f.node.Decls {
			imp, ok := d.(*ast.ImportNode)
			if !ok {
				continue
			}
			dep := imp.Name.AsString()
			pos := f.node.NodeInfo(imp.Name).Start()
			if p.locate(dep) == "" && bundled().files[dep] == nil {
				f.bad = true
				p.fault(disk, pos, fmt.Sprintf("import %q is not found below the import roots (%s)%s",
					dep, strings.Join(p.roots, ", "), p.rootHint(dep)))
				continue
			}
			f.imports = append(f.imports, protoImport{dep, pos})
			p.todo = append(p.todo, dep)
		}
	}
	return nil
}

// cycles tells every import that closes a circle. The compiler would find them as well, but from any of the files.
func (p *protoSource) cycles() {
	done := map[string]bool{}
	var stack []string
	var visit func(name string)
	visit = func(name string) {
		f := p.files[name]
		if f == nil || done[name] {
			return
		}
		stack = append(stack, name)
		for _, imp := range f.imports {
			if at := slices.Index(stack, imp.name); at >= 0 {
				f.bad = true
				p.fault(f.disk, imp.pos, fmt.Sprintf("import cycle: %s -> %s", strings.Join(stack[at:], " -> "), imp.name))
				continue
			}
			visit(imp.name)
		}
		stack = stack[:len(stack)-1]
		done[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		visit(name)
	}
}

// spread marks the files that import a bad one.
func (p *protoSource) spread() {
	importers := map[string][]string{}
	var todo []string
	for name, f := range p.files {
		for _, imp := range f.imports {
			importers[imp.name] = append(importers[imp.name], name)
		}
		if f.bad {
			todo = append(todo, name)
		}
	}
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, by := range importers[name] {
			if f := p.files[by]; !f.bad {
				f.bad = true
				todo = append(todo, by)
			}
		}
	}
}

// locate is the file on disk with an import name, or "".
func (p *tree) locate(name string) string {
	if fileNameFault(name) != nil {
		return ""
	}
	for _, root := range p.roots {
		disk := filepath.Join(root, filepath.FromSlash(name))
		if info, err := os.Stat(disk); err == nil && info.Mode().IsRegular() {
			return disk
		}
	}
	return ""
}

// rootHint looks for an import above the roots and in the folders below them: a wrong import root is the usual reason
// why an import is not found.
func (p *tree) rootHint(dep string) string {
	if fileNameFault(dep) != nil {
		return "; imports are relative to an import root, without . and .."
	}
	candidates := slices.Clone(p.folders)
	for _, root := range p.roots {
		for dir := root; ; {
			up := filepath.Dir(dir)
			if !filepath.IsAbs(dir) && (dir == "." || strings.HasPrefix(dir, "..")) {
				up = filepath.Join(dir, "..")
			}
			if up == dir || len(candidates) > 4096 || strings.Count(up, "..") > 8 {
				break
			}
			candidates = append(candidates, up)
			dir = up
		}
	}
	for _, dir := range candidates {
		if info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(dep))); err == nil && info.Mode().IsRegular() {
			return fmt.Sprintf("; it is below %s: give that folder as import root", dir)
		}
	}
	return ""
}

func (p *protoSource) parse(name, disk string) (*protoFile, error) {
	if len(p.files)+len(p.shadows) >= p.limits.MaxFiles {
		return nil, fmt.Errorf("more than %d .proto files, the limit", p.limits.MaxFiles)
	}
	r, err := os.Open(disk) //nolint:gosec // below the folders that the operator names
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(r, p.limits.MaxBytes-p.bytes+1))
	if err != nil {
		return nil, err
	}
	if p.bytes += int64(len(text)); p.bytes > p.limits.MaxBytes {
		return nil, fmt.Errorf("%s: the .proto files have more than %d bytes together, the limit", disk, p.limits.MaxBytes)
	}
	f := &protoFile{disk: disk}
	if protected(name) && bundled().files[name] != nil {
		p.shadows[name] = f
	} else {
		p.files[name] = f
	}
	if !p.inFolder(disk) {
		p.watched[disk] = true
	}
	first, deep := outline(text, p.limits.MaxNesting+optionDepth)
	if deep > 0 {
		f.bad = true
		p.fault(disk, position(text, deep), fmt.Sprintf("braces nest deeper than %d", p.limits.MaxNesting+optionDepth))
		return f, nil
	}
	if m := editionStatement.FindSubmatch(text[first:]); m != nil && string(m[1]) > newestEdition {
		f.bad = true
		p.fault(disk, position(text, first), fmt.Sprintf("edition %q is newer than the compiler here reads (%s): "+
			"compile it with protoc or buf and give the descriptor set, or use the server's reflection", m[1], newestEdition))
		return f, nil
	}
	// What is wrong has been reported; the node is what could be made of the rest, or nil.
	f.node, err = parser.Parse(name, bytes.NewReader(text), reporter.NewHandler(p.handler()))
	f.bad = err != nil
	return f, nil
}

var editionStatement = regexp.MustCompile(`^edition\s*=\s*["'](\d{4,})["']`)

// outline finds where the first statement begins, and where braces first nest deeper than limit (0: nowhere). The
// parser recurses, so depth must be known before it runs.
func outline(text []byte, limit int) (first, deep int) {
	first = -1
	depth := 0
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == ' ' || ch == '\t' || ch == '\r' || ch == '\n' || ch == '\f' || ch == '\v':
			continue
		case ch == '/' && bytes.HasPrefix(text[i:], []byte("//")):
			n := bytes.IndexByte(text[i:], '\n')
			if n < 0 {
				n = len(text) - i
			}
			i += n
			continue
		case ch == '/' && bytes.HasPrefix(text[i:], []byte("/*")):
			n := bytes.Index(text[i+2:], []byte("*/"))
			if n < 0 {
				n = len(text)
			}
			i += n + 3
			continue
		case ch == '"' || ch == '\'':
			i = skipString(text, i)
		case ch == '{' || ch == '[' || ch == '<' || ch == '(':
			if depth++; depth > limit {
				return max(first, 0), i
			}
		case ch == '}' || ch == ']' || ch == '>' || ch == ')':
			depth--
		}
		if first < 0 {
			first = i
		}
	}
	return max(first, 0), 0
}

// skipString returns the position of the quote that ends the string at i, or of what ends it early.
func skipString(text []byte, i int) int {
	for j := i + 1; j < len(text); j++ {
		switch text[j] {
		case '\\':
			j++
		case text[i], '\n':
			return j
		}
	}
	return len(text)
}

func position(text []byte, at int) ast.SourcePos {
	before := text[:at]
	return ast.SourcePos{Line: 1 + bytes.Count(before, []byte("\n")), Col: at - bytes.LastIndexByte(before, '\n')}
}

// compile links the files without faults, and apart from them those that stand at the path of a built-in file.
func (p *protoSource) compile(ctx context.Context) ([]*descriptorpb.FileDescriptorProto, error) {
	names := make([]string, 0, len(p.files))
	for name, f := range p.files {
		if !f.bad {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	files, err := p.link(ctx, names, protocompile.ResolverFunc(func(name string) (protocompile.SearchResult, error) {
		if f, ok := p.files[name]; ok {
			return protocompile.SearchResult{AST: f.node}, nil
		}
		return fromBundle(name)
	}))
	if err != nil {
		return nil, err
	}
	for name, f := range p.shadows {
		if f.bad {
			continue
		}
		apart, err := p.link(ctx, []string{name}, protocompile.ResolverFunc(func(dep string) (protocompile.SearchResult, error) {
			if dep == name {
				return protocompile.SearchResult{AST: f.node}, nil
			}
			return fromBundle(dep)
		}))
		if err != nil {
			return nil, err
		}
		files = append(files, apart...)
	}
	return files, p.result()
}

func (p *protoSource) link(ctx context.Context, names []string, from protocompile.Resolver) ([]*descriptorpb.FileDescriptorProto, error) {
	compiler := protocompile.Compiler{Resolver: from, Reporter: p.handler(), SourceInfoMode: protocompile.SourceInfoStandard}
	linked, err := compiler.Compile(ctx, names...)
	if err != nil && !errors.Is(err, reporter.ErrInvalidSource) {
		return nil, errors.Join(p.result(), err)
	}
	files := make([]*descriptorpb.FileDescriptorProto, 0, len(linked))
	for _, fd := range linked {
		if r, ok := fd.(linker.Result); ok {
			files = append(files, r.FileDescriptorProto())
		}
	}
	return files, nil
}

// fromBundle resolves an import from what is linked into the program. The files of protobuf itself only import one
// another and come linked; the others are linked again, over whichever files stand at their imports.
func fromBundle(name string) (protocompile.SearchResult, error) {
	fd, err := bundled().FindFileByPath(name)
	if err != nil {
		return protocompile.SearchResult{}, err
	}
	if strings.HasPrefix(name, protobufFolder) {
		return protocompile.SearchResult{Desc: fd}, nil
	}
	return protocompile.SearchResult{Proto: protodesc.ToFileDescriptorProto(fd)}, nil
}
