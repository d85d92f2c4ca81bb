package arch

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// What is built for other systems is well typed there, our own functions and what they
// call. Compiling and linking all of it takes ten times as long: make cross.
func TestWhatIsBuiltForOtherSystemsIsWellTyped(t *testing.T) {
	if os.Getenv("MUSTER_ELSEWHERE") == "" {
		t.Skip("SKIPPED: a minute of reading every dependency; make test-elsewhere runs it")
	}
	for _, tt := range []struct{ program, system, arch string }{
		{"muster", "darwin", "arm64"},
		{"muster", "windows", "amd64"},
		{"muster-peer", "linux", "arm64"},
	} {
		t.Run(tt.program+" "+tt.system+"/"+tt.arch, func(t *testing.T) {
			env := append(os.Environ(), "GOOS="+tt.system, "GOARCH="+tt.arch, "CGO_ENABLED=0")
			names, err := packages.Load(&packages.Config{Dir: "../..", Env: env, Mode: packages.NeedName | packages.NeedImports | packages.NeedDeps}, "./cmd/"+tt.program)
			if err != nil {
				t.Fatal(err)
			}
			var ours []string // whose functions are looked into, too
			packages.Visit(names, nil, func(p *packages.Package) {
				if strings.HasPrefix(p.PkgPath, module) {
					ours = append(ours, p.PkgPath)
				}
			})
			checked, err := packages.Load(&packages.Config{
				Dir: "../..", Env: env,
				Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedDeps | packages.NeedTypes | packages.NeedTypesSizes | packages.NeedSyntax,
			}, ours...)
			if err != nil {
				t.Fatal(err)
			}
			all := 0
			packages.Visit(checked, nil, func(p *packages.Package) {
				all++
				for _, e := range p.Errors {
					t.Error(e)
				}
			})
			if len(checked) < 20 || all < 10*len(checked) {
				t.Errorf("%d of our packages and %d in all were looked at; the test looks at the wrong thing", len(checked), all)
			}
			t.Logf("%d of our packages, %d in all", len(checked), all)
		})
	}
}
