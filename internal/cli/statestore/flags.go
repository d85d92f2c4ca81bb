// Package statestore opens the state store and names the cluster that a command is
// about: the flags for both, what the cluster's cloud shows, and changes that are shown
// and agreed to before they are written.
//
// It is the commands' side of package store, which has the drivers and the layout; it
// decides nothing that another program could not. Nothing is written without a yes,
// and never over a version that was not read.
package statestore

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

// Timeout bounds what a command does with the state store, waiting for
// another writer included.
const Timeout = 2 * time.Minute

// Flags name a cluster in a state store, as kOps spells them.
type Flags struct {
	State string // URL of the state store
	Name  string // of the cluster
}

// AddTo gives a command the flags. The environment is their default, as in kOps.
func (f *Flags) AddTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.State, "state", os.Getenv("KOPS_STATE_STORE"), "`URL` of the state store: s3://, gs://, azureblob://, file:// (KOPS_STATE_STORE)")
	cmd.Flags().StringVar(&f.Name, "name", os.Getenv("KOPS_CLUSTER_NAME"), "`cluster` name (KOPS_CLUSTER_NAME)")
}

// Open opens the state store.
func (f *Flags) Open(ctx context.Context, s console.Streams) (store.Store, error) {
	if f.State == "" {
		return nil, console.Usagef("no state store; give --state or set KOPS_STATE_STORE, such as s3://kops-state")
	}
	return open.Store(ctx, f.State, open.Config{
		Getenv: os.Getenv,
		Notice: func(text string) { fmt.Fprintln(s.Err, "muster: "+text) },
	})
}

// ParseName takes the name of the cluster from an argument or from the flag.
func (f *Flags) ParseName(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return console.CommandLinef(cmd, "%s takes one cluster, not %d", cmd.CommandPath(), len(args))
	case len(args) == 1 && cmd.Flags().Changed("name") && args[0] != f.Name:
		return console.Usagef("two cluster names, %q and --name %q; give one", args[0], f.Name)
	case len(args) == 1 && console.LooksLikeFile(args[0]):
		return console.CommandLinef(cmd, "%q is a file and no cluster's name", args[0])
	case len(args) == 1:
		f.Name = args[0]
	}
	return f.RequireName()
}

// Args returns the arguments that name the same cluster in another command.
func (f *Flags) Args() string {
	if f.State == os.Getenv("KOPS_STATE_STORE") {
		return f.Name
	}
	return f.Name + " --state " + f.State
}

// RequireName refuses flags without the name of a cluster.
func (f *Flags) RequireName() error {
	if f.Name == "" {
		return console.Usagef("no cluster name; give --name or set KOPS_CLUSTER_NAME")
	}
	return nil
}

// Read opens the store and reads the cluster that the flags name.
func (f *Flags) Read(ctx context.Context, s console.Streams) (store.Store, *store.Cluster, error) {
	st, err := f.Open(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	c, err := store.Read(ctx, st, f.Name)
	return st, c, err
}

// WarnGossip says on standard error for how long kOps supports a cluster that gossips.
// A kOps version that cannot be read counts as not known; muster validate reports it.
func WarnGossip(s console.Streams, c *store.Cluster, parsed *cluster.Cluster) {
	r, _, _ := c.Release()
	if notice := parsed.GossipNotice(r); notice != "" {
		fmt.Fprintln(s.Err, "deprecated: "+notice)
	}
}
