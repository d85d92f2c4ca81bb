package gossip_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestEveryFindingIsExplained(t *testing.T) {
	page, err := os.ReadFile("../../docs/gossip.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "report.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") {
			return true
		}
		code, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if seen++; !strings.Contains(string(page), "| `"+code+"` |") {
			t.Errorf("docs/gossip.md does not explain %s", code)
		}
		return true
	})
	if seen < 10 {
		t.Fatalf("found %d codes in report.go; the test looks at the wrong thing", seen)
	}
}
