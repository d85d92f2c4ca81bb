package arch

import (
	"go/ast"
	"path/filepath"
	"strings"
	"testing"
)

// mayImport reports whether a package below internal/cli may import another one there.
// Imports point downwards: the program, commands, what they share, the console.
func mayImport(from, to string) bool {
	switch {
	case from == ".":
		return true
	case from == "console":
		return false
	case strings.HasSuffix(from, "cmd"):
		return to != "." && !strings.HasSuffix(to, "cmd")
	default: // what commands share
		return to == "console"
	}
}

func TestGroupsOfCommandsAreIndependent(t *testing.T) {
	const below = module + "/internal/cli"
	groups := map[string]bool{}
	eachFile(t, func(path string, file *ast.File) {
		from, err := filepath.Rel("../../internal/cli", filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		inside := from == "." || !strings.HasPrefix(from, "..")
		if inside && strings.HasSuffix(from, "cmd") {
			groups[from] = true
		}
		for _, i := range file.Imports {
			imported := strings.Trim(i.Path.Value, `"`)
			if imported != below && !strings.HasPrefix(imported, below+"/") {
				continue
			}
			to := strings.TrimPrefix(strings.TrimPrefix(imported, below), "/")
			if to == "" {
				to = "."
			}
			switch {
			case inside && !mayImport(from, to):
				t.Errorf("%s imports %s; what two groups of commands share belongs below them", path, imported)
			case !inside && !strings.HasPrefix(from, "../../cmd/"):
				t.Errorf("%s imports %s; the command line imports packages, and none imports it", path, imported)
			}
		}
	})
	if len(groups) < 5 {
		t.Errorf("only the groups %v were looked at; the test looks at the wrong thing", groups)
	}
}

func TestWhatTheCommandLineMayImport(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		want     bool
	}{
		{".", "labcmd", true},
		{"labcmd", "statestore", true},
		{"labcmd", "console", true},
		{"labcmd", "migratecmd", false},
		{"labcmd", ".", false},
		{"statestore", "console", true},
		{"statestore", "planflags", false},
		{"statestore", "labcmd", false},
		{"console", "statestore", false},
		{"console", ".", false},
	} {
		if got := mayImport(tt.from, tt.to); got != tt.want {
			t.Errorf("%s may import %s: %v; want %v", tt.from, tt.to, got, tt.want)
		}
	}
}
