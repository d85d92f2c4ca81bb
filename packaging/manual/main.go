// Command manual writes the manual pages of Muster's programs, from the same texts
// as --help: one page for each command of muster (section 1), one for each node
// program (section 8). It is part of packaging; no program links it.
//
// The texts are typeset verbatim: a Markdown converter would take names such as *.k8s.local and [+] for markup.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/muster-dev/muster/internal/cli"
	"github.com/muster-dev/muster/internal/daemon"
	"github.com/muster-dev/muster/internal/peer"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manual DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	os.Clearenv() // so that flags have their built-in defaults
	all, err := pages()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, page := range all {
		if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// pages returns all pages by file name.
func pages() (map[string][]byte, error) {
	all := make(map[string][]byte)
	root := cli.Commands()
	root.InitDefaultCompletionCmd()
	addCommands(all, root)
	agent, err := helpOf(func(out, errs *bytes.Buffer) int {
		return daemon.Main("muster-agent", nil, []string{"--help"}, out, errs)
	})
	if err != nil {
		return nil, err
	}
	all["muster-agent.8"] = nodePage("muster-agent", "Muster's node daemon without gossip", agent)
	daemonHelp, err := helpOf(func(out, errs *bytes.Buffer) int { return peer.Main([]string{"--help"}, out, errs) })
	if err != nil {
		return nil, err
	}
	protokube, err := helpOf(func(out, errs *bytes.Buffer) int { return peer.Main([]string{"protokube", "--help"}, out, errs) })
	if err != nil {
		return nil, err
	}
	all["muster-peer.8"] = nodePage("muster-peer", "Muster's node daemon with the gossip overlay", daemonHelp, protokube)
	return all, nil
}

func helpOf(run func(out, errs *bytes.Buffer) int) (string, error) {
	var out, errs bytes.Buffer
	if code := run(&out, &errs); code != 0 || out.Len() == 0 {
		return "", fmt.Errorf("--help ended with code %d: %s", code, errs.String())
	}
	return out.String(), nil
}

func addCommands(all map[string][]byte, cmd *cobra.Command) {
	all[pageName(cmd)+".1"] = commandPage(cmd)
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			addCommands(all, sub)
		}
	}
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func commandPage(cmd *cobra.Command) []byte {
	var p page
	p.title(pageName(cmd), "1", cmd.Short)
	p.section("SYNOPSIS")
	p.verbatim(cmd.UseLine())
	p.section("DESCRIPTION")
	if cmd.Long != "" {
		p.verbatim(cmd.Long)
	} else {
		p.verbatim(cmd.Short + ".")
	}
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(cmd.Example)
	}
	cmd.InitDefaultHelpFlag()
	p.section("OPTIONS")
	cmd.Flags().VisitAll(p.option)
	cmd.InheritedFlags().VisitAll(p.option)
	var related []string
	if cmd.HasParent() {
		related = append(related, pageName(cmd.Parent())+"(1)")
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			related = append(related, pageName(sub)+"(1)")
		}
	}
	if !cmd.HasParent() {
		related = append(related, "muster-agent(8)", "muster-peer(8)")
	}
	p.section("SEE ALSO")
	p.text(strings.Join(related, ", "))
	return p.Bytes()
}

func nodePage(name, short string, texts ...string) []byte {
	var p page
	p.title(name, "8", short)
	p.section("DESCRIPTION")
	for _, text := range texts {
		p.verbatim(text)
	}
	p.section("FILES")
	p.verbatim("/etc/muster/node.yaml   the node's configuration\n/var/lib/muster         identity, last good addresses, journal of the hosts block\n/etc/hosts              has the block\n/usr/share/doc/muster-agent   guide (agent.md), every field of node.yaml (node.md), examples")
	p.section("SEE ALSO")
	p.text("muster(1), systemd.service(5), hosts(5)")
	return p.Bytes()
}

// page is a manual page in the man(7) macros.
type page struct{ bytes.Buffer }

func (p *page) title(name, section, short string) {
	fmt.Fprintf(p, ".TH %q %q \"\" \"Muster\"\n.nh\n.ad l\n", strings.ToUpper(name), section)
	p.section("NAME")
	fmt.Fprintf(p, "%s \\- %s\n", escape(name), escape(short))
}

func (p *page) section(name string) { fmt.Fprintf(p, ".SH %s\n", name) }

func (p *page) text(s string) { fmt.Fprintln(p, escape(s)) }

// verbatim writes lines without filling them.
func (p *page) verbatim(s string) {
	p.WriteString(".PP\n.nf\n")
	for line := range strings.Lines(strings.Trim(s, "\n") + "\n") {
		p.text(strings.TrimRight(line, "\n"))
	}
	p.WriteString(".fi\n")
}

func (p *page) option(f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	name := "--" + f.Name
	if f.Shorthand != "" {
		name = "-" + f.Shorthand + ", " + name
	}
	if value != "" {
		name += " " + value
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
		usage += " (default " + f.DefValue + ")"
	}
	fmt.Fprintf(p, ".TP\n.B %s\n%s\n", escape(name), escape(usage))
}

// escape escapes what roff would interpret in a line.
func escape(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", "\\(ga", "^", `\(ha`, "~", `\(ti`).Replace(line)
	if strings.HasPrefix(line, ".") {
		line = `\&` + line
	}
	return line
}
