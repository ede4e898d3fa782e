package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// exampleCases lists the cases of grpc-gateway's integration tests below dir, sorted. A case is a test function that
// calls no other; a subtest; or a call of a function such as testEcho, by its arguments without t. Their place is part of
// the name: "TestEcho/v1/testEchoBody(8088, apiPrefix, true)".
func exampleCases(t *testing.T, dir string) []string {
	t.Helper()
	c := &caseFinder{funcs: map[string]*ast.FuncDecl{}}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && testName(fn.Name.Name) {
				c.funcs[fn.Name.Name] = fn
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.funcs)) {
		if strings.HasPrefix(name, "Test") {
			c.expand(t, name, c.funcs[name].Body, called)
		}
	}
	for name := range c.funcs {
		if !strings.HasPrefix(name, "Test") && !called[name] {
			t.Errorf("%s is called by no test that was understood", name)
		}
	}
	slices.Sort(c.names)
	return c.names
}

// testName tells TestEcho and testEcho from TestMain and everything else.
func testName(name string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(name), "test")
	return ok && rest != "" && name != "TestMain" && unicode.IsUpper(rune(name[len("test")]))
}

// caseFinder walks test functions by their syntax.
type caseFinder struct {
	funcs map[string]*ast.FuncDecl
	names []string
}

// expand adds the cases in a body of statements; place is the name of what it belongs to.
func (c *caseFinder) expand(t *testing.T, place string, body *ast.BlockStmt, called map[string]bool) {
	t.Helper()
	before := len(c.names)
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if name, inner, ok := subtest(call); ok {
			for _, sub := range subtestNames(t, name, body) {
				c.expand(t, place+"/"+sub, inner, called)
			}
			return false
		}
		fn, ok := call.Fun.(*ast.Ident)
		if !ok || c.funcs[fn.Name] == nil {
			return true
		}
		called[fn.Name] = true
		if callee := c.funcs[fn.Name].Body; hasSubtests(callee) {
			c.expand(t, place+"/"+fn.Name+arguments(call), callee, called)
		} else if args := arguments(call); !strings.HasPrefix(args, "(tc.") { // what calls by a row of a table is the row's case
			c.names = append(c.names, place+"/"+fn.Name+args)
		}
		return true
	})
	if len(c.names) == before {
		c.names = append(c.names, place)
	}
}

// subtest reads t.Run(name, func(t *testing.T) {...}).
func subtest(call *ast.CallExpr) (name ast.Expr, body *ast.BlockStmt, ok bool) {
	sel, isSel := call.Fun.(*ast.SelectorExpr)
	if !isSel || sel.Sel.Name != "Run" || len(call.Args) != 2 {
		return nil, nil, false
	}
	fn, isFunc := call.Args[1].(*ast.FuncLit)
	if !isFunc {
		return nil, nil, false
	}
	return call.Args[0], fn.Body, true
}

func hasSubtests(body *ast.BlockStmt) bool {
	found := false
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			_, _, is := subtest(call)
			found = found || is
		}
		return !found
	})
	return found
}

// subtestNames are the names that the first argument of t.Run takes: itself when it is text, the texts of the list that
// it ranges over, or the first texts (or those called name) of the structs in a table.
func subtestNames(t *testing.T, name ast.Expr, body *ast.BlockStmt) []string {
	t.Helper()
	if s, ok := literal(name); ok {
		return []string{s}
	}
	var names []string
	ast.Inspect(body, func(n ast.Node) bool {
		list, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if _, ok := list.Type.(*ast.ArrayType); !ok {
			return true
		}
		for _, e := range list.Elts {
			if _, plain := name.(*ast.Ident); plain {
				if s, ok := literal(e); ok {
					names = append(names, s)
				}
				continue
			}
			if row, ok := e.(*ast.CompositeLit); ok && row.Type == nil && len(row.Elts) > 0 {
				if s, ok := rowName(row); ok {
					names = append(names, s)
				}
			}
		}
		return false
	})
	if len(names) == 0 {
		t.Errorf("found no names for a subtest")
	}
	return names
}

func rowName(row *ast.CompositeLit) (string, bool) {
	for i, e := range row.Elts {
		kv, keyed := e.(*ast.KeyValueExpr)
		if !keyed && i == 0 {
			return literal(e)
		}
		if keyed {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "name" {
				return literal(kv.Value)
			}
		}
	}
	return "", false
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// arguments are those of a call, in parentheses, without t.
func arguments(call *ast.CallExpr) string {
	var args []string
	for _, a := range call.Args {
		if s := types.ExprString(a); s != "t" {
			args = append(args, s)
		}
	}
	return "(" + strings.Join(args, ", ") + ")"
}

func TestExampleServerTable(t *testing.T) {
	want := exampleCases(t, filepath.Join(exampleModule(t), "examples", "internal", "integration"))
	var have []string
	for _, c := range exampleTable() {
		have = append(have, c.name)
	}
	slices.Sort(have)
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("the table does not hold grpc-gateway's cases (-theirs +ours):\n%s", d)
	}
}
