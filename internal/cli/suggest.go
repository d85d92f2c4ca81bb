package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/internal/cli/console"
)

// withSuggestion returns the text of an error about a command line, with the command
// that was probably meant, or else where to read.
func withSuggestion(err console.CommandLineError, line []string) string {
	if command := suggest(err.Cmd.Root(), line); command != "" {
		return err.Error() + "; try: " + command
	}
	return err.Error() + "; see " + err.Cmd.CommandPath() + " --help"
}

// What a difference between a command line and a command costs. Words that are there
// count more than words that are not.
const (
	costOrder    = 1 // words stand the other way round
	costFlag     = 1 // a file or a name without its flag
	costMissing  = 1 // an operand is missing
	costCluster  = 1 // the noun that is missing is cluster, what most commands are about
	costOdd      = 2 // a cluster's name without a dot
	costMisspelt = 2
	costNoun     = 3 // the noun is missing, or there where none belongs
	costVerb     = 4 // the verb is missing
	costMost     = 6 // beyond it nobody can tell
)

// suggest returns the command line that was probably meant by one that no command
// takes: of all commands that take its flags and words the one that differs least. It
// is empty if there is none, or if several differ as little.
func suggest(root *cobra.Command, line []string) string {
	best, found := costMost+1, ""
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		command, cost, ok := rewrite(c, line)
		switch {
		case !ok || cost > best:
		case cost == best && command != found:
			found = ""
		default:
			best, found = cost, command
		}
	}
	walk(root)
	return found
}

// rewrite returns a line as a command line of c, and what the difference costs; ok is
// false if c does not take it. command is empty if only operands differ.
func rewrite(c *cobra.Command, line []string) (command string, cost int, ok bool) {
	if !c.Runnable() || !c.HasParent() {
		return "", 0, false
	}
	c.InheritedFlags() // adds those of its parents to its own
	words, flags, cost, ok := splitLine(c, line)
	if !ok {
		return "", 0, false
	}
	path := strings.Fields(c.CommandPath())[1:]
	used, far, ok := matchPath(c, path, words)
	if !ok {
		return "", 0, false
	}
	cost += far
	rest := make([]string, 0, len(words))
	for i, w := range words {
		if !slices.Contains(used, i) {
			rest = append(rest, w)
		}
	}
	operands, more, missing, ok := placeOperands(c, rest, flags)
	if cost += more; cost > 0 {
		command = strings.Join(slices.Concat([]string{c.Root().Name()}, path, operands), " ")
	}
	return command, cost + missing*costMissing, ok
}

// matchPath finds the names of a command among words: their indexes, in the order of
// the path, and the cost of names that are missing, misspelt or misplaced.
func matchPath(c *cobra.Command, path, words []string) (used []int, cost int, ok bool) {
	for i, p := range path {
		at, far := nearest(p, aliases(c, len(path)-i), words, used)
		switch {
		case at >= 0:
			used = append(used, at)
			cost += far
		case i == 0 && len(path) > 1:
			cost += costVerb
		case p == "cluster" || p == "clusters":
			cost += costCluster
		default:
			cost += costNoun
		}
	}
	if !slices.IsSorted(used) {
		cost += costOrder
	}
	return used, cost, len(used) > 0
}

// aliases returns the other names of the command that is up-1 levels above c.
func aliases(c *cobra.Command, up int) []string {
	for ; up > 1; up-- {
		c = c.Parent()
	}
	return c.Aliases
}

// nearest returns the index of the word that is a name, one of its aliases, or like it;
// -1 if there is none. Words in use are passed over.
func nearest(name string, others, words []string, used []int) (at, cost int) {
	at = -1
	for i, w := range words {
		if slices.Contains(used, i) {
			continue
		}
		if w == name || slices.Contains(others, w) {
			return i, 0
		}
		if at < 0 && alike(strings.ToLower(w), name) {
			at, cost = i, costMisspelt
		}
	}
	return at, cost
}

// splitLine separates words from flags with their values, as c reads them.
func splitLine(c *cobra.Command, line []string) (words, flags []string, cost int, ok bool) {
	for i := 0; i < len(line); i++ {
		token := line[i]
		if len(token) < 2 || token[0] != '-' {
			words = append(words, token)
			continue
		}
		name, _, valued := strings.Cut(token, "=")
		f, far := flagOf(c, name)
		if f == nil {
			return nil, nil, 0, false
		}
		cost += far
		short := !strings.HasPrefix(token, "--")
		if far > 0 { // the flag that it should be
			token = "--" + f.Name + strings.TrimPrefix(token, name)
		}
		flags = append(flags, token)
		if f.NoOptDefVal == "" && !valued && !(short && len(token) > 2) {
			if i++; i == len(line) {
				return nil, nil, 0, false
			}
			flags = append(flags, line[i])
		}
	}
	return words, flags, cost, true
}

// flagOf returns the flag of a command that a token names, or one with a name like it.
func flagOf(c *cobra.Command, token string) (f *pflag.Flag, cost int) {
	switch {
	case token == "-":
		return nil, 0
	case !strings.HasPrefix(token, "--"):
		return c.Flags().ShorthandLookup(token[1:2]), 0
	}
	name := token[2:]
	if f = c.Flags().Lookup(name); f != nil {
		return f, 0
	}
	c.Flags().VisitAll(func(other *pflag.Flag) {
		if alike(name, other.Name) {
			f = other
		}
	})
	return f, costMisspelt
}

// placeOperands puts words that are no names of commands where c takes them: names as
// operands, files as operands or behind their flag. Operands that are missing are
// written as the usage line has them.
func placeOperands(c *cobra.Command, words, flags []string) (all []string, cost, missing int, ok bool) {
	wants := operands(c)
	var given, behind []string
	for _, w := range words {
		i := slices.IndexFunc(wants, func(o operand) bool { return o.file == console.LooksLikeFile(w) })
		if len(c.ValidArgs) > 0 && !slices.Contains(c.ValidArgs, w) {
			i = -1
		}
		flag := fileFlag(c, w)
		switch {
		case !console.LooksLikeFile(w) && isCommandWord(c.Root(), w):
			cost += costNoun
		case i >= 0:
			if wants[i].name == "NAME" && !strings.Contains(w, ".") {
				cost += costOdd
			}
			if given = append(given, w); !wants[i].many {
				wants = slices.Delete(wants, i, i+1)
			} else {
				wants[i].optional = true
			}
		case console.LooksLikeFile(w) && flag != "" && !slices.Contains(flags, flag):
			behind, cost = append(behind, flag, w), cost+costFlag
		case !console.LooksLikeFile(w) && strings.Contains(w, ".") && c.Flags().Lookup("name") != nil && !slices.Contains(flags, "--name"):
			behind, cost = append(behind, "--name", w), cost+costFlag
		default:
			return nil, 0, 0, false
		}
	}
	for _, o := range wants {
		if !o.optional {
			given, missing = append(given, o.name), missing+1
		}
	}
	if slices.Contains(behind, "--plan") && c.Flags().ShorthandLookup("f") != nil && !slices.Contains(flags, "-f") {
		given = append(given, "-f", "MANIFEST")
	}
	return quoted(slices.Concat(given, behind, flags)), cost, missing, true
}

// fileFlag returns the flag of a command that takes a file; empty if none does.
func fileFlag(c *cobra.Command, file string) string {
	if c.Flags().Lookup("plan") != nil && strings.Contains(filepath.Base(file), "plan") {
		return "--plan"
	}
	if c.Flags().ShorthandLookup("f") != nil {
		return "-f"
	}
	return ""
}

// operand is an argument that a command takes.
type operand struct {
	name                 string
	file, optional, many bool
}

var operandWord = regexp.MustCompile(`^(\[?)([A-Z][A-Za-z-]*(?:\.json)?)(?:\[:PORT\])?(\.\.\.)?\]?$`)

// operands returns the arguments that a command takes by its usage line.
func operands(c *cobra.Command) (all []operand) {
	usage, _, _ := strings.Cut(c.Use, " | ")
	for _, w := range strings.Fields(usage)[1:] {
		m := operandWord.FindStringSubmatch(w)
		if m == nil {
			break // a flag or a command, after which come its own
		}
		file := m[2] == "FILE" || strings.HasSuffix(m[2], ".json")
		all = append(all, operand{name: m[2], file: file, optional: m[1] != "" || m[2] == "NAME" && named(), many: m[3] != ""})
	}
	return all
}

// named reports whether the environment names a cluster.
func named() bool { return os.Getenv("KOPS_CLUSTER_NAME") != "" }

// isCommandWord reports whether a word is the name of any command.
func isCommandWord(root *cobra.Command, word string) bool {
	return slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool {
		return c.Name() == word || c.HasAlias(word) || isCommandWord(c, word)
	})
}

// alike reports whether a may be b misspelt: two letters differ at most, or one if
// either is short.
func alike(a, b string) bool {
	most := 2
	if min(len(a), len(b)) < 5 {
		most = 1
	}
	return distance(a, b) <= most
}

// distance returns the number of insertions, deletions, substitutions and swaps of
// neighbours between two words: the optimal string alignment distance.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			other := 1
			if a[i-1] == b[j-1] {
				other = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+other)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:=,@%+-]+$`)

// quoted quotes words for a shell.
func quoted(words []string) []string {
	all := make([]string, len(words))
	for i, w := range words {
		if all[i] = w; !plain.MatchString(w) {
			all[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return all
}
