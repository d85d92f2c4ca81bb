package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/cluster"
)

// concurrentReads bounds the objects of one cluster that are read at a time.
const concurrentReads = 8

// Cluster is one cluster as stored.
type Cluster struct {
	Name string
	// Spec is the config object.
	Spec Object
	// Groups are the instance groups, by name.
	Groups []Object
	// KopsVersion is the version that last updated the cluster, or empty if none has.
	KopsVersion string

	where string // base of messages
}

// Clusters returns the names of the clusters in a store, sorted.
func Clusters(ctx context.Context, s Store) ([]string, error) {
	names, err := s.Names(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list clusters in %s: %w", s.URL(), err)
	}
	found := make([]bool, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrentReads)
	for i, name := range names {
		if CheckKey(name) != nil {
			continue
		}
		g.Go(func() error {
			below, err := s.Names(ctx, name)
			if err != nil {
				return fmt.Errorf("list clusters in %s: %w", s.URL(), err)
			}
			found[i] = slices.Contains(below, path.Base(Layout(name).Config()))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var clusters []string
	for i, name := range names {
		if found[i] {
			clusters = append(clusters, name)
		}
	}
	return clusters, nil
}

// Read reads a cluster's spec, its groups and the version of kOps. For a missing cluster it returns a [*Fault] that wraps
// [ErrNotFound].
func Read(ctx context.Context, s Store, name string) (*Cluster, error) {
	if err := CheckKey(name); err != nil || strings.Contains(name, "/") {
		return nil, &Fault{Where: s.URL(), What: fmt.Sprintf("%q is no name of a cluster", name), Next: "give the name that the spec has, such as atlas.k8s.local"}
	}
	layout := Layout(name)
	spec, err := s.Get(ctx, layout.Config())
	if errors.Is(err, ErrNotFound) {
		return nil, &Fault{
			Where: s.URL(), What: fmt.Sprintf("no cluster %q", name),
			Next: "see what is there with muster get clusters --state " + s.URL(), Err: ErrNotFound,
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read cluster %s: %w", name, err)
	}
	c := &Cluster{Name: name, Spec: spec, where: s.URL()}
	if c.Groups, err = Groups(ctx, s, name); err != nil {
		return nil, err
	}
	version, err := s.Get(ctx, layout.KopsVersion())
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("read kOps version of %s: %w", name, err)
	}
	c.KopsVersion = strings.TrimSpace(string(version.Data))
	return c, nil
}

// ReadAll reads several clusters, in the order of names. One that was deleted meanwhile is left out.
func ReadAll(ctx context.Context, s Store, names []string) ([]*Cluster, error) {
	all := make([]*Cluster, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrentReads)
	for i, name := range names {
		g.Go(func() error {
			c, err := Read(ctx, s, name)
			if errors.Is(err, ErrNotFound) {
				return nil
			}
			all[i] = c
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c *Cluster) bool { return c == nil }), nil
}

// Groups reads the instance groups of a cluster, even without a spec: a writer that was killed leaves such groups.
func Groups(ctx context.Context, s Store, name string) ([]Object, error) {
	groups, err := readGroups(ctx, s, Layout(name))
	if err != nil {
		return nil, fmt.Errorf("read instance groups of %s: %w", name, err)
	}
	return groups, nil
}

func readGroups(ctx context.Context, s Store, layout Layout) ([]Object, error) {
	keys, err := s.List(ctx, layout.Groups())
	if err != nil {
		return nil, err
	}
	groups := make([]Object, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(concurrentReads)
	for i, key := range keys {
		g.Go(func() error {
			o, err := s.Get(ctx, key)
			if errors.Is(err, ErrNotFound) { // deleted since it was listed
				return nil
			}
			groups[i] = o
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(groups, func(o Object) bool { return o.Key == "" }), nil
}

// Draft returns a cluster as it would be in the store, from objects that are not stored yet.
func Draft(s Store, name string, spec Object, groups ...Object) *Cluster {
	return &Cluster{Name: name, Spec: spec, Groups: groups, where: s.URL()}
}

// With returns the cluster with one object replaced, or with a new group. Objects other than its spec and groups are
// ignored.
func (c *Cluster) With(o Object) *Cluster {
	changed := *c
	if o.Key == c.Spec.Key {
		changed.Spec = o
		return &changed
	}
	if path.Dir(o.Key) != Layout(c.Name).Groups() {
		return &changed
	}
	changed.Groups = slices.DeleteFunc(slices.Clone(c.Groups), func(g Object) bool { return g.Key == o.Key })
	changed.Groups = append(changed.Groups, o)
	slices.SortFunc(changed.Groups, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	return &changed
}

// Group returns the object of one group, or false.
func (c *Cluster) Group(name string) (Object, bool) {
	for _, o := range c.Groups {
		if path.Base(o.Key) == name {
			return o, true
		}
	}
	return Object{}, false
}

// Manifest returns the cluster and its groups as one multi-document file, each byte for byte as stored.
func (c *Cluster) Manifest() []byte {
	data, _ := c.manifest()
	return data
}

// part is where an object begins in the manifest.
type part struct {
	line int // the object's first line, counted from 1
	key  string
}

func (c *Cluster) manifest() ([]byte, []part) {
	var b bytes.Buffer
	var parts []part
	for _, o := range append([]Object{c.Spec}, c.Groups...) {
		if b.Len() > 0 {
			b.WriteString("---\n")
		}
		parts = append(parts, part{line: 1 + bytes.Count(b.Bytes(), []byte("\n")), key: o.Key})
		b.Write(o.Data)
		if b.Len() > 0 && b.Bytes()[b.Len()-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), parts
}

// Parse parses the manifest. Faults in its error name the object in the store and the line there.
func (c *Cluster) Parse() (*cluster.Cluster, error) {
	data, parts := c.manifest()
	parsed, err := cluster.Parse(strings.TrimSuffix(c.where, "/")+"/"+c.Name, data)
	if err != nil {
		return nil, relocate(err, c.where, parts)
	}
	if parsed.Name != c.Name {
		return nil, &cluster.SpecError{
			File: strings.TrimSuffix(c.where, "/") + "/" + c.Spec.Key, Line: parsed.Line,
			Msg: fmt.Sprintf("is the spec of %q but stands under %q; write it back where it belongs with muster replace", parsed.Name, c.Name),
		}
	}
	return parsed, nil
}

// relocate turns lines of the manifest into lines of its objects.
func relocate(err error, where string, parts []part) error {
	errs := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the list itself is wanted
		errs = joined.Unwrap()
	}
	moved := make([]error, len(errs))
	for i, e := range errs {
		moved[i] = e
		var spec *cluster.SpecError
		if !errors.As(e, &spec) || spec.Line == 0 {
			continue
		}
		at := parts[0]
		for _, p := range parts {
			if p.line <= spec.Line {
				at = p
			}
		}
		moved[i] = &cluster.SpecError{
			File: strings.TrimSuffix(where, "/") + "/" + at.key, Line: max(spec.Line-at.line+1, 1), Msg: spec.Msg,
		}
	}
	return errors.Join(moved...)
}

// Release returns the release line of the kOps that last updated the cluster. ok is false if none has.
func (c *Cluster) Release() (r cluster.Release, ok bool, err error) {
	if c.KopsVersion == "" {
		return 0, false, nil
	}
	r, err = cluster.ParseRelease(c.KopsVersion)
	if err != nil {
		return 0, false, &cluster.SpecError{File: strings.TrimSuffix(c.where, "/") + "/" + Layout(c.Name).KopsVersion(), Line: 1, Msg: err.Error()}
	}
	return r, true, nil
}
