package clustercmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/cli/statestore"
)

// NewExport returns muster export.
func NewExport(s console.Streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export cluster",
		Short: "Write a cluster's manifest to a file",
		Long:  "Export writes what the state store holds of a cluster as one manifest.\n\n" + console.ExitCodes,
		Args:  console.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f statestore.Flags
	var out string
	sub := &cobra.Command{
		Use:   "cluster [NAME]",
		Short: "Write the Cluster and its InstanceGroups, byte for byte as they are stored",
		Example: `  muster export cluster atlas.k8s.local --state s3://kops-state --out atlas.yaml
  muster rehearse -f atlas.yaml --to none`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.ParseName(cmd, args); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statestore.Timeout)
			defer cancel()
			return exportCluster(ctx, s, f, out)
		},
	}
	f.AddTo(sub)
	sub.Flags().StringVar(&out, "out", "", "`file` to write; one that exists is left alone (default: standard output)")
	cmd.AddCommand(sub)
	return cmd
}

func exportCluster(ctx context.Context, s console.Streams, f statestore.Flags, out string) error {
	_, c, err := f.Read(ctx, s)
	if err != nil {
		return err
	}
	parsed, err := c.Parse()
	if err != nil {
		return console.FirstError(err)
	}
	statestore.WarnGossip(s, c, parsed)
	if out == "" {
		_, err := s.Out.Write(c.Manifest())
		return err
	}
	// A spec may hold an overlay's password.
	file, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return console.Usagef("%s exists; give another --out", out)
	}
	if err != nil {
		return console.Usagef("cannot write the manifest: %w", err)
	}
	_, err = file.Write(c.Manifest())
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", out, err), os.Remove(out))
	}
	fmt.Fprintf(s.Err, "wrote %s: 1 cluster, %d instance groups\n", out, len(c.Groups))
	return nil
}
