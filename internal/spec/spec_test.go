package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// fixture has what makes editing hard: comments everywhere, quotes of all
// kinds, blank lines, lists at both indents, flow style, text blocks, letters of
// several bytes, empty values.
const fixture = `# The cluster of the Zürich office.   Do not touch on Fridays.
apiVersion: kops.k8s.io/v1alpha2   # kOps's own
kind: Cluster
metadata:
  name: atlas.k8s.local
  annotations: {"note": 'it''s ünïcode', other: "a\"b" }  # 日本
  labels:
    kops.k8s.io/cluster: atlas.k8s.local
spec:
  # how the API is reached
  api:
    loadBalancer:   # one is enough

      class: Classic    # until June
      type: 'Public'
  additionalPolicies:
    node: |
      [
        # not a comment
        {"Effect": "Allow"}
      ]

    # about masters
    master: >-
      folded
      text
  kubelet: {}
  cloudProvider: aws
  gossipConfig:
  kubernetesApiAccess: [0.0.0.0/0, "::/0"]   # the world
  kubernetesVersion: "1.34"
  networkCIDR: 172.20.0.0/16
  sshAccess:
    - 0.0.0.0/0

    # six
    - ::/0
  subnets:
  - cidr: 172.20.0.0/18   # größer
    name: a

    zone: us-east-1a
  # the second
  - name: b
    unknownField:
      deep: [1, {x: y}]
  topology:
    dns:
      type: Private
  zzz: last`

func TestOnlyTheNamedLinesDiffer(t *testing.T) {
	tests := []struct {
		name     string
		change   string
		gone, in string // lines, as they stand
	}{
		{"a value", "spec.topology.dns.type=None", "      type: Private", "      type: None"},
		{"a value with a comment behind it", "spec.api.loadBalancer.class=Network", "      class: Classic    # until June", "      class: Network    # until June"},
		{"a quoted value keeps its quotes", "spec.api.loadBalancer.type=Internal", "      type: 'Public'", "      type: 'Internal'"},
		{"a version stays text", "spec.kubernetesVersion=1.35", `  kubernetesVersion: "1.34"`, `  kubernetesVersion: "1.35"`},
		{"a value in braces", "metadata.annotations.note=plain",
			`  annotations: {"note": 'it''s ünïcode', other: "a\"b" }  # 日本`, `  annotations: {"note": 'plain', other: "a\"b" }  # 日本`},
		{"a value behind letters of several bytes", "metadata.annotations.other=x",
			`  annotations: {"note": 'it''s ünïcode', other: "a\"b" }  # 日本`, `  annotations: {"note": 'it''s ünïcode', other: "x" }  # 日本`},
		{"a key with dots", `metadata.labels["kops.k8s.io/cluster"]=b.k8s.local`, "    kops.k8s.io/cluster: atlas.k8s.local", "    kops.k8s.io/cluster: b.k8s.local"},
		{"an element of a list in brackets", "spec.kubernetesApiAccess[0]=10.0.0.0/8", `  kubernetesApiAccess: [0.0.0.0/0, "::/0"]   # the world`, `  kubernetesApiAccess: [10.0.0.0/8, "::/0"]   # the world`},
		{"one more in brackets", "spec.kubernetesApiAccess[+]=10.0.0.0/8", `  kubernetesApiAccess: [0.0.0.0/0, "::/0"]   # the world`, `  kubernetesApiAccess: [0.0.0.0/0, "::/0", 10.0.0.0/8]   # the world`},
		{"a field of a list's element", "spec.subnets[0].cidr=10.0.0.0/8", "  - cidr: 172.20.0.0/18   # größer", "  - cidr: 10.0.0.0/8   # größer"},
		{"a field that is new", "spec.api.loadBalancer.crossZoneLoadBalancing=true", "", "      crossZoneLoadBalancing: true"},
		{"a field that is new, after what sorts before it", "spec.etcd=x", "", "  etcd: x"},
		{"a mapping that is new", "spec.iam={legacy: false}", "", "  iam:\n    legacy: false"},
		{"a path that is new", "spec.iam.permissions.boundary=x", "", "  iam:\n    permissions:\n      boundary: x"},
		{"a field behind a text block", "spec.additionalPolicies.other=x", "", "    other: x"},
		{"a field behind the last line, which does not end", "spec.zzzz=x", "", "  zzzz: x"},
		{"an element that is new", "spec.sshAccess[+]=10.0.0.0/8", "", "    - 10.0.0.0/8"},
		{"a subnet that is new", "spec.subnets[+]={name: c, zone: z}", "", "  - name: c\n    zone: z"},
		{"a field of an empty mapping", "spec.kubelet.anonymousAuth=false", "  kubelet: {}", "  kubelet:\n    anonymousAuth: false"},
		{"an empty mapping becomes another value", "spec.kubelet=x", "  kubelet: {}", "  kubelet: x"},
		{"a field of nothing", "spec.gossipConfig.protocol=mesh", "", "    protocol: mesh"},
		{"a value for nothing", "spec.gossipConfig=x", "  gossipConfig:", "  gossipConfig: x"},
		{"a mapping in place of another", "spec.topology.dns={type: None}", "      type: Private", "      type: None"},
		{"a text block gone", "spec.additionalPolicies.node-", "    node: |\n      [\n        # not a comment\n        {\"Effect\": \"Allow\"}\n      ]", ""},
		{"a text block replaced", "spec.additionalPolicies.master=x", "    master: >-\n      folded\n      text", "    master: x"},
		{"a value gone", "spec.networkCIDR-", "  networkCIDR: 172.20.0.0/16", ""},
		{"an empty value gone", "spec.gossipConfig-", "  gossipConfig:", ""},
		{"the only field gone", "spec.topology.dns.type-", "    dns:\n      type: Private", "    dns: {}"},
		{"a mapping gone", "spec.api-", "  api:\n    loadBalancer:   # one is enough\n\n      class: Classic    # until June\n      type: 'Public'", ""},
		{"an element gone", "spec.sshAccess[1]-", "    - ::/0", ""},
		{"an element of several lines gone", "spec.subnets[1]-", "  - name: b\n    unknownField:\n      deep: [1, {x: y}]", ""},
		{"the first field of an element gone", "spec.subnets[1].name-", "  - name: b\n    unknownField:", "  - unknownField:"},
		{"the first field of an element gone, with a comment behind it", "spec.subnets[0].cidr-", "  - cidr: 172.20.0.0/18   # größer\n    name: a", "  - name: a"},
		{"a deep value in braces", "spec.subnets[1].unknownField.deep[1].x=z", "      deep: [1, {x: y}]", "      deep: [1, {x: z}]"},
		{"text that looks like a number is quoted", `metadata.name="1.5"`, "  name: atlas.k8s.local", `  name: "1.5"`},
		{"nothing changes", "spec.topology.dns.type=Private", "", ""},
	}
	for _, tt := range tests {
		for _, eol := range []string{"\n", "\r\n"} {
			t.Run(tt.name+fmt.Sprintf(" %q", eol), func(t *testing.T) {
				c, err := ParseChange(tt.change)
				if err != nil {
					t.Fatal(err)
				}
				text := strings.ReplaceAll(fixture, "\n", eol)
				got, err := Edit([]byte(text), c)
				if err != nil {
					t.Fatal(err)
				}
				if eol != "\n" && strings.Count(string(got), "\n") != strings.Count(string(got), eol) {
					t.Errorf("line breaks of two kinds")
				}
				gone, in := difference(fixture, strings.ReplaceAll(string(got), eol, "\n"))
				if diff := cmp.Diff(tt.gone, gone); diff != "" {
					t.Errorf("lines gone (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.in, in); diff != "" {
					t.Errorf("lines new (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// difference returns the lines that are only in one of two texts, of which all
// must stand together.
func difference(before, after string) (gone, in string) {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return strings.Join(a, "\n"), strings.Join(b, "\n")
}

func TestCommentsOfOthersSurviveAFieldThatGoes(t *testing.T) {
	c, err := ParseChange("a[0].b-")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Edit([]byte("a:\n- b: 1\n\n  # about c\n  c: 2\n"), c)
	if want := "a:\n- # about c\n  c: 2\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	// Nor does the last field take the comments of its mapping along.
	got, err = Edit([]byte("x:\n  a:  # mine\n    # about b\n    b: 1  # one\ny: 1\n"), Remove(Path{{Key: "x"}, {Key: "a"}, {Key: "b"}}))
	if want := "x:\n  a: {}  # mine\n    # about b  # one\ny: 1\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestWhatCannotBeEditedIsRefusedWithAReason(t *testing.T) {
	tests := []struct {
		name, text, change, want string
	}{
		{"a path through a value", fixture, "metadata.name.first=x", "metadata.name: is a single value and has no fields"},
		{"a key of a list", fixture, "spec.subnets.cidr=x", "spec.subnets: is a list; say which element"},
		{"an element of a mapping", fixture, "spec.api[0]=x", "spec.api: is a mapping, not a list"},
		{"an element far behind the end", fixture, "spec.subnets[7].cidr=x", "spec.subnets[7].cidr: there are 2 elements"},
		{"a removal of what is not there", fixture, "spec.nothing.at.all-", "spec.nothing.at.all: is not there"},
		{"a shared value", "a: &x {b: 1}\nc: *x\n", "a.b=2", "cannot change this place without touching others"},
		{"a value behind an alias", "a: &x\n  b: 1\nc: *x\n", "c.d=2", "is written in a way that muster does not edit"},
		{"a value with an anchor", "a: &x 1\nc: *x\n", "a=2", "has an anchor or a tag; change it in an editor"},
		{"a value over several lines", "a: one\n  two\nb: 1\n", "a=2", "is spread over several lines; change it in an editor"},
		{"a field in braces gone", "a: {b: 1, c: 2}\n", "a.b-", "does not edit"},
		{"the last field of a document gone", "a: 1\n", "a-", "does not edit"},
		{"a key twice", "a: 1\na: 2\n", "a=3", `line 2: "a" stands twice in one mapping`},
		{"no YAML", "a: [b\n", "a=1", "not YAML"},
		{"nothing", "", "a=1", "document is empty"},
		{"a list", "- a\n", "a=1", "document is no mapping"},
		{"two documents", "a: 1\n---\nb: 1\n", "a=2", "more than one document"},
		{"a line break that few programs know", "a: \"\u2028\"\nb: 1\n", "b=2", "plain line breaks"},
		{"a circle", "a: &x\n  b: *x\nc: 1\n", "c=2", "inside what it stands for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseChange(tt.change)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Edit([]byte(tt.text), c)
			var refused *Error
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want) || got != nil {
				t.Errorf("got  %q, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestChangesAreReadFromOneLine(t *testing.T) {
	for _, bad := range []string{"", "=", "spec", "spec.=x", ".spec=x", "spec..a=x", "[0]=x", "a[x]=1", "a[-1]=1", "a=[", "a b=1", `a["x"=1`, "a=1\n"} {
		if c, err := ParseChange(bad); err == nil {
			t.Errorf("ParseChange(%q) = %v", bad, c)
		}
	}
	for _, good := range []string{"spec.a=b", "spec.a[0].b-", `metadata.labels["kops.k8s.io/cluster"]=x`, "spec.a[+]=b", "a=", "a==", "a={}"} {
		if _, err := ParseChange(good); err != nil {
			t.Errorf("ParseChange(%q): %v", good, err)
		}
	}
}

func TestAPathReadsBack(t *testing.T) {
	for _, s := range []string{"spec.topology.dns.type", "spec.subnets[0].cidr", `metadata.labels["kops.k8s.io/cluster"]`, "a[0][1].b", "a[+]"} {
		p, err := ParsePath(s)
		if err != nil || p.String() != s {
			t.Errorf("ParsePath(%q) = %q, %v", s, p, err)
		}
	}
}

func TestAFileIsSplitByteForByte(t *testing.T) {
	file := "# head\n---\na: 1\n--- # second\nb: |\n  x\n   ---\n--- \n\n# only a comment\n---\nc: 1"
	var got []string
	for _, d := range Documents([]byte(file)) {
		got = append(got, fmt.Sprintf("%d:%s", d.Line, d.Data))
	}
	want := []string{"3:a: 1\n", "5:b: |\n  x\n   ---\n", "12:c: 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestRoundTrip changes every single value of every document there and back,
// and takes every field away and looks at what is left.
func TestRoundTrip(t *testing.T) {
	docs := map[string][]byte{"fixture": []byte(fixture)}
	seen := map[string]bool{} // samples of one cluster share most of their groups
	for _, pattern := range []string{"../../examples/*.yaml", "../../../shared/samples/specs/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			t.Logf("SKIPPED in part: nothing at %s", pattern)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range Documents(data) {
				if seen[string(d.Data)] {
					continue
				}
				seen[string(d.Data)] = true
				docs[fmt.Sprintf("%s:%d", filepath.Base(f), d.Line)] = d.Data
			}
		}
	}
	for name, data := range docs {
		t.Run(name, func(t *testing.T) {
			_, root, err := parse(data)
			if err != nil {
				t.Fatal(err)
			}
			edits := 0
			walk(root, nil, func(path Path, n *yaml.Node) {
				edits += thereAndBack(t, data, path, n)
				takeAway(t, data, path)
			})
			if edits < 3 {
				t.Errorf("only %d edits; the walk is broken", edits)
			}
		})
	}
}

func walk(n *yaml.Node, path Path, visit func(Path, *yaml.Node)) {
	if len(path) > 0 {
		visit(append(Path{}, path...), n)
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			walk(n.Content[i+1], append(path, Step{Key: n.Content[i].Value}), visit)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			walk(c, append(path, Step{List: true, Index: i}), visit)
		}
	}
}

// thereAndBack sets a value to another and back: one line may differ, and then
// none.
func thereAndBack(t *testing.T, data []byte, path Path, n *yaml.Node) int {
	t.Helper()
	if n.Kind != yaml.ScalarNode || n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || isNull(n) {
		return 0
	}
	var old any
	if err := n.Decode(&old); err != nil {
		t.Fatal(err)
	}
	changed, err := Edit(data, Set(path, "changed"))
	if err != nil {
		t.Errorf("set %s: %v", path, err)
		return 1
	}
	gone, in := difference(string(data), string(changed))
	if strings.Contains(gone+in, "\n") || gone == "" || in == "" {
		t.Errorf("set %s: more than a line differs:\n-%s\n+%s", path, gone, in)
	}
	back, err := Edit(changed, Set(path, old))
	if err != nil {
		t.Errorf("set %s back: %v", path, err)
		return 1
	}
	// Quotes that were not needed may have gone with the value.
	if got, want := strings.NewReplacer(`"`, "", "'", "").Replace(string(back)), strings.NewReplacer(`"`, "", "'", "").Replace(string(data)); got != want && !strings.Contains(in, `\`) && !strings.Contains(gone, `''`) && !strings.Contains(gone, `\"`) {
		t.Errorf("set %s and back (-before +after):\n%s", path, cmp.Diff(want, got))
	}
	return 1
}

// takeAway removes a field: no line appears but those of an emptied parent, and
// what is left is in order.
func takeAway(t *testing.T, data []byte, path Path) {
	t.Helper()
	left, err := Edit(data, Remove(path))
	if err != nil {
		var refused *Error
		if !errors.As(err, &refused) {
			t.Errorf("remove %s: %v", path, err)
		}
		return
	}
	gone, in := difference(string(data), string(left))
	added := 0
	for line := range strings.Lines(in) {
		if !strings.Contains(gone, strings.TrimSuffix(line, "\n")) { // a comment of the emptied field stays
			added++
		}
	}
	if gone == "" || added > 1 {
		t.Errorf("remove %s:\n-%s\n+%s", path, gone, in)
	}
}

// TestAnEditIsExactOrRefused draws a document and a change at random.
func TestAnEditIsExactOrRefused(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(drawMapping(rt, 0, 3), "\n") + rapid.SampledFrom([]string{"", "\n", "\n\n# end\n"}).Draw(rt, "end")
		_, root, err := parse([]byte(text))
		if err != nil {
			rt.Fatalf("drawn document: %v\n%s", err, text)
		}
		var paths []Path
		walk(root, nil, func(p Path, n *yaml.Node) {
			paths = append(paths, p)
			if n.Kind == yaml.MappingNode {
				paths = append(paths, append(append(Path{}, p...), Step{Key: "new"}))
			}
		})
		path := rapid.SampledFrom(paths).Draw(rt, "path")
		c := Remove(path)
		if rapid.Bool().Draw(rt, "set") {
			c = Set(path, rapid.SampledFrom([]any{"x", "1.30", "true", "", 7, true, nil, "a: b # c", map[string]any{"k": "v"}, []any{"e"}, "two\nlines"}).Draw(rt, "value"))
		}
		edited, err := Edit([]byte(text), c)
		if err != nil {
			return
		}
		// Edit has compared the values itself. What it cannot know is how much
		// of the text went: never another field's comment.
		before, after := strings.Count(text, "#keep"), strings.Count(string(edited), "#keep")
		if own := inside(root, path, text); after < before-own {
			rt.Errorf("%v took comments that are not its own:\n%s\n->\n%s", c, text, edited)
		}
	})
}

// inside counts the comments between the lines of a field and its end.
func inside(root *yaml.Node, path Path, text string) int {
	_, rest := descend(root, path)
	if len(rest) > 0 {
		return 0
	}
	s := newSource([]byte(text))
	parent, _ := descend(root, path[:len(path)-1])
	from, to, err := s.entry(parent, path[len(path)-1])
	if err != nil {
		return 0
	}
	return strings.Count(text[from:max(s.afterLine(to), from)], "#keep")
}

func drawMapping(rt *rapid.T, indent, depth int) []string {
	var lines []string
	pad := strings.Repeat(" ", indent)
	for i := range rapid.IntRange(1, 4).Draw(rt, "keys") {
		key := fmt.Sprintf("k%d", i)
		if rapid.IntRange(0, 3).Draw(rt, "comment") == 0 {
			lines = append(lines, pad+"#keep "+key)
		}
		tail := rapid.SampledFrom([]string{"", "", "  # ü #keep"}).Draw(rt, "tail")
		switch kind := rapid.IntRange(0, 8).Draw(rt, "kind"); {
		case kind == 0 && depth > 0:
			lines = append(append(lines, pad+key+":"+tail), drawMapping(rt, indent+2, depth-1)...)
		case kind == 1 && depth > 0:
			lines = append(lines, pad+key+":"+tail)
			at := rapid.SampledFrom([]int{0, 2}).Draw(rt, "list indent")
			for range rapid.IntRange(1, 3).Draw(rt, "elements") {
				element := drawMapping(rt, indent+at+2, depth-1)
				for len(element) > 1 && strings.HasPrefix(strings.TrimSpace(element[0]), "#") {
					element = element[1:]
				}
				element[0] = pad + strings.Repeat(" ", at) + "- " + strings.TrimSpace(element[0])
				lines = append(lines, element...)
			}
		case kind == 2:
			lines = append(lines, pad+key+": |", pad+"  text", "", pad+"  # not #kept")
		case kind == 3:
			lines = append(lines, pad+key+`: {a: "ü", b: [1, 'x']}`+tail)
		case kind == 4:
			lines = append(lines, pad+key+":"+tail)
		case kind == 5:
			lines = append(lines, pad+key+": {}"+tail)
		default:
			lines = append(lines, pad+key+": "+rapid.SampledFrom([]string{"v", `"q#"`, "'s'", "1", "ünï", "~", "two words"}).Draw(rt, "value")+tail)
		}
	}
	return lines
}

func FuzzEdit(f *testing.F) {
	f.Add([]byte(fixture), "spec.topology.dns.type=None")
	f.Add([]byte("a: &x {b: [1]}\nc: *x\n"), "c.b[+]=2")
	f.Add([]byte("a:\n- b\n-\n- - c\n"), "a[1]-")
	f.Add([]byte("? a\n: b\n"), "a=c")
	f.Add([]byte("\"a\": !!str b\n<<: {c: d}\n"), "c=e")
	f.Fuzz(func(t *testing.T, data []byte, change string) {
		c, err := ParseChange(change)
		if err != nil {
			return
		}
		edited, err := Edit(data, c)
		if err != nil {
			var refused *Error
			if !errors.As(err, &refused) || edited != nil {
				t.Errorf("%q beside %v", edited, err)
			}
			return
		}
		if c.remove {
			return
		}
		again, err := Edit(edited, c)
		if err == nil && c.path.String() != "" && !strings.Contains(c.path.String(), "[+]") && string(again) != string(edited) {
			t.Errorf("a second time it differs:\n%q\n%q", edited, again)
		}
	})
}
