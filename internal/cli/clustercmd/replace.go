package clustercmd

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/internal/store"
)

type replaceOptions struct {
	statestore.Flags
	files []string
	force bool
	yes   bool
}

// NewReplace returns muster replace.
func NewReplace(s console.Streams) *cobra.Command {
	var o replaceOptions
	cmd := &cobra.Command{
		Use:   "replace -f MANIFEST [MANIFEST...]",
		Short: "Replace a cluster's spec and instance groups by those of a manifest",
		Long: `Replace writes the documents of a manifest over those of the state store, byte for
byte as they stand in the file. The cluster that comes of it is checked as a
whole first and shown as a diff; nothing is written without --yes or a y on the
terminal, and nothing if somebody else was faster. Groups that the manifest does
not name stay.

` + console.ExitCodes,
		Example: "  muster replace -f atlas.yaml --state s3://kops-state --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files = append(o.files, args...) // a shell turns -f *.yaml into one flag and the rest
			return runReplace(cmd.Context(), s, o)
		},
	}
	o.AddTo(cmd)
	cmd.Flags().StringSliceVarP(&o.files, "filename", "f", nil, "kOps `manifest`, or - for standard input; further files may follow as arguments")
	cmd.Flags().BoolVar(&o.force, "force", false, "make what is not there yet")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "write it without asking")
	return cmd
}

// manifestDoc is one document of a manifest, and where it stands.
type manifestDoc struct {
	file string
	line int
	key  string // in the store, once the cluster is known
	data []byte
	Kind string `yaml:"kind"`
	Meta struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	} `yaml:"metadata"`
}

func (d manifestDoc) where() string { return fmt.Sprintf("%s:%d", d.file, d.line) }

// cluster returns the name of the cluster that the document belongs to; empty if it does
// not say.
func (d manifestDoc) cluster() string {
	if d.Kind == "Cluster" {
		return d.Meta.Name
	}
	return d.Meta.Labels["kops.k8s.io/cluster"]
}

func runReplace(ctx context.Context, s console.Streams, o replaceOptions) error {
	docs, err := readDocuments(ctx, s, o.files)
	if err != nil {
		return err
	}
	if o.Name, err = clusterOf(docs, o.Name); err != nil {
		return err
	}
	for i := range docs {
		docs[i].key = store.Layout(o.Name).Config()
		if docs[i].Kind == "InstanceGroup" {
			docs[i].key = store.Layout(o.Name).Group(docs[i].Meta.Name)
		}
	}
	reading, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	st, was, err := o.Read(reading, s)
	var left []store.Object // groups without a spec, of a writer that was killed
	if o.force && errors.Is(err, store.ErrNotFound) && st != nil {
		left, err = store.Groups(reading, st, o.Name)
		was = nil
	}
	if err != nil {
		return err
	}
	p, err := proposeDocuments(st, o.Name, was, left, docs, o.force)
	if err != nil {
		return err
	}
	parsed, err := p.Check()
	if err != nil {
		return inFile(err, st, docs)
	}
	statestore.WarnGossip(s, p.Now, parsed)
	_, err = p.Apply(ctx, s, o.yes)
	return err
}

// inFile changes the location in an error from the store, where nothing was written yet,
// to the file.
func inFile(err error, st store.Store, docs []manifestDoc) error {
	var fault *cluster.SpecError
	if !errors.As(err, &fault) {
		return err
	}
	for _, d := range docs {
		if store.Where(st, d.key) == fault.File {
			return &cluster.SpecError{File: d.file, Line: d.line + max(fault.Line, 1) - 1, Msg: fault.Msg}
		}
	}
	return err
}

func readDocuments(ctx context.Context, s console.Streams, files []string) ([]manifestDoc, error) {
	if len(files) == 0 {
		return nil, console.Usagef("no manifest; give one with -f")
	}
	var docs []manifestDoc
	for _, name := range files {
		data, err := s.ReadFile(ctx, name)
		name = console.InputName(name)
		switch {
		case err != nil:
			return nil, console.Usagef("cannot read the manifest: %w", err)
		case len(data) > spec.MaxSize:
			return nil, console.Usagef("%s: larger than %d bytes; keep only the Cluster and InstanceGroup documents", name, spec.MaxSize)
		}
		for _, d := range spec.Documents(data) {
			doc := manifestDoc{file: name, line: d.Line, data: d.Data}
			if err := decodeDocument(&doc); err != nil {
				return nil, err
			}
			docs = append(docs, doc)
		}
	}
	if len(docs) == 0 {
		return nil, console.Usagef("%s: file is empty; put a kOps Cluster and its InstanceGroups there", files[0])
	}
	return docs, nil
}

func decodeDocument(doc *manifestDoc) error {
	if err := spec.Decode(doc.data, doc); err != nil {
		return console.Usagef("%s: not YAML: %w; look at indentation and quotes near this place", doc.where(), err)
	}
	switch {
	case doc.Kind != "Cluster" && doc.Kind != "InstanceGroup":
		return console.Usagef("%s: kind is %q; keep only Cluster and InstanceGroup documents, with --- between them", doc.where(), doc.Kind)
	case doc.Meta.Name == "":
		return console.Usagef("%s: %s has no metadata.name; give it its name", doc.where(), doc.Kind)
	case store.CheckKey(doc.Meta.Name) != nil || path.Base(doc.Meta.Name) != doc.Meta.Name:
		return console.Usagef("%s: metadata.name %q cannot be used; a name has lower-case letters, digits, hyphens and dots", doc.where(), doc.Meta.Name)
	}
	return nil
}

// clusterOf returns the cluster that all documents belong to.
func clusterOf(docs []manifestDoc, flag string) (string, error) {
	name, from := "", ""
	for _, d := range docs {
		c := d.cluster()
		if c == "" || c == name {
			continue
		}
		if name != "" {
			return "", console.Usagef("%s: belongs to cluster %q, but %s to %q; replace one cluster at a time", d.where(), c, from, name)
		}
		name, from = c, d.where()
	}
	if name == "" {
		name = flag
	}
	if name == "" {
		return "", console.Usagef("%s: no document says which cluster it belongs to; give --name, or the label kops.k8s.io/cluster", docs[0].where())
	}
	return name, nil
}

// proposeDocuments proposes to overwrite objects with documents, groups first.
func proposeDocuments(st store.Store, name string, was *store.Cluster, left []store.Object, docs []manifestDoc, force bool) (statestore.Proposal, error) {
	p := statestore.Proposal{Store: st, Was: was, Now: was}
	if was == nil {
		p.Now = store.Draft(st, name, store.Object{Key: store.Layout(name).Config()}, left...)
	}
	there := p.Now
	var last []store.Write
	seen := map[string]string{}
	for _, d := range docs {
		old := store.Object{Key: d.key}
		if first, ok := seen[old.Key]; ok {
			return p, console.Usagef("%s: %s %q stands twice, first at %s; keep one", d.where(), d.Kind, d.Meta.Name, first)
		}
		seen[old.Key] = d.where()
		if d.Kind == "Cluster" {
			old = there.Spec
		} else if g, ok := there.Group(d.Meta.Name); ok {
			old = g
		}
		if old.Version == store.Absent && !force {
			return p, console.Usagef("%s: %s %q is not in the store; --force makes it", d.where(), d.Kind, d.Meta.Name)
		}
		p.Now = p.Now.With(store.Object{Key: old.Key, Data: d.data})
		if d.Kind == "Cluster" {
			last = append(last, store.Write{Old: old, Data: d.data})
		} else {
			p.Writes = append(p.Writes, store.Write{Old: old, Data: d.data})
		}
	}
	p.Writes = append(p.Writes, last...)
	return p, nil
}
