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

// tick is how often a server reads the shared state: it bounds the delay of watches, and of noticing that a lease has
// expired.
const tick = 100 * time.Millisecond

// lease says that a server is alive. It is renewed long before it expires.
type lease struct {
	Advertise netip.AddrPort `json:"advertise"`
	Expires   time.Time      `json:"expires"`
}

// errDisagree is for servers that cannot be in one EndpointSlice.
var errDisagree = errors.New("the API servers of a lab have to agree on the port and on IPv4 or IPv6")

// snapshot is the EndpointSlice at a revision of the store. It is immutable; changed is closed when there is another.
type snapshot struct {
	revision uint64
	version  uint64         // revision of the slice; 0 if there is none
	created  uint64         // revision at which the slice was created
	slice    *endpointSlice // nil until the first server was ready
	changed  chan struct{}
}

// storedSlice is the EndpointSlice as stored.
type storedSlice struct {
	Created uint64        `json:"created"`
	Slice   endpointSlice `json:"slice"`
}

// register keeps the server's lease and the EndpointSlice up to date, and notifies watches, until ctx ends. Then it
// releases the lease. The first lease waits until the server is ready; later readiness has no effect, as with the
// real one.
func (s *server) register(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var renewed time.Time
	var lastError string
	for {
		reason := s.updateReadiness()
		renew := time.Since(renewed) >= s.cfg.LeaseTTL/3 && (reason == "" || !renewed.IsZero())
		err := s.reconcile(ctx, renew)
		switch {
		case errors.Is(err, errDisagree):
			return err
		case ctx.Err() != nil:
			return s.withdraw(context.WithoutCancel(ctx))
		case err != nil && err.Error() != lastError:
			lastError = err.Error()
			s.log.Error("API server cannot keep its lease", "reason", err)
		case err == nil:
			lastError = ""
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

// reconcile renews the lease if renew is set, updates the EndpointSlice and notifies watches. It locks exclusively
// only if there is something to write.
func (s *server) reconcile(ctx context.Context, renew bool) error {
	var now snapshot
	stale := false
	err := s.store.view(ctx, func(tx *transaction) (err error) {
		if now, err = readSnapshot(tx); err != nil {
			return err
		}
		desired, err := wantedSlice(tx, now.slice)
		stale = desired != nil
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

// withdraw releases the lease, so that the server leaves the slice at once.
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

// publish makes a snapshot the latest, and wakes the watches if it has another slice. Only register's goroutine calls
// it.
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

// renew writes the server's lease. It fails with errDisagree if another live server could not share a slice with this
// one.
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

// writeSlice updates the stored EndpointSlice and returns the stored one.
func (s *server) writeSlice(tx *transaction) (snapshot, error) {
	now, err := readSnapshot(tx)
	if err != nil {
		return snapshot{}, err
	}
	desired, err := wantedSlice(tx, now.slice)
	if err != nil || desired == nil {
		return now, err
	}
	revision, err := tx.advance()
	if err != nil {
		return snapshot{}, err
	}
	desired.Metadata.ResourceVersion = strconv.FormatUint(revision, 10)
	desired.Metadata.Generation++
	var previous []endpoint
	if now.slice == nil {
		now.created = revision
	} else {
		previous = now.slice.Endpoints
	}
	if err := tx.put(sliceFile, storedSlice{now.created, *desired}); err != nil {
		return snapshot{}, err
	}
	s.log.Info("EndpointSlice kubernetes changed", "from", addresses(previous), "to", addresses(desired.Endpoints))
	return snapshot{revision: revision, version: revision, created: now.created, slice: desired}, nil
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

// wantedSlice returns the slice that the leases call for, or nil if the present one is right. Without any lease it
// is: the last endpoints stay, as the real lease reconciler refuses to remove them all.
func wantedSlice(tx *transaction, current *endpointSlice) (*endpointSlice, error) {
	servers, err := readLeases(tx)
	if err != nil || len(servers) == 0 {
		return nil, err
	}
	desired := &endpointSlice{
		typeMeta:    typeMeta{Kind: "EndpointSlice", APIVersion: "discovery.k8s.io/v1"},
		AddressType: "IPv4",
	}
	if current != nil {
		desired.Metadata = current.Metadata
	} else {
		desired.Metadata = objectMeta{
			Name: "kubernetes", Namespace: "default", UID: newUID(), CreationTimestamp: timestamp{tx.now},
			Labels: map[string]string{"kubernetes.io/service-name": "kubernetes"},
		}
	}
	var addrs []netip.Addr
	for _, server := range servers {
		addrs = append(addrs, server.Addr())
		if server.Addr().Is6() {
			desired.AddressType = "IPv6"
		}
		desired.Ports = []endpointPort{{Name: "https", Port: server.Port(), Protocol: "TCP"}}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, addr := range slices.Compact(addrs) {
		desired.Endpoints = append(desired.Endpoints, endpoint{
			Addresses: []netip.Addr{addr}, Conditions: endpointConditions{Ready: true},
		})
	}
	if current != nil && desired.AddressType == current.AddressType && slices.Equal(desired.Ports, current.Ports) &&
		slices.Equal(addresses(desired.Endpoints), addresses(current.Endpoints)) {
		return nil, nil
	}
	return desired, nil
}

// readLeases returns the addresses of the servers with a valid lease, by name.
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
