package iam

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fixture(t testing.TB, name string) []Policy {
	t.Helper()
	path := filepath.Join("testdata", "kops", name+".json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(path, data)
	if err != nil {
		t.Fatal(err)
	}
	return []Policy{p}
}

func TestProveOnWhatKopsWrites(t *testing.T) {
	tests := []struct {
		name, newer, older string
		want               Verdict
	}{
		{"the 1.36 gossip worker holds no more than the 1.35 one", "1.36-gossip-worker", "1.35-gossip-worker", Subset},
		{"the 1.35 gossip worker holds more", "1.35-gossip-worker", "1.36-gossip-worker", NotSubset},
		{"the 1.36 None worker holds no more than the 1.35 one", "1.36-none-worker", "1.35-none-worker", Subset},
		{"the 1.35 None worker holds more", "1.35-none-worker", "1.36-none-worker", NotSubset},
		{"the 1.37 None worker holds no more than the 1.36 one", "1.37-none-worker", "1.36-none-worker", Subset},
		{"the 1.36 None worker holds more than the 1.37 one", "1.36-none-worker", "1.37-none-worker", NotSubset},
		{"hybrid and None workers hold the same", "1.36-hybrid-worker", "1.36-none-worker", Subset},
		{"None and hybrid workers hold the same", "1.36-none-worker", "1.36-hybrid-worker", Subset},
		{"a registry is more than 1.35 gossip without one", "1.36-hybrid-worker", "1.35-gossip-worker", NotSubset},
		{"a control plane with service accounts holds no more", "1.36-gossip-irsa-control-plane", "1.36-gossip-control-plane", Subset},
		{"a control plane without service accounts holds more", "1.36-gossip-control-plane", "1.36-gossip-irsa-control-plane", NotSubset},
		{"a control plane holds no more than itself", "1.36-gossip-control-plane", "1.36-gossip-control-plane", Subset},
		{"another cluster's control plane is another", "1.36-none-control-plane", "1.36-gossip-control-plane", NotSubset},
		{"a worker holds no more than a control plane", "1.36-gossip-worker", "1.36-gossip-control-plane", Subset},
		{"a worker of 1.35 asks what no control plane of 1.36 may", "1.35-gossip-worker", "1.36-gossip-control-plane", NotSubset},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			newer, older := fixture(t, tt.newer), fixture(t, tt.older)
			got := Prove(newer, older)
			if got.Verdict != tt.want {
				t.Fatalf("Prove = %q (%s) with %v; want %q", got.Verdict, got.Why, got.Counter, tt.want)
			}
			if got.Counter != nil {
				t.Log(got.Counter)
				if !naiveAllows(newer, *got.Counter) || naiveAllows(older, *got.Counter) {
					t.Errorf("%v is no counter-example", got.Counter)
				}
			}
		})
	}
}

// generator makes small policies over a small alphabet.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) patterns(from ...string) []string {
	n := 1 + g.IntN(3)
	out := make([]string, n)
	for i := range out {
		out[i] = pick(g, from...)
	}
	return out
}

func (g generator) pattern(alphabet string) string {
	b := make([]byte, g.IntN(4))
	for i := range b {
		b[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(b)
}

func (g generator) globs(prefix string) []string {
	out := make([]string, 1+g.IntN(3))
	for i := range out {
		out[i] = prefix + g.pattern("ab*?")
	}
	return out
}

func (g generator) condition() Condition {
	c := Condition{
		Operator: pick(g, "StringEquals", "StringLike", "StringNotEquals", "StringNotLike", "StringEqualsIfExists", "StringNotLikeIfExists",
			"Null", "ForAnyValue:StringEquals", "ForAllValues:StringLike", "ForAnyValue:StringNotLike"),
		Key: pick(g, "k:One", "K:one", "k:Two"),
	}
	switch {
	case c.Operator == "Null":
		c.Values = g.patterns("true", "false")
	case len(c.Operator) > 12 && c.Operator[:3] == "For":
		c.Key, c.Values = "k:Set", g.globs("")
	default:
		c.Values = g.globs("")
	}
	return c
}

func (g generator) statement() Statement {
	s := Statement{Effect: Allow, Action: Selector{Patterns: g.globs("s:")}, Resource: Selector{Patterns: g.globs("")}}
	if g.IntN(4) == 0 {
		s.Effect = Deny
	}
	for i, r := range s.Resource.Patterns {
		if r == "" {
			s.Resource.Patterns[i] = "*"
		}
	}
	s.Action.Not = g.IntN(8) == 0
	s.Resource.Not = g.IntN(8) == 0
	for range max(0, g.IntN(4)-1) {
		s.Conditions = append(s.Conditions, g.condition())
	}
	return s
}

func (g generator) policy() Policy {
	p := Policy{Version: Version2012}
	for range 1 + g.IntN(3) {
		p.Statements = append(p.Statements, g.statement())
	}
	return p
}

// pair makes two policies that have something to do with each other: half of the
// time the newer one is the older one with something changed.
func (g generator) pair() (newer, older Policy) {
	older = g.policy()
	if g.IntN(2) == 0 {
		return g.policy(), older
	}
	newer = Policy{Version: Version2012, Statements: append([]Statement(nil), older.Statements...)}
	i := g.IntN(len(newer.Statements))
	s := newer.Statements[i]
	switch g.IntN(5) {
	case 0:
		s.Conditions = append(append([]Condition(nil), s.Conditions...), g.condition())
	case 1:
		s.Action.Patterns = g.globs("s:")
	case 2:
		s.Resource.Patterns = []string{pick(g, "a", "b", "ab*", "*", "a?")}
	case 3: // one statement becomes two, which together say the same
		for _, p := range s.Action.Patterns[1:] {
			split := s
			split.Action.Patterns = []string{p}
			if !s.Action.Not {
				newer.Statements = append(newer.Statements, split)
			}
		}
		if !s.Action.Not {
			s.Action.Patterns = s.Action.Patterns[:1]
		}
	default:
		newer.Statements = append(newer.Statements, g.statement())
	}
	newer.Statements[i] = s
	if g.IntN(3) == 0 {
		return older, newer
	}
	return newer, older
}

// universe is every request over an alphabet with one letter that no pattern
// names. Longer texts than the patterns can tell apart add nothing.
func universe() world {
	var actions, resources, values []string
	var words func(prefix string, n int, to *[]string)
	words = func(prefix string, n int, to *[]string) {
		*to = append(*to, prefix)
		if n == 0 {
			return
		}
		for _, r := range "abz" {
			words(prefix+string(r), n-1, to)
		}
	}
	words("s:", 3, &actions)
	words("", 3, &resources)
	words("", 2, &values)
	actions = append(actions, "z:a")
	resources = resources[1:]
	contexts := []map[string][]string{{}}
	for _, key := range []string{"k:one", "k:two"} {
		for _, v := range values {
			contexts = append(contexts, map[string][]string{key: {v}})
		}
	}
	for _, v := range values {
		contexts = append(contexts, map[string][]string{"k:set": {v}}, map[string][]string{"k:set": {v, "a"}},
			map[string][]string{"k:set": {v, "z"}, "k:one": {v}}, map[string][]string{"k:one": {v}, "k:two": {"a"}})
	}
	return world{actions, resources, contexts}
}

func TestProveAgainstEveryRequestOfASmallWorld(t *testing.T) {
	all := universe()
	size := len(all.actions) * len(all.resources) * len(all.contexts)
	g := generator{rand.New(rand.NewPCG(20260611, 7))}
	pairs := 600
	if testing.Short() {
		pairs = 60
	}
	counts := map[Verdict]int{}
	for i := range pairs {
		n, o := g.pair()
		newer, older := []Policy{n}, []Policy{o}
		got := Prove(newer, older)
		counts[got.Verdict]++
		switch got.Verdict {
		case NotSubset:
			if !naiveAllows(newer, *got.Counter) || naiveAllows(older, *got.Counter) {
				t.Fatalf("pair %d: %v is no counter-example\nnew %s\nold %s", i, got.Counter, jsonOf(t, n), jsonOf(t, o))
			}
		case Subset:
			inNew, inOld := all.allowed(newer), all.allowed(older)
			for j := range size {
				if inNew[j] && !inOld[j] {
					t.Fatalf("pair %d: said subset, but %v\nnew %s\nold %s", i, all.request(j), jsonOf(t, n), jsonOf(t, o))
				}
			}
			// The tables are those of the plain evaluator.
			for j := i; j < size; j += 4999 {
				if r := all.request(j); naiveAllows(newer, r) != inNew[j] || naiveAllows(older, r) != inOld[j] {
					t.Fatalf("pair %d: the table of the small world is wrong about %v", i, r)
				}
			}
		case CannotDecide:
			t.Logf("pair %d: %s\nnew %s\nold %s", i, got.Why, jsonOf(t, n), jsonOf(t, o))
		}
	}
	t.Logf("%d pairs against all of %d requests: %v", pairs, size, counts)
	if counts[CannotDecide]*50 > pairs {
		t.Errorf("could not decide %d of %d pairs; want under 2 %%", counts[CannotDecide], pairs)
	}
	for _, v := range []Verdict{Subset, NotSubset} {
		if counts[v]*10 < pairs {
			t.Errorf("%d of %d pairs are %q; the generator tests one side only", counts[v], pairs, v)
		}
	}
}

func jsonOf(t *testing.T, p Policy) string {
	t.Helper()
	b, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func statementOf(effect Effect, actions, resources []string, conditions ...Condition) Statement {
	return Statement{Effect: effect, Action: Selector{Patterns: actions}, Resource: Selector{Patterns: resources}, Conditions: conditions}
}

func policyOf(statements ...Statement) []Policy {
	return []Policy{{Version: Version2012, Statements: statements}}
}

func TestProve(t *testing.T) {
	list := func(s ...string) []string { return s }
	cond := func(op, key string, values ...string) Condition {
		return Condition{Operator: op, Key: key, Values: values}
	}
	all := list("*")
	tests := []struct {
		name         string
		newer, older []Policy
		want         Verdict
	}{
		{"nothing is within nothing", nil, nil, Subset},
		{"something is not within nothing", policyOf(statementOf(Allow, all, all)), nil, NotSubset},
		{"several statements cover one together", policyOf(statementOf(Allow, list("s3:Get*", "s3:Put*"), all)),
			policyOf(statementOf(Allow, list("s3:Get*"), all), statementOf(Allow, list("s3:Put*"), all)), Subset},
		{"a condition and its opposite cover everything", policyOf(statementOf(Allow, list("s3:*"), all)),
			policyOf(statementOf(Allow, list("s3:*"), all, cond("Null", "aws:x", "true")), statementOf(Allow, list("s3:*"), all, cond("Null", "aws:x", "false"))), Subset},
		{"equal and not equal cover everything", policyOf(statementOf(Allow, list("s3:*"), all)),
			policyOf(statementOf(Allow, list("s3:*"), all, cond("StringEquals", "aws:x", "a")), statementOf(Allow, list("s3:*"), all, cond("StringNotEquals", "aws:x", "a"))), Subset},
		{"letter case of actions does not matter", policyOf(statementOf(Allow, list("S3:getobject"), all)), policyOf(statementOf(Allow, list("s3:GetObject"), all)), Subset},
		{"letter case of resources matters", policyOf(statementOf(Allow, all, list("arn:A"))), policyOf(statementOf(Allow, all, list("arn:a"))), NotSubset},
		{"*:* is *", policyOf(statementOf(Allow, all, all)), policyOf(statementOf(Allow, list("*:*"), all)), Subset},
		{"a question mark is one character", policyOf(statementOf(Allow, list("s3:?"), all)), policyOf(statementOf(Allow, list("s3:??"), all)), NotSubset},
		{"a denial on the new side narrows it", policyOf(statementOf(Allow, list("s3:*"), all), statementOf(Deny, list("s3:Put*"), all), statementOf(Deny, list("s3:Delete*"), all)),
			policyOf(Statement{Effect: Allow, Action: Selector{Not: true, Patterns: list("s3:Put*")}, Resource: Selector{Patterns: all}}), Subset},
		{"a denial on the old side widens the new", policyOf(statementOf(Allow, list("s3:Get*"), all)),
			policyOf(statementOf(Allow, list("s3:*"), all), statementOf(Deny, list("s3:GetObject"), all)), NotSubset},
		{"NotResource is everything else", policyOf(statementOf(Allow, list("s3:*"), list("b"))),
			policyOf(Statement{Effect: Allow, Action: Selector{Patterns: list("s3:*")}, Resource: Selector{Not: true, Patterns: list("a*")}}), Subset},
		{"an unknown condition on both sides cancels out", policyOf(statementOf(Allow, list("s3:GetObject"), all, cond("NumericLessThan", "s3:max-keys", "10"))),
			policyOf(statementOf(Allow, list("s3:Get*"), all, cond("NumericLessThan", "s3:max-keys", "10"))), Subset},
		{"an unknown condition on the new side only narrows", policyOf(statementOf(Allow, list("s3:GetObject"), all, cond("IpAddress", "aws:SourceIp", "10.0.0.0/8"))),
			policyOf(statementOf(Allow, list("s3:Get*"), all)), Subset},
		{"without the key an address condition does not hold", policyOf(statementOf(Allow, list("s3:GetObject"), all)),
			policyOf(statementOf(Allow, list("s3:Get*"), all, cond("IpAddress", "aws:SourceIp", "10.0.0.0/8"))), NotSubset},
		{"two different unknown conditions cannot be decided",
			policyOf(statementOf(Allow, list("s3:GetObject"), all, cond("IpAddress", "aws:SourceIp", "10.0.0.0/9"))),
			policyOf(statementOf(Allow, list("s3:Get*"), all, cond("IpAddress", "aws:SourceIp", "10.0.0.0/8"))), CannotDecide},
		{"an unknown operator cannot be decided", policyOf(statementOf(Allow, list("s3:GetObject"), all)),
			policyOf(statementOf(Allow, list("s3:GetObject"), all, cond("StringFoo", "aws:x", "a"))), CannotDecide},
		{"an unknown operator elsewhere does not matter", policyOf(statementOf(Allow, list("s3:GetObject"), all)),
			policyOf(statementOf(Allow, list("s3:GetObject"), all), statementOf(Allow, list("ec2:*"), all, cond("StringFoo", "aws:x", "a"))), Subset},
		{"the same variable on both sides cancels out", policyOf(statementOf(Allow, list("s3:GetObject"), list("arn:${aws:username}/*"))),
			policyOf(statementOf(Allow, list("s3:*"), list("arn:${aws:username}/*"))), Subset},
		{"a variable is within what contains every value of it", policyOf(statementOf(Allow, list("s3:GetObject"), list("arn:${aws:username}/*"))),
			policyOf(statementOf(Allow, list("s3:*"), list("arn:*"))), Subset},
		{"a variable may be anything", policyOf(statementOf(Allow, list("s3:GetObject"), list("arn:a/x"))),
			policyOf(statementOf(Allow, list("s3:*"), list("arn:${aws:username}/*"))), CannotDecide},
		{"in the old language a variable is text", policyOf(statementOf(Allow, list("s3:GetObject"), list("arn:a/x"))),
			[]Policy{{Statements: []Statement{statementOf(Allow, list("s3:*"), list("arn:${aws:username}/*"))}}}, NotSubset},
		{"an escaped star is a star", policyOf(statementOf(Allow, all, list("a*"))), policyOf(statementOf(Allow, all, list("a${*}"))), NotSubset},
		{"parts of an ARN do not reach over colons", policyOf(statementOf(Allow, all, all, cond("StringLike", "aws:SourceArn", "arn:aws:s3:::*"))),
			policyOf(statementOf(Allow, all, all, cond("ArnLike", "aws:SourceArn", "arn:*:s3:*:*:*"))), Subset},
		{"a star of StringLike reaches over colons", policyOf(statementOf(Allow, all, all, cond("StringLike", "aws:SourceArn", "arn:*:s3:*:*:*"))),
			policyOf(statementOf(Allow, all, all, cond("ArnLike", "aws:SourceArn", "arn:*:s3:*:*:a*"))), NotSubset},
		{"ignoring letter case contains each case", policyOf(statementOf(Allow, all, all, cond("StringEquals", "aws:x", "aB"))),
			policyOf(statementOf(Allow, all, all, cond("StringEqualsIgnoreCase", "aws:x", "Ab"))), Subset},
		{"one spelling does not contain all", policyOf(statementOf(Allow, all, all, cond("StringEqualsIgnoreCase", "aws:x", "ab"))),
			policyOf(statementOf(Allow, all, all, cond("StringEquals", "aws:x", "ab"))), NotSubset},
		{"every value among two is more than every value among one", policyOf(statementOf(Allow, all, all, cond("ForAllValues:StringEquals", "aws:TagKeys", "a", "b"))),
			policyOf(statementOf(Allow, all, all, cond("ForAllValues:StringEquals", "aws:TagKeys", "a"))), NotSubset},
		{"every value but at least one is some value", policyOf(statementOf(Allow, all, all, cond("ForAllValues:StringEquals", "aws:TagKeys", "a"), cond("Null", "aws:TagKeys", "false"))),
			policyOf(statementOf(Allow, all, all, cond("ForAnyValue:StringEquals", "aws:TagKeys", "a"))), Subset},
		{"with several values an operator for one is open", policyOf(statementOf(Allow, all, all, cond("ForAllValues:StringEquals", "aws:TagKeys", "a", "b"))),
			policyOf(statementOf(Allow, all, all, cond("StringNotEquals", "aws:TagKeys", "z"))), CannotDecide},
		{"if it exists holds more than equals", policyOf(statementOf(Allow, all, all, cond("StringEqualsIfExists", "aws:x", "a"))),
			policyOf(statementOf(Allow, all, all, cond("StringEquals", "aws:x", "a"))), NotSubset},
		{"a denial that depends on the unknown may hide a counter-example",
			policyOf(statementOf(Allow, list("s3:*"), all), statementOf(Deny, all, all, cond("StringFoo", "aws:x", "a"))), nil, CannotDecide},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Prove(tt.newer, tt.older)
			if got.Verdict != tt.want {
				t.Fatalf("Prove = %q (%s) with %v; want %q", got.Verdict, got.Why, got.Counter, tt.want)
			}
			if (got.Counter != nil) != (tt.want == NotSubset) || (got.Why != "") != (tt.want == CannotDecide) {
				t.Errorf("Prove = %+v; a counter-example goes with one verdict and a reason with another", got)
			}
		})
	}
}

func TestProveGivesUpRatherThanGoOnForEver(t *testing.T) {
	var p, q []string
	for i := range 60 {
		p = append(p, fmt.Sprintf("*%c*%c?????????*", 'a'+i%26, 'a'+(i*7)%26))
		q = append(q, fmt.Sprintf("*%c?%c*??????%c", 'a'+i%26, 'a'+(i*5)%26, 'a'+(i*3)%26))
	}
	got := Prove(policyOf(statementOf(Allow, []string{"*"}, p)), policyOf(statementOf(Allow, []string{"*"}, q)))
	if got.Verdict == Subset {
		t.Errorf("Prove = %+v; those are no subsets", got)
	}
}

func TestACounterExampleKeepsTheSpellingOfItsKey(t *testing.T) {
	newer := policyOf(statementOf(Allow, []string{"ec2:CreateTags"}, []string{"*"}, Condition{Operator: "StringEquals", Key: "aws:ResourceTag/KubernetesCluster", Values: []string{"a"}}))
	got := Prove(newer, nil)
	want := &Request{Action: "ec2:CreateTags", Resource: "*", Context: map[string][]string{"aws:ResourceTag/KubernetesCluster": {"a"}}}
	if got.Counter != nil {
		want.Resource = got.Counter.Resource
	}
	if diff := cmp.Diff(want, got.Counter); diff != "" {
		t.Errorf("counter-example (-want +got):\n%s", diff)
	}
}

func BenchmarkProveLargestRoleOfKops(b *testing.B) {
	newer, older := fixture(b, "1.36-gossip-control-plane"), fixture(b, "1.36-gossip-control-plane")
	for b.Loop() {
		if got := Prove(newer, older); got.Verdict != Subset {
			b.Fatal(got)
		}
	}
}

func BenchmarkProveLargestRoleOfKopsAgainstAnother(b *testing.B) {
	newer, older := fixture(b, "1.36-gossip-control-plane"), fixture(b, "1.36-none-control-plane")
	for b.Loop() {
		if got := Prove(newer, older); got.Verdict != NotSubset {
			b.Fatal(got)
		}
	}
}
