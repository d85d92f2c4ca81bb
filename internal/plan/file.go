package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Format is the format of plan files that this package writes, and the only one
// that it reads.
const Format = "muster.dev/plan/v1"

// File is a stored plan: with the facts that it was made from, and sealed by a
// digest of itself.
type File struct {
	Format string `json:"format"`
	// ID is the SHA-256 of everything else in the file, in hexadecimal.
	ID string `json:"id"`
	// Model is the fingerprint of the model that the plan was made with; see [Model].
	// Empty in files of an earlier muster.
	Model    string `json:"model,omitempty"`
	Observed []Fact `json:"observed"`
	Plan
}

// FileError means that a plan file must not be used.
type FileError struct {
	Where string // the file
	What  string // what is wrong
	Next  string // what to do
}

func (e *FileError) Error() string { return fmt.Sprintf("%s: %s; %s", e.Where, e.What, e.Next) }

// Seal returns the file of a plan.
func Seal(pl Plan, facts []Fact) File {
	f := File{Format: Format, Model: Model(), Observed: facts, Plan: pl}
	f.ID = f.digest()
	return f
}

// Short returns the abbreviated ID, for people.
func (f File) Short() string { return f.ID[:min(4, len(f.ID))] }

// KopsVersion returns the version of the kOps that had last updated the cluster when
// the plan was made, which a way back needs; empty if unknown.
func (f File) KopsVersion() string {
	i := slices.IndexFunc(f.Observed, func(fact Fact) bool { return fact.What == versionFact })
	if i < 0 {
		return ""
	}
	return f.Observed[i].Value
}

func (f File) digest() string {
	f.ID = ""
	data, err := json.Marshal(f)
	if err != nil {
		return "" // unreachable: every field can be encoded
	}
	return digest(data)
}

// JSON returns the file as JSON.
func (f File) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(f); err != nil {
		return nil, fmt.Errorf("write plan as JSON: %w", err)
	}
	return b.Bytes(), nil
}

// YAML returns the file as YAML, its fields in the order of JSON.
func (f File) YAML() ([]byte, error) {
	data, err := f.JSON()
	if err != nil {
		return nil, err
	}
	var doc yaml.Node // JSON is YAML
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("write plan as YAML: %w", err)
	}
	plainStyle(&doc)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return nil, fmt.Errorf("write plan as YAML: %w", err)
	}
	return b.Bytes(), nil
}

// plainStyle clears the flow style that nodes parsed from JSON have.
func plainStyle(n *yaml.Node) {
	n.Style = 0
	for _, c := range n.Content {
		plainStyle(c)
	}
}

// maxFile is the largest file that is read, in bytes; a plan has some tens of
// thousands.
const maxFile = 8 << 20

// Read parses a plan file, YAML or JSON. A file of another version, one made with
// another model of clusters, one that was edited, or one for another cluster is a
// [*FileError] that says what differs. where names the file in errors; an empty
// cluster accepts any.
func Read(ctx context.Context, where string, data []byte, cluster string) (File, error) {
	return read(ctx, where, data, cluster, false)
}

// ReadRecorded is Read for the plan of a run that is to be looked at: it accepts one
// made with another model of clusters, whose starts then have no State. See
// [File.Usable].
func ReadRecorded(ctx context.Context, where string, data []byte, cluster string) (File, error) {
	return read(ctx, where, data, cluster, true)
}

func read(ctx context.Context, where string, data []byte, cluster string, anyModel bool) (File, error) {
	next := "make a new one with muster plan"
	fault := func(format string, args ...any) (File, error) {
		return File{}, &FileError{where, fmt.Sprintf(format, args...), next}
	}
	if len(data) > maxFile {
		return fault("%d bytes are no plan; at most %d are read", len(data), maxFile)
	}
	var head struct {
		Format  string `yaml:"format"`
		Model   string `yaml:"model"`
		Program string `yaml:"program"`
	}
	if err := yaml.Unmarshal(data, &head); err != nil {
		return fault("not a plan: %s", firstLine(err))
	}
	switch {
	case head.Format == "":
		return fault("not a plan: it says no format")
	case head.Format != Format:
		return fault("written in format %q, and this muster reads %q", clip(head.Format), Format)
	}
	if what, do := checkModel(head.Model, head.Program); what != "" && !anyModel {
		return File{}, &FileError{where, what, do}
	}
	f, err := decode(data)
	if err != nil {
		return fault("not a plan of this format: %s", firstLine(err))
	}
	if cluster != "" && f.Problem.Cluster != cluster {
		return fault("a plan for %s, not for %s", clip(f.Problem.Cluster), cluster)
	}
	if is := f.digest(); is != f.ID {
		return fault("edited since it was written: its id is %s and its contents are %s; %s", clip(f.ID[:min(8, len(f.ID))]), is[:8], f.describeEdit(ctx))
	}
	return f, nil
}

// decode parses a file strictly: an unknown field is an error.
func decode(data []byte) (File, error) {
	var f File
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return f, err
	}
	plain, err := json.Marshal(tree)
	if err != nil {
		return f, err
	}
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return f, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return f, errors.New("there is something behind the plan")
	}
	if e := f.Problem.Endpoints; e != Balancer && e != Addresses {
		return f, fmt.Errorf("endpoints %q; want %s or %s", clip(string(e)), Balancer, Addresses)
	}
	if f.Model != Model() {
		return f, nil // its states are packed in another way
	}
	for i := range f.Problem.Starts {
		s := &f.Problem.Starts[i]
		if s.State = stateOf(s.Key); s.State.key() != s.Key {
			return f, fmt.Errorf("start %d is no state", i+1)
		}
	}
	return f, nil
}

// describeEdit describes what was edited. A plan follows from its problem, so it is
// made once more and compared.
func (f File) describeEdit(ctx context.Context) string {
	if f.Model != Model() {
		return "what was edited, only the muster that made it can say"
	}
	p := f.Problem
	p.visitLimit = 1_000_000 // an edited problem may be arbitrarily large
	made, err := Find(ctx, p)
	if err != nil {
		return "its problem was edited: " + firstLine(err)
	}
	for i := range max(len(made.Steps), len(f.Steps)) {
		switch {
		case i >= len(made.Steps):
			return fmt.Sprintf("step %d (%s) was added", i+1, clip(f.Steps[i].ID))
		case i >= len(f.Steps):
			return fmt.Sprintf("step %d (%s) was taken out", i+1, made.Steps[i].ID)
		case made.Steps[i].ID != f.Steps[i].ID:
			return fmt.Sprintf("step %d is %s, and the plan has %s there", i+1, clip(f.Steps[i].ID), made.Steps[i].ID)
		case fmt.Sprint(made.Steps[i]) != fmt.Sprint(f.Steps[i]):
			return fmt.Sprintf("step %d (%s) says something else", i+1, made.Steps[i].ID)
		}
	}
	return "something beside its steps differs"
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// clip shortens foreign text for a message, to 60 bytes of whole characters.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	end := most
	for end > most-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
