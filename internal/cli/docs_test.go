package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli"
)

// spoken finds commands in documents: lines of code, which may go on after a
// backslash, and what stands between backticks.
var (
	continued = regexp.MustCompile(`\\\n\s*`)
	inline    = regexp.MustCompile("`(?:bin/)?(muster [^`]+)`")
	codeLine  = regexp.MustCompile(`(?m)^(?:    |\$ |  )?(?:bin/)?(muster [a-z-].*)$`)
	// sayings are a command's end: what follows is another's, or is said about it.
	sayings = regexp.MustCompile(`\s(?:#|>|\||&|;|2>|   ).*$`)
)

// TestEveryCommandInTheDocumentsExists takes the documents by their word: each
// command of muster in them is one, and has the flags that it is given there.
func TestEveryCommandInTheDocumentsExists(t *testing.T) {
	root := "../.."
	files := []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
	for _, pattern := range []string{"docs/*.md", "docs/findings/*.md", "examples/*", "examples/*/*", "packaging/Containerfile"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, rel)
		}
	}
	checked := 0
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			if info, statErr := os.Stat(filepath.Join(root, file)); statErr == nil && info.IsDir() {
				continue
			}
			t.Fatal(err)
		}
		text := continued.ReplaceAllString(string(data), " ")
		said := codeLine.FindAllStringSubmatch(text, -1)
		said = append(said, inline.FindAllStringSubmatch(text, -1)...)
		for _, m := range said {
			checked++
			if err := exists(sayings.ReplaceAllString(m[1], "")); err != nil {
				t.Errorf("%s: %q: %v", file, m[1], err)
			}
		}
	}
	if checked < 100 {
		t.Errorf("%d commands were found; the test looked at the wrong thing", checked)
	}
}

func TestACommandThatDoesNotExistIsNoticed(t *testing.T) {
	for _, said := range []string{"muster plam -f x", "muster plan --too none", "muster iam proof", "muster get nodes", "muster lab --overlay both"} {
		if err := exists(said); err == nil {
			t.Errorf("%q passes for a command", said)
		}
	}
}

// exists reports whether a command line names a command and flags that it has.
// "a|b" is either of two, and capitals or dots stand for something else.
func exists(line string) error {
	words := strings.Fields(line)[1:]
	cmds := []*cobra.Command{cli.Commands()}
	for len(words) > 0 && cmds[0].HasSubCommands() && regexp.MustCompile(`^[a-z][a-z|,-]*$`).MatchString(words[0]) {
		var next []*cobra.Command
		for _, name := range strings.FieldsFunc(words[0], func(r rune) bool { return r == '|' || r == ',' }) {
			for _, c := range cmds {
				if sub, _, err := c.Find([]string{name}); err == nil && sub != c {
					next = append(next, sub)
				} else if name != "help" && name != "completion" {
					return fmt.Errorf("%s has no command %q", c.CommandPath(), name)
				}
			}
		}
		if len(next) == 0 {
			return nil
		}
		cmds, words = next, words[1:]
	}
	for _, w := range words {
		name, ok := strings.CutPrefix(strings.Trim(w, "[](),.;:"), "--")
		if name, _, _ = strings.Cut(name, "="); !ok || name == "" || strings.HasSuffix(w, "...") {
			continue
		}
		for _, part := range strings.Split(name, "|") {
			part = strings.TrimPrefix(part, "--")
			if !anyHas(cmds, part) {
				return fmt.Errorf("%s has no flag --%s", cmds[0].CommandPath(), part)
			}
		}
	}
	return nil
}

// anyHas reports whether one of the commands takes the flag.
func anyHas(cmds []*cobra.Command, flag string) bool {
	for _, c := range cmds {
		c.InitDefaultHelpFlag()
		c.InitDefaultVersionFlag()
		if c.Flags().Lookup(flag) != nil || c.InheritedFlags().Lookup(flag) != nil || c.PersistentFlags().Lookup(flag) != nil {
			return true
		}
	}
	return false
}
