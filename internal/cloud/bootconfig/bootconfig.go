// Package bootconfig reads what an instance boots with out of the user-data of
// its template: kOps's boot YAML, wherever it is wrapped up, the kOps release
// that wrote it, and which secrets lie beside it.
//
// It knows the ways in which user-data is packed: gzip, base64, MIME multipart,
// a shell script with a here-document or an encoded text, cloud-init's
// write_files, and any of them inside another. It runs nothing: what only a
// shell could work out is an error, because a template that cannot be read is
// unknown and never fine.
//
// Invariants: the package is pure; it never panics on foreign bytes; input and
// what it unpacks to are bounded; a secret's value is never kept and never part
// of an error.
package bootconfig

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/muster-dev/muster/internal/cloud"
)

const (
	// MaxInput is the largest user-data that is looked at, in bytes. Clouds
	// allow 16 to 256 KiB.
	MaxInput = 1 << 20
	// MaxUnpacked bounds all that one user-data unpacks to, in bytes.
	MaxUnpacked = 16 << 20
	// maxDepth bounds wrappings inside wrappings.
	maxDepth = 8
	// maxHereDocs bounds here-documents, since each is searched for its end. A script of kOps has a few.
	maxHereDocs = 256
)

// fileName is the file that kOps's boot YAML is written to, in some directory.
const fileName = "kube_env.yaml"

// RebootRisk is what is not known of a node that lives when its group's node
// configuration changes, in the words of whoever has to say it: the planner takes
// the good end for granted, and an audit says that it does not know.
const RebootRisk = "nodeup finds a configuration newer than the one whose hash the node was born with, refuses it and tries again for ever; " +
	"that kubelet, certificates and hosts block, which are on disk, do without it has been seen (kops#15057) and is promised nowhere. " +
	"Rebooting one such node settles it; a plan replaces each of them in the steps right behind the update"

// ErrEmpty says that there is no user-data at all.
var ErrEmpty = errors.New("user-data is empty: an instance would boot without kOps")

// Hash identifies user-data: hexadecimal SHA-256.
func Hash(userData []byte) string {
	sum := sha256.Sum256(userData)
	return hex.EncodeToString(sum[:])
}

// Parse reads user-data as the cloud hands it to an instance, or still in the
// base64 form of the cloud's API. Two boot configurations that differ are an
// error, as is anything that hides one. No user-data is [ErrEmpty]. The error is one line that says what was
// looked for and not found.
func Parse(userData []byte) (*cloud.BootConfig, error) {
	if len(userData) > MaxInput {
		return nil, fmt.Errorf("user-data has %d bytes, over the limit of %d", len(userData), MaxInput)
	}
	if len(strings.TrimSpace(string(userData))) == 0 {
		return nil, ErrEmpty
	}
	f := finder{left: MaxUnpacked, credentials: map[string]bool{}, releases: map[string]bool{}}
	if err := f.walk(userData, 0); err != nil {
		return nil, err
	}
	if f.boot == nil {
		if len(f.seen) == 0 {
			f.seen = []string{"plain text"}
		}
		return nil, fmt.Errorf("user-data (%s) holds no %s", strings.Join(f.seen, ", "), fileName)
	}
	b, err := decode(f.boot)
	if err != nil {
		return nil, err
	}
	for name := range f.credentials {
		b.Credentials = append(b.Credentials, name)
	}
	slices.Sort(b.Credentials)
	if len(f.releases) == 1 {
		for r := range f.releases {
			b.KopsVersion = r
		}
	}
	return b, nil
}

// Path says how an instance with this boot configuration finds the control
// plane. A configuration that names the state store and no server reads
// [cloud.BootGossip]; that holds for the control plane of every topology, so
// whether it gossips once it has read the store is the topology's to say. One
// address among the servers is enough for [cloud.BootAddresses], since servers
// are tried in turn. Nil, or nothing that leads anywhere, is unknown.
func Path(b *cloud.BootConfig) cloud.BootPath {
	switch {
	case b == nil:
		return cloud.BootUnknown
	case len(b.Servers) == 0 && b.ConfigBase != "":
		return cloud.BootGossip
	}
	path := cloud.BootUnknown
	for _, s := range b.Servers {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			continue
		}
		if _, err := netip.ParseAddr(u.Hostname()); err == nil {
			return cloud.BootAddresses
		}
		path = cloud.BootName
	}
	return path
}
