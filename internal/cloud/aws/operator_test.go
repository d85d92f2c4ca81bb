package aws

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTheOperatorsPermissionsAreItsCalls reads the calls from the source, since some are made only for a cluster in trouble.
func TestTheOperatorsPermissionsAreItsCalls(t *testing.T) {
	called, listed := map[string]bool{}, map[string]bool{}
	for _, name := range []string{"operator.go", "surge.go", "register.go", "contract.go", "expose.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				f, _ := n.Fun.(*ast.Ident)
				for _, arg := range n.Args {
					if id, ok := arg.(*ast.Ident); ok && f != nil && (f.Name == "change" || f.Name == "explain") {
						called[id.Name] = true
					}
				}
			case *ast.CompositeLit:
				for _, e := range n.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok && name == "operator.go" {
						if id, ok := kv.Key.(*ast.Ident); ok {
							listed[id.Name] = true
						}
					}
				}
			}
			return true
		})
	}
	var missing []string
	for name := range listed {
		// Fields of structs are keys, too; only those that begin small are actions.
		if ast.IsExported(name) || called[name] || slices.Contains([]string{"cluster", "timeout", "poll", "ec2", "autoscaling", "elbv2", "elb", "iam"}, name) {
			continue
		}
		missing = append(missing, name)
	}
	if diff := cmp.Diff([]string(nil), missing); diff != "" {
		t.Errorf("listed and never called (-want +got):\n%s", diff)
	}
	for a := range changes {
		if _, both := permissions[a]; both {
			t.Errorf("%s is what a provider calls, too", a)
		}
	}
}
