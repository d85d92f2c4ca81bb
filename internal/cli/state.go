package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cluster"
	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/open"
)

// storeTimeout bounds what a command does with the state store, waiting for
// another writer included.
const storeTimeout = 2 * time.Minute

// stateFlags are those that name a cluster in a state store, as kOps spells them.
type stateFlags struct {
	state string
	name  string
}

// addTo gives a command the flags. The environment is their default, as in kOps.
func (f *stateFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.state, "state", os.Getenv("KOPS_STATE_STORE"), "`URL` of the state store: s3://, gs://, azureblob://, file:// (KOPS_STATE_STORE)")
	cmd.Flags().StringVar(&f.name, "name", os.Getenv("KOPS_CLUSTER_NAME"), "`cluster` name (KOPS_CLUSTER_NAME)")
}

// open opens the state store. Every fault is one line, exit 2.
func (f *stateFlags) open(ctx context.Context, s console.Streams) (store.Store, error) {
	if f.state == "" {
		return nil, console.Usagef("no state store; give --state or set KOPS_STATE_STORE, such as s3://kops-state")
	}
	return open.Store(ctx, f.state, open.Config{
		Getenv: os.Getenv,
		Notice: func(text string) { fmt.Fprintln(s.Err, "muster: "+text) },
	})
}

// cluster takes the name of the cluster from an argument or from the flag.
func (f *stateFlags) cluster(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return console.CommandLinef(cmd, "%s takes one cluster, not %d", cmd.CommandPath(), len(args))
	case len(args) == 1 && cmd.Flags().Changed("name") && args[0] != f.name:
		return console.Usagef("two cluster names, %q and --name %q; give one", args[0], f.name)
	case len(args) == 1 && console.LooksLikeFile(args[0]):
		return console.CommandLinef(cmd, "%q is a file and no cluster's name", args[0])
	case len(args) == 1:
		f.name = args[0]
	}
	return f.needName()
}

// again is how to say the same cluster in another command.
func (f *stateFlags) again() string {
	if f.state == os.Getenv("KOPS_STATE_STORE") {
		return f.name
	}
	return f.name + " --state " + f.state
}

func (f *stateFlags) needName() error {
	if f.name == "" {
		return console.Usagef("no cluster name; give --name or set KOPS_CLUSTER_NAME")
	}
	return nil
}

// read opens the store and reads the cluster that the flags name.
func (f *stateFlags) read(ctx context.Context, s console.Streams) (store.Store, *store.Cluster, error) {
	st, err := f.open(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	c, err := store.Read(ctx, st, f.name)
	return st, c, err
}

// isStoreFault tells the faults that a person can mend.
func isStoreFault(err error) bool {
	var fault *store.Fault
	return errors.As(err, &fault)
}

// warnGossip says on standard error how long kOps carries a cluster that
// gossips. A kOps version that cannot be read is unknown here, and a finding of
// validate.
func warnGossip(s console.Streams, c *store.Cluster, parsed *cluster.Cluster) {
	r, _, _ := c.Release()
	if notice := parsed.GossipNotice(r); notice != "" {
		fmt.Fprintln(s.Err, "deprecated: "+notice)
	}
}
