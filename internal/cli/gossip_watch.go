package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/gossip"
)

type watchOptions struct {
	gossipFlags
	duration time.Duration
}

func newGossipWatch(s streams) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch HOST[:PORT]... --cluster NAME",
		Short: "What changes in a cluster's gossip, one line each",
		Long: `Watch shows the records as they are and then every change: when, which name, from what
to what, which version, and who wrote it or told it first, as far as the overlay shows;
the overlays do not sign, so whoever writes may use any name. It tells which peers come
and go, and when it is cut off itself.

In weave a listener hears reliably only what its neighbours pass on: give several
addresses. It connects anew once a minute, so nothing is missed for longer.

It ends with Ctrl-C (exit 130), or after --for (exit 0).

` + exitCodes,
		Example: `  muster gossip watch 172.20.0.4 172.20.0.5 --cluster atlas.k8s.local
  muster gossip watch 172.20.0.4 -f cluster.yaml --for 10m -o json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runWatch(cmd.Context(), s, o, args) },
	}
	o.register(cmd)
	cmd.Flags().DurationVar(&o.duration, "for", 0, "how long to watch (default: until interrupted)")
	return cmd
}

func runWatch(ctx context.Context, s streams, o watchOptions, args []string) error {
	sc, err := o.lasting(ctx, s, args)
	if err != nil {
		return err
	}
	if o.duration < 0 {
		return usagef("--for %v; want more than 0", o.duration)
	}
	// A visit tells faults apart; a leaf would only keep trying.
	if _, err := gossip.Look(ctx, sc.sides, sc.timeout); err != nil {
		return err
	}
	s.printNext(o.gossipFlags)
	limited, cancel := limit(ctx, o.duration)
	defer cancel()
	if err := gossip.Watch(limited, sc.sides, sc.timeout, s.events(sc.json)); err != nil {
		return err
	}
	return ctx.Err()
}

// limit bounds ctx by a duration, if there is one.
func limit(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// events prints events, one line each.
func (s streams) events(asJSON bool) func(gossip.Event) {
	enc := json.NewEncoder(s.out)
	return func(e gossip.Event) {
		if asJSON {
			enc.Encode(e)
			return
		}
		fmt.Fprintln(s.out, e)
	}
}
