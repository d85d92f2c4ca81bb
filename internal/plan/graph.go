package plan

import (
	"fmt"
	"html"
	"strings"
)

// graph is what the renderers draw: the states that the steps lead through, and
// optionally a counterexample beside them.
type graph struct {
	title string
	nodes []graphNode
	story []string // the counterexample, in order
}

// graphNode is a state and the step that leads to it.
type graphNode struct {
	step  string // empty for the first
	state []string
	notes []string
}

func (f File) graph(story []string) graph {
	g := graph{title: fmt.Sprintf("%s: %s to %s", f.Problem.Cluster, f.Problem.From, f.Problem.To), story: story}
	if len(f.Problem.Starts) > 0 {
		g.nodes = append(g.nodes, graphNode{state: strings.Split(stateOf(f.Problem.Starts[0].Key).String(), "; ")})
	}
	for _, s := range f.Steps {
		n := graphNode{step: fmt.Sprintf("%d  %s", s.Number, s.Title), state: strings.Split(s.After, "; ")}
		n.notes = append(n.notes, fmt.Sprintf("%s states proven", thousands(s.States)))
		if s.Hold {
			n.notes = append(n.notes, "hold")
		}
		if s.Irreversible {
			n.notes = append(n.notes, "irreversible")
		}
		g.nodes = append(g.nodes, n)
	}
	if f.Refused != nil && len(story) == 0 {
		g.story = f.Refused.Story
	}
	return g
}

// Mermaid renders the plan as a Mermaid flow chart. story is a counterexample to
// show beside it, or nil.
func (f File) Mermaid(story []string) string {
	g := f.graph(story)
	quote := func(lines ...string) string {
		var safe []string
		for _, l := range lines {
			safe = append(safe, html.EscapeString(l))
		}
		return `"` + strings.Join(safe, "<br/>") + `"`
	}
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	for i, n := range g.nodes {
		fmt.Fprintf(&b, "  s%d[%s]\n", i, quote(n.state...))
		if i > 0 {
			fmt.Fprintf(&b, "  s%d -->|%s| s%d\n", i-1, quote(append([]string{n.step}, n.notes...)...), i)
		}
	}
	for i, line := range g.story {
		fmt.Fprintf(&b, "  c%d[%s]:::lost\n", i, quote(line))
		if from := fmt.Sprintf("c%d", i-1); i > 0 {
			fmt.Fprintf(&b, "  %s --> c%d\n", from, i)
		} else if len(g.nodes) > 0 {
			fmt.Fprintf(&b, "  s0 -.-> c0\n")
		}
	}
	if len(g.story) > 0 {
		b.WriteString("  classDef lost stroke:#b00020,color:#b00020\n")
	}
	return b.String()
}

// Dot renders the plan for Graphviz, as [File.Mermaid] does.
func (f File) Dot(story []string) string {
	g := f.graph(story)
	quote := func(lines ...string) string {
		joined := strings.Join(lines, "\n")
		joined = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(joined)
		return `"` + joined + `"`
	}
	var b strings.Builder
	fmt.Fprintf(&b, "digraph plan {\n  label=%s;\n  node [shape=box];\n", quote(g.title))
	for i, n := range g.nodes {
		fmt.Fprintf(&b, "  s%d [label=%s];\n", i, quote(n.state...))
		if i > 0 {
			fmt.Fprintf(&b, "  s%d -> s%d [label=%s];\n", i-1, i, quote(append([]string{n.step}, n.notes...)...))
		}
	}
	for i, line := range g.story {
		fmt.Fprintf(&b, "  c%d [label=%s, color=red, fontcolor=red];\n", i, quote(line))
		if i > 0 {
			fmt.Fprintf(&b, "  c%d -> c%d [color=red];\n", i-1, i)
		} else if len(g.nodes) > 0 {
			b.WriteString("  s0 -> c0 [style=dashed, color=red];\n")
		}
	}
	b.WriteString("}\n")
	return b.String()
}
