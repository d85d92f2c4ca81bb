package audit

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// sarifSchema is a subset, written by hand, of what SARIF 2.1.0 requires.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile("testdata/sarif-2.1.0-subset.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSARIFIsWhatTheStandardRequires(t *testing.T) {
	schema := sarifSchema(t)
	// One finding of every kind, each with its rule, and one accepted.
	all := awkward()
	for _, rule := range Rules() {
		f := all.addFinding(rule.ID, "nodes", "as seen")
		f.Blocks, f.GoneAfter = NewNodes, Stays
	}
	for name, r := range map[string]Report{"all findings": all, "an awkward report": awkward(), "nothing found": Run(healthy(), nil)} {
		t.Run(name, func(t *testing.T) {
			data, err := SARIF(r, "1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%#v\n%s", err, data)
			}
		})
	}
}

// The schema itself must be able to say no.
func TestSARIFSchemaRefuses(t *testing.T) {
	schema := sarifSchema(t)
	data, err := SARIF(awkward(), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string][2]string{
		"another version":          {`"version": "2.1.0"`, `"version": "2.0.0"`},
		"a level of our own":       {`"level": "error"`, `"level": "high"`},
		"a driver without a name":  {`"name": "muster"`, `"title": "muster"`},
		"a message without text":   {`"text": `, `"words": `},
		"a link that is none":      {`"helpUri": "https:`, `"helpUri": "no link `},
		"an index below the first": {`"ruleIndex": 0`, `"ruleIndex": -1`},
		"a run without a tool":     {`"tool": {`, `"machine": {`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(string(data), edit[0], edit[1], 1)
			if bad == string(data) {
				t.Fatalf("the report has no %s", edit[0])
			}
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(bad))
			if err != nil {
				t.Fatal(err)
			}
			if schema.Validate(doc) == nil {
				t.Error("the schema accepts it")
			}
		})
	}
}
