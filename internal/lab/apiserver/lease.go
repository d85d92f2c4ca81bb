package apiserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// tick is how often a server looks at the shared state: how old what a watch
// tells can be, and how late a lease that ran out is noticed.
const tick = 100 * time.Millisecond

// lease says that a server lives. It is renewed long before it runs out.
type lease struct {
	Advertise netip.AddrPort `json:"advertise"`
	Expires   time.Time      `json:"expires"`
}

// errDisagree is for servers that cannot be in one EndpointSlice.
var errDisagree = errors.New("the API servers of a lab have to agree on the port and on IPv4 or IPv6")

// snapshot is the EndpointSlice at a revision of the store. It does not change;
// changed closes when there is another.
type snapshot struct {
	revision uint64
	version  uint64         // the slice's own revision, 0 without slice
	created  uint64         // the revision that brought the slice
	slice    *endpointSlice // nil until the first server was ready
	changed  chan struct{}
}

// storedSlice is the EndpointSlice as it is kept.
type storedSlice struct {
	Created uint64        `json:"created"`
	Slice   endpointSlice `json:"slice"`
}

// register keeps the server's lease and the EndpointSlice, and tells watches of
// changes, until ctx ends. Then it gives the lease up. The first lease waits
// until the server is ready; from then on readiness plays no part, as with the
// real one.
func (s *server) register(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var renewed time.Time
	var trouble string
	for {
		reason := s.noteReadiness()
		renew := time.Since(renewed) >= s.cfg.LeaseTTL/3 && (reason == "" || !renewed.IsZero())
		err := s.reconcile(ctx, renew)
		switch {
		case errors.Is(err, errDisagree):
			return err
		case ctx.Err() != nil:
			return s.withdraw(context.WithoutCancel(ctx))
		case err != nil && err.Error() != trouble:
			trouble = err.Error()
			s.log.Error("API server cannot keep its lease", "reason", err)
		case err == nil:
			trouble = ""
			if renew {
				renewed = time.Now()
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return s.withdraw(context.WithoutCancel(ctx))
		}
	}
}

// reconcile renews the lease if asked to, brings the EndpointSlice up to date
// and tells watches. It locks the others out only when there is something to
// write.
func (s *server) reconcile(ctx context.Context, renew bool) error {
	var now snapshot
	stale := false
	err := s.store.view(ctx, func(tx *transaction) (err error) {
		if now, err = readSnapshot(tx); err != nil {
			return err
		}
		wanted, err := wantedSlice(tx, now.slice)
		stale = wanted != nil
		return err
	})
	if err == nil && (renew || stale) {
		err = s.store.update(ctx, func(tx *transaction) (err error) {
			if renew {
				if err := s.renew(tx); err != nil {
					return err
				}
			}
			now, err = s.writeSlice(tx)
			return err
		})
	}
	if err != nil {
		return err
	}
	s.publish(now)
	return nil
}

// withdraw gives the lease up, so that the server is off the slice at once.
func (s *server) withdraw(ctx context.Context) error {
	err := s.store.update(ctx, func(tx *transaction) error {
		if err := tx.remove(leaseFile(s.cfg.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		now, err := s.writeSlice(tx)
		if err == nil {
			s.publish(now)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("withdraw from the EndpointSlice: %w", err)
	}
	return nil
}

// publish makes a snapshot the latest, and wakes the watches if it tells of
// another slice. Only register's goroutine calls it.
func (s *server) publish(now snapshot) {
	former := s.latest.Load()
	now.changed = former.changed
	if now.version != former.version {
		now.changed = make(chan struct{})
	}
	s.latest.Store(&now)
	if now.version != former.version {
		close(former.changed)
	}
}

// renew writes the server's lease. It fails with errDisagree if another server
// that lives could not share a slice with this one.
func (s *server) renew(tx *transaction) error {
	others, err := readLeases(tx)
	if err != nil {
		return err
	}
	own := s.cfg.Advertise
	for name, other := range others {
		if name != s.cfg.Name && (other.Port() != own.Port() || other.Addr().Is4() != own.Addr().Is4()) {
			return fmt.Errorf("%w: this one has %s, and %s has %s", errDisagree, own, name, other)
		}
	}
	return tx.put(leaseFile(s.cfg.Name), lease{Advertise: own, Expires: tx.now.Add(s.cfg.LeaseTTL)})
}

// writeSlice brings the stored EndpointSlice up to date and returns what is
// stored then.
func (s *server) writeSlice(tx *transaction) (snapshot, error) {
	now, err := readSnapshot(tx)
	if err != nil {
		return snapshot{}, err
	}
	wanted, err := wantedSlice(tx, now.slice)
	if err != nil || wanted == nil {
		return now, err
	}
	revision, err := tx.advance()
	if err != nil {
		return snapshot{}, err
	}
	wanted.Metadata.ResourceVersion = strconv.FormatUint(revision, 10)
	wanted.Metadata.Generation++
	var was []endpoint
	if now.slice == nil {
		now.created = revision
	} else {
		was = now.slice.Endpoints
	}
	if err := tx.put(sliceFile, storedSlice{now.created, *wanted}); err != nil {
		return snapshot{}, err
	}
	s.log.Info("EndpointSlice kubernetes changed", "from", addresses(was), "to", addresses(wanted.Endpoints))
	return snapshot{revision: revision, version: revision, created: now.created, slice: wanted}, nil
}

// readSnapshot reads the revision and the slice.
func readSnapshot(tx *transaction) (snapshot, error) {
	revision, err := tx.revision()
	if err != nil {
		return snapshot{}, err
	}
	var stored storedSlice
	if err := tx.get(sliceFile, &stored); errors.Is(err, fs.ErrNotExist) {
		return snapshot{revision: revision}, nil
	} else if err != nil {
		return snapshot{}, err
	}
	version, err := strconv.ParseUint(stored.Slice.Metadata.ResourceVersion, 10, 63)
	if err != nil {
		return snapshot{}, fmt.Errorf("%s: resource version: %w", sliceFile, err)
	}
	return snapshot{revision: revision, version: version, created: stored.Created, slice: &stored.Slice}, nil
}

// wantedSlice returns the slice that the leases call for, or nil if that is the
// one there is. Without any lease it is: the last endpoints stay, as the real
// lease reconciler refuses to erase them all.
func wantedSlice(tx *transaction, is *endpointSlice) (*endpointSlice, error) {
	servers, err := readLeases(tx)
	if err != nil || len(servers) == 0 {
		return nil, err
	}
	wanted := &endpointSlice{
		typeMeta:    typeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		AddressType: "IPv4",
	}
	if is != nil {
		wanted.Metadata = is.Metadata
	} else {
		wanted.Metadata = objectMeta{
			Name: "kubernetes", Namespace: "default", UID: newUID(), CreationTimestamp: timestamp{tx.now},
			Labels: map[string]string{"kubernetes.io/service-name": "kubernetes"},
		}
	}
	var addrs []netip.Addr
	for _, server := range servers {
		addrs = append(addrs, server.Addr())
		if server.Addr().Is6() {
			wanted.AddressType = "IPv6"
		}
		wanted.Ports = []endpointPort{{Name: "https", Port: server.Port(), Protocol: "TCP"}}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, addr := range slices.Compact(addrs) {
		wanted.Endpoints = append(wanted.Endpoints, endpoint{
			Addresses: []netip.Addr{addr}, Conditions: endpointConditions{Ready: true},
		})
	}
	if is != nil && wanted.AddressType == is.AddressType && slices.Equal(wanted.Ports, is.Ports) &&
		slices.Equal(addresses(wanted.Endpoints), addresses(is.Endpoints)) {
		return nil, nil
	}
	return wanted, nil
}

// readLeases returns, by name, where the servers are whose lease has not run
// out.
func readLeases(tx *transaction) (map[string]netip.AddrPort, error) {
	names, err := tx.names(leaseDir)
	if err != nil {
		return nil, err
	}
	servers := make(map[string]netip.AddrPort)
	for _, name := range names {
		var l lease
		if err := tx.get(leaseFile(name), &l); err != nil {
			return nil, err
		}
		if l.Expires.After(tx.now) {
			servers[name] = l.Advertise
		}
	}
	return servers, nil
}

func addresses(endpoints []endpoint) []string {
	addrs := make([]string, 0, len(endpoints))
	for _, e := range endpoints {
		for _, addr := range e.Addresses {
			addrs = append(addrs, addr.String())
		}
	}
	return addrs
}

// newUID returns a random UUID.
func newUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
