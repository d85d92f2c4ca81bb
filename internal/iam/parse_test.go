package iam

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	one := Statement{Effect: Allow, Action: Selector{Patterns: []string{"s3:GetObject"}}, Resource: Selector{Patterns: []string{"*"}}}
	tests := []struct {
		name, doc string
		want      Policy
	}{
		{"single values", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}`,
			Policy{Version: Version2012, Statements: []Statement{one}}},
		{"lists", `{"Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":["*"]}]}`, Policy{Statements: []Statement{one}}},
		{"the answer of get-role-policy", `{"RoleName":"r","PolicyName":"p","PolicyDocument":{"Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}}`,
			Policy{Statements: []Statement{one}}},
		{"opposites, names and conditions",
			`{"Id":"i","Statement":[{"Sid":"s","Effect":"Deny","NotAction":["a:b","c:d"],"NotResource":"arn:x","Condition":{"Bool":{"aws:SecureTransport":false},"NumericLessThan":{"s3:max-keys":[10,"20"]}}}]}`,
			Policy{ID: "i", Statements: []Statement{{Sid: "s", Effect: Deny, Action: Selector{Not: true, Patterns: []string{"a:b", "c:d"}}, Resource: Selector{Not: true, Patterns: []string{"arn:x"}},
				Conditions: []Condition{{"Bool", "aws:SecureTransport", []string{"false"}}, {"NumericLessThan", "s3:max-keys", []string{"10", "20"}}}}}}},
		{"no statements at all", `{"Statement":[]}`, Policy{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse("p.json", []byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	tests := []struct{ name, doc, want string }{
		{"no JSON", `<xml>`, "p.json:1:1: not JSON"},
		{"empty file", ``, "p.json:1:1: document ends too early"},
		{"cut off", "{\"Statement\":\n [{", "p.json:2:4: document ends too early"},
		{"a list", `[]`, "p.json:1:1: policy is no object"},
		{"two documents", `{"Statement":[]}{}`, "p.json:1:17: something follows the document"},
		{"no statement", `{"Version":"2012-10-17"}`, "p.json:1:1: policy has no Statement"},
		{"unknown version", `{"Version":"2020-01-01"}`, `p.json:1:2: Version is "2020-01-01"; AWS knows`},
		{"unknown element of the policy", "{\n  \"Statements\": []}", `p.json:2:3: policy has the element "Statements"; it takes`},
		{"unknown element of a statement", `{"Statement":{"Efect":"Allow"}}`, `p.json:1:15: statement has the element "Efect"; it takes`},
		{"repeated element", `{"Statement":{"Action":"a:b","Action":"*"}}`, `p.json:1:30: statement has "Action" twice; keep one`},
		{"repeated key in other letters", `{"Statement":{"Condition":{"Null":{"aws:x":"true","AWS:X":"false"}}}}`, `Null has "AWS:X" twice`},
		{"Action and NotAction", `{"Statement":{"Action":"a:b","NotAction":"c:d"}}`, "p.json:1:30: statement has both NotAction and its opposite; keep one"},
		{"bad effect", `{"Statement":{"Effect":"allow"}}`, `p.json:1:15: Effect is "allow"; it is Allow or Deny`},
		{"no effect", `{"Statement":{"Action":"a:b","Resource":"*"}}`, "p.json:1:14: statement has no Effect"},
		{"no action", `{"Statement":[{"Effect":"Allow","Resource":"*"}]}`, "p.json:1:15: statement has neither Action nor NotAction"},
		{"no resource", `{"Statement":{"Effect":"Allow","Action":"a:b"}}`, "statement has neither Resource nor NotResource"},
		{"empty list", `{"Statement":{"Action":[]}}`, "p.json:1:24: Action is an empty list"},
		{"empty text", `{"Statement":{"Action":""}}`, "p.json:1:24: Action is an empty text"},
		{"number for an action", `{"Statement":{"Action":[1]}}`, "p.json:1:25: Action is neither a text nor a list of texts"},
		{"null", `{"Statement":{"Effect":null}}`, "p.json:1:24: Effect is no text"},
		{"resource policy", `{"Statement":{"Principal":"*"}}`, "this is a resource or trust policy"},
		{"nested wrapper", `{"PolicyDocument":{"PolicyDocument":{}}}`, `policy has the element "PolicyDocument"`},
		{"statement is a text", `{"Statement":"x"}`, "p.json:1:14: Statement is neither an object nor a list"},
		{"condition is a list", `{"Statement":{"Condition":[]}}`, "p.json:1:27: Condition is no object"},
		{"too large", `"` + strings.Repeat("x", MaxPolicySize) + `"`, "over the limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("p.json", []byte(tt.doc))
			var fault *SyntaxError
			if !errors.As(err, &fault) {
				t.Fatalf("Parse = %v; want a SyntaxError", err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Parse = %q; want %q on one line", err, tt.want)
			}
		})
	}
}

func TestPoliciesOfKopsSurviveWritingAndReading(t *testing.T) {
	files, err := filepath.Glob("testdata/kops/*.json")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d fixtures, %v; want 9", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse(file, data)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, p)
	}
}

func roundTrip(t *testing.T, p Policy) {
	t.Helper()
	if p.Version == "" {
		p.Version = Version2012
	}
	written, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("again.json", written)
	if err != nil {
		t.Fatalf("%v\n%s", err, written)
	}
	if diff := cmp.Diff(p, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("read again (-written +read):\n%s\n%s", diff, written)
	}
}

func FuzzParse(f *testing.F) {
	for _, doc := range []string{
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:${aws:username}/*"}}`,
		`{"Statement":[{"Sid":"s","Effect":"Deny","NotAction":["a:b","c:*"],"NotResource":"arn:x?","Condition":{"Bool":{"aws:SecureTransport":false},"ForAllValues:StringLike":{"k":["a*","?"]}}}]}`,
		`{"RoleName":"r","PolicyDocument":{"Statement":[]}}`,
		`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnLike":{"a":"arn:*:b:c:d:e"},"Null":{"a":true}}}`,
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("f", data)
		if err != nil {
			var fault *SyntaxError
			if !errors.As(err, &fault) || fault.Line < 1 || fault.Column < 1 {
				t.Fatalf("%v is no SyntaxError with a place", err)
			}
			return
		}
		if len(data) > 4096 {
			return
		}
		if got := Prove([]Policy{p}, []Policy{p}); got.Verdict == NotSubset {
			t.Errorf("a policy is no subset of itself: %v", got.Counter)
		}
	})
}
