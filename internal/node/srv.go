package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/muster-dev/muster/internal/endpoint"
	"github.com/muster-dev/muster/internal/health"
)

const (
	// srvAfter is how long no server may be up before DNS is asked, and again.
	// All other sources have had their first answers by then.
	srvAfter = 5 * time.Second
	// srvTimeout bounds asking, and proving what was answered.
	srvTimeout = 5 * time.Second
	// maxSRV bounds how many servers one answer can make the node try.
	maxSRV = 32
)

// A srvFinder looks for servers in DNS when the node knows none that is up, as
// after being off while every control-plane node was replaced. DNS is not trusted:
// a server it lists is learned only once it has shown a certificate of the cluster.
type srvFinder struct {
	service Service
	view    *view
	log     *slog.Logger
	// lookup returns the servers that the records list.
	lookup func(ctx context.Context, name string) ([]netip.AddrPort, error)
	// prove calls found for each server that proves itself until ctx ends.
	prove func(ctx context.Context, servers []netip.AddrPort, found func(netip.AddrPort)) error

	proven []netip.AddrPort
	fault  string // of the last lookup, so that one that lasts is logged once
}

func (f *srvFinder) run(ctx context.Context) error {
	tick := time.NewTicker(srvAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if f.works() {
			continue
		}
		if err := f.find(ctx); err != nil {
			return err
		}
	}
}

// works reports whether any server that the node knows is up.
func (f *srvFinder) works() bool {
	return slices.ContainsFunc(f.view.known(f.service.Name), func(e endpoint.Endpoint) bool { return e.Health == endpoint.Up })
}

// find asks DNS once and learns the servers that prove themselves.
func (f *srvFinder) find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, srvTimeout)
	defer cancel()
	servers, err := f.lookup(ctx, f.service.SRV)
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	if fault != f.fault {
		f.log.Info("asked DNS for servers", "service", f.service.Name, "name", f.service.SRV, "servers", servers, "err", fault)
	}
	f.fault = fault
	if len(servers) == 0 {
		return nil
	}
	return f.prove(ctx, servers[:min(len(servers), maxSRV)], func(server netip.AddrPort) {
		f.proven = union(f.proven, []netip.AddrPort{server})
		f.view.learn(f.service.Name, endpoint.DNS, f.proven)
	})
}

// lookupSRV returns the addresses of all targets, as far as they have any.
func lookupSRV(ctx context.Context, name string) (servers []netip.AddrPort, err error) {
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
	if err != nil && len(records) == 0 {
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	for _, r := range records[:min(len(records), maxSRV)] {
		addrs, targetErr := net.DefaultResolver.LookupNetIP(ctx, "ip", r.Target)
		if targetErr != nil {
			err = fmt.Errorf("look up %s: %w", name, targetErr)
		}
		for _, a := range addrs {
			servers = append(servers, netip.AddrPortFrom(a.Unmap(), r.Port))
		}
	}
	return servers, err
}

// proveBy proves servers by the checks that they would have to pass anyway. A
// server that is up has shown a certificate of the cluster's CA for its name.
func proveBy(cfg health.Config) func(context.Context, []netip.AddrPort, func(netip.AddrPort)) error {
	return func(ctx context.Context, servers []netip.AddrPort, found func(netip.AddrPort)) error {
		checker, err := health.New(cfg)
		if err != nil {
			return err
		}
		checker.SetTargets(servers)
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		g := new(errgroup.Group)
		g.Go(func() error { return checker.Run(ctx) })
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-checker.Changed():
				waiting = false
				for server, r := range checker.Results() {
					if r.Health == endpoint.Up {
						found(server)
					}
					waiting = waiting || r.Health == endpoint.Unknown
				}
			}
		}
		stop()
		return g.Wait()
	}
}
