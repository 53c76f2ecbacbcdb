package helve_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// publicPackages are the directories of the packages that users import.
var publicPackages = []string{".", "helvetype", "helvetest", "cli", "metrics"}

// aliasLine matches a type in the output of go doc that is another name of a type elsewhere: its fields and methods are not
// shown. For example, "type Status = spec.Status" matches, and "type Build = func() (*App, error)" does not.
var aliasLine = regexp.MustCompile(`(?m)^\s*(?:type )?[A-Z]\w*(?:\[[^\]]*\])? = \*?\w+\.[A-Z]\w*(?:\[.*\])?\s*$`)

// TestGoDocShowsTypes checks the output of go doc for every exported type: the type is declared in its package, so that go doc
// shows its fields and methods.
func TestGoDocShowsTypes(t *testing.T) {
	t.Parallel()
	for _, dir := range publicPackages {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			all := goDoc(t, dir, "-all")
			_, types, _ := strings.Cut(all, "\nTYPES\n")
			for _, line := range aliasLine.FindAllString(types, -1) {
				t.Errorf("an alias hides fields and methods: %s", strings.TrimSpace(line))
			}
			for _, d := range exported(t, dir) {
				if d.kind == "type" && !strings.Contains(types, "\ntype "+d.name) && !strings.Contains(types, "\n\t"+d.name) {
					t.Errorf("go doc does not show the type %s", d.name)
				}
			}
		})
	}
}

func goDoc(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"doc"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go doc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestPublicNamesAreDocumented checks that every exported type, function, method, field, constant and variable has a doc
// comment, and that the comment begins with the name where Go's convention asks for it.
func TestPublicNamesAreDocumented(t *testing.T) {
	t.Parallel()
	for _, dir := range publicPackages {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			for _, d := range exported(t, dir) {
				first, _, _ := strings.Cut(strings.TrimSpace(d.doc), " ")
				first = strings.TrimRight(first, ",.:")
				switch {
				case first == "":
					t.Errorf("%s: %s %s has no doc comment", d.position, d.kind, d.name)
				case d.named && !slices.Contains(d.names, first):
					t.Errorf("%s: the doc comment of %s %s begins with %q", d.position, d.kind, d.name, first)
				}
			}
		})
	}
}

// declaration is an exported name of a package.
type declaration struct {
	kind, name, doc, position string

	names []string // the names that share the doc comment
	named bool     // the doc comment must begin with one of names
}

// exported lists the exported names of the package in a directory, its tests excluded.
func exported(t *testing.T, dir string) (all []declaration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	fset := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		add := func(kind, owner string, named bool, names []*ast.Ident, docs ...*ast.CommentGroup) {
			d := declaration{kind: kind, named: named}
			for _, n := range names {
				d.names = append(d.names, n.Name)
			}
			for _, doc := range docs {
				if d.doc == "" {
					d.doc = doc.Text()
				}
			}
			for _, n := range names {
				if n.IsExported() {
					d.name, d.position = owner+n.Name, fset.Position(n.Pos()).String()
					all = append(all, d)
				}
			}
		}
		for _, decl := range f.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				owner := ""
				if decl.Recv != nil {
					if owner = receiver(decl); !ast.IsExported(owner) {
						continue
					}
					owner += "."
				}
				add("function", owner, true, []*ast.Ident{decl.Name}, decl.Doc)
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						add("type", "", true, []*ast.Ident{spec.Name}, spec.Doc, decl.Doc)
						if !spec.Name.IsExported() {
							continue
						}
						ast.Inspect(spec.Type, func(n ast.Node) bool {
							field, ok := n.(*ast.Field)
							if !ok {
								_, function := n.(*ast.FuncType)
								return !function
							}
							add("field", spec.Name.Name+".", field.Doc != nil, field.Names, field.Doc, field.Comment)
							return true
						})
					case *ast.ValueSpec:
						add("value", "", false, spec.Names, spec.Doc, spec.Comment, decl.Doc)
					}
				}
			}
		}
	}
	return all
}

// receiver returns the name of the type that a method belongs to.
func receiver(f *ast.FuncDecl) (name string) {
	ast.Inspect(f.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name
}
