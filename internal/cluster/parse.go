package cluster

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// MaxSpecSize is the largest file that [Parse] reads, in bytes. A kOps spec of
// a hundred groups has a tenth of that.
const MaxSpecSize = 4 << 20

const (
	// maxNodes bounds the YAML nodes of a file with every alias expanded. A
	// file of MaxSpecSize without aliases cannot have as many.
	maxNodes = MaxSpecSize

	// maxFaults bounds what one error lists.
	maxFaults = 20
)

const (
	apiGroup       = "kops.k8s.io/v1alpha2"
	apiGroupLegacy = "kops/v1alpha2" // what old kOps wrote and every kOps still reads
	clusterLabel   = "kops.k8s.io/cluster"
)

// SpecError is one fault in a spec: what, where and what to do, in one line.
type SpecError struct {
	// File is the name that the caller gave to Parse.
	File string
	// Line counts from 1; 0 means the file as a whole.
	Line int
	Msg  string
}

// Error returns "file:line: message".
func (e *SpecError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return e.File + ":" + strconv.Itoa(e.Line) + ": " + e.Msg
}

// Parse reads a kOps v1alpha2 manifest: one Cluster and its InstanceGroups, as
// YAML documents in any order or as items of a List. Fields that this package
// does not use are ignored; those it uses are checked.
//
// The error joins a [*SpecError] for each fault, in the order of the file, so its first line can be shown alone. Faults
// across documents (an unknown subnet, no worker at all) are checked once each document is valid. The name of the file
// is only for messages.
func Parse(file string, data []byte) (*Cluster, error) {
	r := &reader{file: file, indexed: map[*yaml.Node]map[string]*yaml.Node{}}
	c := r.parse(data)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (r *reader) parse(data []byte) *Cluster {
	if len(data) > MaxSpecSize {
		r.fault(0, "file has %d bytes, over the limit of %d; keep only the Cluster and InstanceGroup documents", len(data), MaxSpecSize)
		return nil
	}
	roots := r.documents(data)
	if len(r.faults) > 0 {
		return nil
	}
	if len(roots) == 0 {
		r.fault(0, `file is empty; put a kOps Cluster and its InstanceGroups there, as "kops get --name NAME -o yaml" prints them`)
		return nil
	}
	var m manifest
	for _, root := range roots {
		r.document(field{r: r, node: resolve(root)}, &m, false)
	}
	return r.manifest(&m)
}

// documents splits the file and checks that its aliases, expanded, stay within maxNodes.
func (r *reader) documents(data []byte) []*yaml.Node {
	var roots []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		node, err := decode(dec)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, msg := describeYAML(err, data)
			r.fault(line, "not YAML: %s", msg)
			return nil
		}
		roots = append(roots, node)
	}
	w := expansion{sizes: map[*yaml.Node]int{}}
	total := 0
	for _, root := range roots {
		size, bad := w.size(root)
		if bad != nil {
			r.fault(bad.Line, "alias %q stands inside what it stands for; write the values out", clip("*"+bad.Value))
			return nil
		}
		if total += size; total > maxNodes {
			r.fault(root.Line, "aliases expand to more than %d values; write the values out", maxNodes)
			return nil
		}
	}
	return slices.DeleteFunc(roots, isNull)
}

// fault records a fault. Line 0 means the whole file.
func (r *reader) fault(line int, format string, args ...any) {
	if len(r.faults) == maxFaults {
		r.dropped++
		return
	}
	r.faults = append(r.faults, &SpecError{File: r.file, Line: line, Msg: fmt.Sprintf(format, args...)})
}

func (r *reader) err() error {
	slices.SortStableFunc(r.faults, func(a, b *SpecError) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for _, f := range r.faults {
		errs = append(errs, f)
	}
	if r.dropped > 0 {
		errs = append(errs, &SpecError{File: r.file, Msg: fmt.Sprintf("%d more faults; mend the ones above first", r.dropped)})
	}
	return errors.Join(errs...)
}
