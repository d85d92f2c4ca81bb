package gossipcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/gossip"
)

type watchOptions struct {
	gossipFlags
	duration time.Duration
}

func newGossipWatch(s console.Streams) *cobra.Command {
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

` + console.ExitCodes,
		Example: `  muster gossip watch 172.20.0.4 172.20.0.5 --cluster atlas.k8s.local
  muster gossip watch 172.20.0.4 -f cluster.yaml --for 10m -o json`,
		RunE: func(cmd *cobra.Command, args []string) error { return runWatch(cmd.Context(), s, o, args) },
	}
	o.register(cmd)
	cmd.Flags().DurationVar(&o.duration, "for", 0, "how long to watch (default: until interrupted)")
	return cmd
}

func runWatch(ctx context.Context, s console.Streams, o watchOptions, args []string) error {
	sc, err := o.lastingSession(ctx, s, args)
	if err != nil {
		return err
	}
	if o.duration < 0 {
		return console.Usagef("--for %v; want more than 0", o.duration)
	}
	// A visit reports what is wrong; a leaf would only keep trying.
	_, silent, err := gossip.Look(ctx, sc.sides, sc.timeout)
	if err != nil {
		return err
	}
	printSilent(s, silent)
	printDeprecation(s, o.gossipFlags)
	return streamEvents(ctx, s, o.duration, sc.json, func(ctx context.Context, emit func(gossip.Event)) error {
		return gossip.Watch(ctx, sc.sides, sc.timeout, emit)
	})
}

// streamEvents runs f and prints its events, for a duration, or without end if that is
// zero. It ends early when the reader of the output goes away.
func streamEvents(ctx context.Context, s console.Streams, d time.Duration, asJSON bool, f func(context.Context, func(gossip.Event)) error) error {
	limited, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if d > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(limited, d, errTimeOver)
		defer cancel()
	}
	s = s.WhileRead()
	enc := json.NewEncoder(s.Out)
	err := f(limited, func(e gossip.Event) {
		var err error
		if asJSON {
			err = enc.Encode(e)
		} else {
			_, err = fmt.Fprintln(s.Out, e)
		}
		if err != nil {
			stop(fmt.Errorf("print what happens: %w", err))
		}
	})
	if err != nil {
		return err
	}
	if cause := context.Cause(limited); !errors.Is(cause, errTimeOver) {
		return cause
	}
	return nil
}

// errTimeOver is the cause with which a limited duration ends.
var errTimeOver = errors.New("the time is over")
