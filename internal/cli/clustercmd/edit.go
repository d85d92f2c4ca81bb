package clustercmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
	"github.com/muster-dev/muster/internal/spec"
	"github.com/muster-dev/muster/internal/store"
)

const editLong = `The text opens in $KUBE_EDITOR or $EDITOR. What you save is checked, shown as a
diff, and written after --yes or a y on the terminal, over the version that was
read: if somebody else was faster nothing is written. A text that is not written
stays in a file, and the error says where.

--set changes single fields without an editor and no other byte:
  --set spec.topology.dns.type=None       a value
  --set spec.api.loadBalancer.class-      gone
  --set 'spec.subnets[+]={name: c}'       one more

`

// NewEdit returns muster edit.
func NewEdit(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "edit cluster|instancegroup",
		Short: "Edit a cluster's spec or an instance group in its state store",
		Long:  "Edit changes an object of kOps's state store.\n\n" + editLong + console.ExitCodes,
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEditCluster(s), newEditGroup(s))
	return cmd
}

type editOptions struct {
	statestore.Flags
	set []string
	yes bool
}

func (o *editOptions) addTo(cmd *cobra.Command) {
	o.Flags.AddTo(cmd)
	cmd.Flags().StringArrayVar(&o.set, "set", nil, "`PATH=VALUE` or PATH-: change this field, in place of an editor; once for each")
	cmd.Flags().BoolVar(&o.yes, "yes", false, "write it without asking")
}

func newEditCluster(s console.Streams) *cobra.Command {
	var o editOptions
	cmd := &cobra.Command{
		Use:     "cluster [NAME]",
		Short:   "Edit a cluster's spec",
		Long:    editLong + console.ExitCodes,
		Example: "  muster edit cluster atlas.k8s.local --set spec.topology.dns.type=None --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.ParseName(cmd, args); err != nil {
				return err
			}
			return runEdit(cmd.Context(), s, o, func(c *store.Cluster) (store.Object, error) { return c.Spec, nil })
		},
	}
	o.addTo(cmd)
	return cmd
}

func newEditGroup(s console.Streams) *cobra.Command {
	var o editOptions
	cmd := &cobra.Command{
		Use:     "instancegroup GROUP",
		Aliases: []string{"ig", "instancegroups"},
		Short:   "Edit an instance group",
		Long:    editLong + console.ExitCodes,
		Example: "  muster edit ig nodes-us-east-1a --name atlas.k8s.local --set spec.maxSize=6",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return console.CommandLinef(cmd, "%s takes the name of one group", cmd.CommandPath())
			}
			if err := o.RequireName(); err != nil {
				return err
			}
			return runEdit(cmd.Context(), s, o, func(c *store.Cluster) (store.Object, error) {
				g, ok := c.Group(args[0])
				if !ok {
					return g, noGroup(c, args[0])
				}
				return g, nil
			})
		},
	}
	o.addTo(cmd)
	return cmd
}

// runEdit edits the object that pick returns.
func runEdit(ctx context.Context, s console.Streams, o editOptions, pick func(*store.Cluster) (store.Object, error)) error {
	changes, err := parseChanges(o.set)
	if err != nil {
		return err
	}
	reading, cancel := context.WithTimeout(ctx, statestore.Timeout)
	defer cancel()
	st, c, err := o.Read(reading, s)
	if err != nil {
		return err
	}
	old, err := pick(c)
	if err != nil {
		return err
	}
	if parsed, err := c.Parse(); err == nil { // a broken spec can be repaired here
		statestore.WarnGossip(s, c, parsed)
	}
	var draft string // the file with a person's text
	var data []byte
	if len(changes) > 0 {
		data, err = spec.Edit(old.Data, changes...)
		if err != nil {
			return console.Usagef("%s: %w", store.Where(st, old.Key), err)
		}
	} else if data, draft, err = editText(ctx, s, old); err != nil {
		return err
	}
	p := statestore.Proposal{
		Store: st, Was: c, Now: c.With(store.Object{Key: old.Key, Data: data}),
		Writes: []store.Write{{Old: old, Data: data}},
	}
	return keepDraft(ctx, s, draft, func() (settled bool, err error) {
		if _, err := p.Check(); err != nil {
			return false, err
		}
		return p.Apply(ctx, s, o.yes)
	})
}

// secretField matches a password: the last field of a path, or a key in a mapping.
var secretField = regexp.MustCompile(`(^|[.{, ])secret["']?\s*[=:]`)

func parseChanges(set []string) ([]spec.Change, error) {
	var changes []spec.Change
	for _, text := range set {
		c, err := spec.ParseChange(text)
		if err != nil {
			return nil, console.Usagef("--set: %w", err)
		}
		if secretField.MatchString(text) && !c.Removes() {
			return nil, console.Usagef("--set %s: a password on a command line is read by others; set it in an editor", c.Path())
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// keepDraft does something with the text in a file. It removes the file once that is
// settled, and otherwise says where it is; after an interrupt it prints that itself,
// because the error is not printed.
func keepDraft(ctx context.Context, s console.Streams, file string, do func() (settled bool, err error)) error {
	settled, err := do()
	switch {
	case file == "":
		return err
	case ctx.Err() != nil:
		fmt.Fprintf(s.Err, "your text is in %s\n", file)
		return err
	case err != nil:
		return fmt.Errorf("%w; your text is in %s", err, file)
	case !settled:
		fmt.Fprintf(s.Err, "your text is in %s\n", file)
		return nil
	}
	return os.Remove(file)
}

// editText opens an object in an editor, and returns the new text and the file that has
// it.
func editText(ctx context.Context, s console.Streams, o store.Object) (data []byte, file string, err error) {
	editor := os.Getenv("KUBE_EDITOR")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	words := strings.Fields(editor)
	if len(words) == 0 {
		return nil, "", console.Usagef("no editor; set EDITOR, or change fields with --set PATH=VALUE")
	}
	f, err := os.CreateTemp("", "muster-edit-*.yaml")
	if err != nil {
		return nil, "", err
	}
	_, err = f.Write(o.Data)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, "", errors.Join(err, os.Remove(f.Name()))
	}
	// Not bound to ctx: Ctrl-C goes to the editor as well, which may take it for a key, and one that is
	// killed loses what was typed and leaves the terminal as it was set.
	cmd := exec.Command(words[0], append(words[1:], f.Name())...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.In, s.Err, s.Err
	if err := cmd.Run(); err != nil {
		return nil, "", keepDraft(ctx, s, f.Name(), func() (bool, error) { return false, fmt.Errorf("editor %s: %w", words[0], err) })
	}
	if err := ctx.Err(); err != nil {
		return nil, "", keepDraft(ctx, s, f.Name(), func() (bool, error) { return false, err })
	}
	edited, err := os.Open(f.Name())
	if err != nil {
		return nil, "", err
	}
	defer edited.Close()
	data, err = io.ReadAll(io.LimitReader(edited, spec.MaxSize+1))
	return data, f.Name(), err
}
