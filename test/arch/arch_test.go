// Package arch tests what the programs are made of: who may import whom, what a
// binary links, and how large it is.
package arch

import (
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the committed module lists; commit only what you understand")

const module = "github.com/muster-dev/muster"

// forbidden is what must not be linked, as import path prefixes with reasons.
type forbidden map[string]string

var (
	overlays = forbidden{
		"github.com/hashicorp/memberlist": "a gossip overlay",
		"github.com/hashicorp/serf":       "a gossip overlay",
		"github.com/weaveworks/mesh":      "a gossip overlay",
		module + "/internal/overlay":      "a gossip overlay",
		module + "/internal/peer":         "what the peer has and the agent has not",
		"github.com/aws/":                 "a cloud SDK",
		"cloud.google.com/":               "a cloud SDK",
		"google.golang.org/api":           "a cloud SDK",
		"github.com/Azure/":               "a cloud SDK",
		"github.com/digitalocean/":        "a cloud SDK",
		"github.com/hetznercloud/":        "a cloud SDK",
		"github.com/gophercloud/":         "a cloud SDK",
		"github.com/scaleway/":            "a cloud SDK",
		module + "/internal/cloud":        "cloud look-up",
		"k8s.io/":                         "node programs stay small",
		"github.com/spf13/cobra":          "node programs stay small",
	}
	everywhere = forbidden{
		"google.golang.org/grpc": "pulls in html/template, which switches off the linker's dead-code elimination",
		"html/template":          "switches off the linker's dead-code elimination",
	}
	// memberlist's codec names net/rpc, whose debug page is a template that
	// nothing reaches; the size ceiling would show it if something did.
	inThePeer = forbidden{"google.golang.org/grpc": everywhere["google.golang.org/grpc"]}
)

func (f forbidden) hits(paths []string) (hits []string) {
	for _, p := range paths {
		for prefix, why := range f {
			if strings.HasPrefix(p, prefix) {
				hits = append(hits, p+": "+why)
			}
		}
	}
	slices.Sort(hits)
	return hits
}

// deps returns the packages that a program links, as go list has them.
func deps(t *testing.T, program string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "./cmd/"+program)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", program, err)
	}
	return strings.Fields(string(out))
}

// built builds a program as a release has it.
func built(t *testing.T, program string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), program)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./cmd/"+program)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", program, err, out)
	}
	return path
}

func TestTheAgentImportsNoOverlayAndNoCloudSDK(t *testing.T) {
	got := deps(t, "muster-agent")
	if !slices.Contains(got, module+"/internal/node") {
		t.Fatalf("go list gave %d packages without internal/node; it did not look at the agent", len(got))
	}
	if hits := overlays.hits(got); len(hits) > 0 {
		t.Errorf("muster-agent imports:\n  %s", strings.Join(hits, "\n  "))
	}
}

func TestThePeerIsCaughtByTheSameTest(t *testing.T) {
	if hits := overlays.hits(deps(t, "muster-peer")); len(hits) == 0 {
		t.Error("muster-peer links an overlay and the test does not see it: it would not see one in the agent either")
	}
}

func TestNoProgramLinksTemplatesOrGRPC(t *testing.T) {
	for program, never := range map[string]forbidden{"muster": everywhere, "muster-agent": everywhere, "muster-peer": inThePeer} {
		if hits := never.hits(deps(t, program)); len(hits) > 0 {
			t.Errorf("%s links:\n  %s", program, strings.Join(hits, "\n  "))
		}
	}
}

// ceilings are the largest that stripped programs may be, in bytes.
var ceilings = map[string]int64{"muster-agent": 12 << 20, "muster-peer": 25 << 20, "muster": 50 << 20}

func TestBuiltPrograms(t *testing.T) {
	for program, ceiling := range ceilings {
		t.Run(program, func(t *testing.T) {
			path := built(t, program)
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %.1f MiB of at most %d", program, float64(info.Size())/(1<<20), ceiling>>20)
			if info.Size() > ceiling {
				t.Errorf("%s has %d bytes; at most %d", program, info.Size(), ceiling)
			}
			build, err := buildinfo.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var modules []string
			for _, d := range build.Deps {
				modules = append(modules, d.Path)
			}
			slices.Sort(modules)
			compareList(t, filepath.Join("testdata", program+".modules"), modules)
			if program == "muster-agent" {
				if hits := overlays.hits(modules); len(hits) > 0 {
					t.Errorf("the binary of %s is linked from:\n  %s", program, strings.Join(hits, "\n  "))
				}
			}
		})
	}
}

// compareList compares with a committed list, so that a new dependency is seen
// in review.
func compareList(t *testing.T, file string, got []string) {
	t.Helper()
	text := strings.Join(got, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; go test ./test/arch -update writes it", err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("modules differ from %s (-committed +linked); if that is meant: go test ./test/arch -update\n%s", file, diff)
	}
}

func TestNothingOfOursUsesTemplates(t *testing.T) {
	eachFile(t, func(path string, file *ast.File) {
		for _, i := range file.Imports {
			switch strings.Trim(i.Path.Value, `"`) {
			case "text/template", "html/template", "google.golang.org/grpc":
				t.Errorf("%s imports %s", path, i.Path.Value)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"SetUsageTemplate", "SetHelpTemplate", "SetVersionTemplate"}, sel.Sel.Name) {
				t.Errorf("%s calls %s, which links text/template", path, sel.Sel.Name)
			}
			return true
		})
	})
}

func TestPurePackagesDoNoIO(t *testing.T) {
	pure := []string{"cluster", "spec", "manifest", "kopshook", "record", "endpoint", "identity", "iam", "audit", "plan", "page"}
	never := []string{"os", "net/http", "os/exec", "io/fs", "syscall"}
	for _, p := range pure {
		cmd := exec.Command("go", "list", "-json=Imports", "./internal/"+p)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Imports []string }
		if err := json.Unmarshal(out, &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Imports) == 0 {
			t.Fatalf("internal/%s imports nothing at all; the test looked at the wrong thing", p)
		}
		for _, i := range list.Imports {
			if slices.Contains(never, i) {
				t.Errorf("internal/%s imports %s; it takes values and returns values", p, i)
			}
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	commented := make(map[string]bool)
	eachFile(t, func(path string, file *ast.File) {
		dir := filepath.Dir(path)
		commented[dir] = commented[dir] || file.Doc != nil
	})
	for dir, ok := range commented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// eachFile visits every Go file of the product that is no test.
func eachFile(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	seen := 0
	for _, root := range []string{"../../cmd", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			seen++
			visit(path, file)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 20 {
		t.Fatalf("visited %d files; the walk is broken", seen)
	}
}
