package enrol

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/muster-dev/muster/internal/identity"
)

// ControlPlaneNode is a control-plane node to be given an identity.
type ControlPlaneNode struct {
	// Name is the node's name in the cluster. Required.
	Name string
	// Addr is an address to have in its certificate besides the server name, for clients that verify addresses. The
	// zero value means none.
	Addr netip.Addr
}

// InitControlPlane creates a cluster's authority and the identities of its control-plane nodes under dir:
//
//	ca.crt ca.key                        the authority
//	nodes/NAME/{node.key,node.crt,ca.crt}   a node's state directory, to be copied to it
//
// It refuses a directory that holds an authority or nodes already. The authority's key is needed wherever nodes
// enrol; whoever has it can create any identity of the cluster.
func InitControlPlane(dir, cluster string, nodes []ControlPlaneNode, now time.Time) (*CA, error) {
	ca, err := initControlPlane(dir, cluster, nodes, now)
	if err != nil {
		return nil, fmt.Errorf("init cluster %q: %w", cluster, err)
	}
	return ca, nil
}

func initControlPlane(dir, cluster string, nodes []ControlPlaneNode, now time.Time) (*CA, error) {
	if err := validateNodes(cluster, nodes); err != nil {
		return nil, err
	}
	ca, err := NewCA(cluster, now, 0)
	if err != nil {
		return nil, err
	}
	certFile, keyFile := caPaths(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := refuseExisting(certFile, keyFile); err != nil {
		return nil, err
	}
	// Creating the directory is also the lock: of two concurrent calls, one fails here.
	nodesDir := filepath.Join(dir, "nodes")
	if err := os.Mkdir(nodesDir, 0o700); err != nil {
		return nil, fmt.Errorf("%w; if an earlier init was cut short, remove it", err)
	}
	if err := ca.Save(certFile, keyFile); err != nil {
		return nil, err
	}
	for _, n := range nodes {
		if err := ca.writeNode(filepath.Join(nodesDir, n.Name), n, now); err != nil {
			return nil, err
		}
	}
	return ca, nil
}

func validateNodes(cluster string, nodes []ControlPlaneNode) error {
	var errs []error
	if len(nodes) == 0 {
		errs = append(errs, errors.New("no control-plane node given"))
	}
	seen := make(map[string]bool)
	for _, n := range nodes {
		id := identity.Identity{Cluster: cluster, Role: identity.ControlPlane, Node: n.Name}
		if err := id.Validate(); err != nil {
			errs = append(errs, err)
		}
		if err := n.options(cluster, time.Time{}).validate(id); err != nil {
			errs = append(errs, fmt.Errorf("node %q: %w", n.Name, err))
		}
		if seen[n.Name] {
			errs = append(errs, fmt.Errorf("node %q is given twice", n.Name))
		}
		seen[n.Name] = true
	}
	return errors.Join(errs...)
}

func (n ControlPlaneNode) options(cluster string, now time.Time) IssueOptions {
	o := IssueOptions{DNSNames: []string{ServerName(cluster)}, Now: now}
	if n.Addr.IsValid() {
		o.IPs = []netip.Addr{n.Addr}
	}
	return o
}

// writeNode creates the state directory of one node.
func (ca *CA) writeNode(dir string, n ControlPlaneNode, now time.Time) error {
	state := stateDir(dir)
	key, err := state.ensureKey(state.key())
	if err != nil {
		return err
	}
	id := identity.Identity{Cluster: ca.cluster, Role: identity.ControlPlane, Node: n.Name}
	der, err := ca.Issue(key.Public(), id, n.options(ca.cluster, now))
	if err != nil {
		return err
	}
	if err := writeFile(state.ca(), ca.PEM(), 0o644); err != nil {
		return err
	}
	return writeFile(state.cert(), encodeCertificate(der), 0o644)
}
