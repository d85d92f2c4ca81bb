package iam

import "testing"

func TestEvaluate(t *testing.T) {
	list := func(s ...string) []string { return s }
	cond := func(op string, values ...string) Condition {
		return Condition{Operator: op, Key: "aws:X", Values: values}
	}
	allowIf := func(conditions ...Condition) []Policy {
		return policyOf(statementOf(Allow, list("s3:Get*"), list("arn:aws:s3:::b/*"), conditions...))
	}
	with := func(values ...string) map[string][]string { return map[string][]string{"AWS:x": values} }
	tests := []struct {
		name     string
		policies []Policy
		context  map[string][]string
		want     Decision
	}{
		{"no policy allows nothing", nil, nil, Denied},
		{"a match allows", allowIf(), nil, Allowed},
		{"another resource does not", policyOf(statementOf(Allow, list("s3:*"), list("arn:aws:s3:::c/*"))), nil, Denied},
		{"a denial wins", append(allowIf(), policyOf(statementOf(Deny, list("*"), list("*")))...), nil, ExplicitlyDenied},
		{"equal", allowIf(cond("StringEquals", "a", "b")), with("b"), Allowed},
		{"equal minds letter case", allowIf(cond("StringEquals", "a")), with("A"), Denied},
		{"a star is a letter to equals", allowIf(cond("StringEquals", "a*")), with("ab"), Denied},
		{"absent is not equal", allowIf(cond("StringEquals", "a")), nil, Denied},
		{"absent is fine if it exists is asked", allowIf(cond("StringEqualsIfExists", "a")), nil, Allowed},
		{"absent fulfils not equals", allowIf(cond("StringNotEquals", "a")), nil, Allowed},
		{"not equals is none of the values", allowIf(cond("StringNotEquals", "a", "b")), with("b"), Denied},
		{"null is absence", allowIf(cond("Null", "true")), with("b"), Denied},
		{"not null is presence", allowIf(cond("Null", "false")), with("b"), Allowed},
		{"a key without values is absent", allowIf(cond("Null", "true")), with(), Allowed},
		{"truth values in any letters", allowIf(cond("Bool", "true")), with("True"), Allowed},
		{"all conditions must hold", allowIf(cond("StringEquals", "b"), cond("StringLike", "c*")), with("b"), Denied},
		{"any value", allowIf(cond("ForAnyValue:StringEquals", "a")), with("b", "a"), Allowed},
		{"any value of none", allowIf(cond("ForAnyValue:StringEquals", "a")), nil, Denied},
		{"all values", allowIf(cond("ForAllValues:StringEquals", "a")), with("b", "a"), Denied},
		{"all values of none", allowIf(cond("ForAllValues:StringEquals", "a")), nil, Allowed},
		{"several values where one belongs", allowIf(cond("StringEquals", "a")), with("b", "a"), Undecided},
		{"an operator that is not modelled", allowIf(cond("NumericLessThan", "10")), with("1"), Undecided},
		{"but without its key", allowIf(cond("NumericLessThan", "10")), nil, Denied},
		{"an operator that nobody knows", allowIf(cond("Sometimes", "10")), nil, Undecided},
		{"a denial that nobody knows", append(allowIf(), policyOf(statementOf(Deny, list("*"), list("*"), cond("Sometimes", "x")))...), nil, Undecided},
		{"nothing to deny", policyOf(statementOf(Deny, list("*"), list("*"), cond("Sometimes", "x"))), nil, Denied},
		{"a variable with a value", policyOf(statementOf(Allow, list("*"), list("arn:aws:s3:::${aws:x}/*"))), with("b"), Allowed},
		{"a variable with another value", policyOf(statementOf(Allow, list("*"), list("arn:aws:s3:::${aws:x}/*"))), with("c"), Denied},
		{"a star in a variable's value is no wildcard", policyOf(statementOf(Allow, list("*"), list("arn:aws:s3:::${aws:x}/*"))), with("*"), Denied},
		{"a variable without a value", policyOf(statementOf(Allow, list("*"), list("arn:aws:s3:::${aws:x}/*"))), nil, Undecided},
		{"a variable with a default", policyOf(statementOf(Allow, list("*"), list("arn:aws:s3:::${aws:x, 'b'}/*"))), nil, Allowed},
		{"a variable that could not match", policyOf(statementOf(Allow, list("*"), list("arn:aws:sqs:${aws:x}"))), nil, Denied},
		{"a variable among the values", allowIf(cond("StringEquals", "${aws:x}")), with("q"), Allowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Request{Action: "S3:GetObject", Resource: "arn:aws:s3:::b/k", Context: tt.context}
			if got := Evaluate(tt.policies, r); got != tt.want {
				t.Errorf("Evaluate(%v) = %q; want %q", r, got, tt.want)
			}
		})
	}
}
