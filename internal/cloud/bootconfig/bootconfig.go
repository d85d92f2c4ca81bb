// Package bootconfig extracts an instance's boot configuration from the user-data of its template: kOps's boot YAML, the
// kOps release that wrote it, and the names of the secrets beside it.
//
// It unpacks gzip, base64, MIME multipart, shell scripts with a here-document or base64 text, cloud-init's write_files, and
// any nesting of these. It runs nothing: what only a shell could evaluate is an error, because an unreadable template is
// unknown, never fine.
//
// Invariants: the package is pure; it never panics on foreign bytes; input and unpacked data are bounded; the value of a
// secret is neither kept nor part of an error.
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
	// MaxInput is the largest user-data that is parsed, in bytes. Clouds allow 16 to 256 KiB.
	MaxInput = 1 << 20
	// MaxUnpacked bounds the sum of all unpacked data, in bytes.
	MaxUnpacked = 16 << 20
	// maxDepth bounds nesting.
	maxDepth = 8
	// maxHereDocs bounds here-documents, since each is searched for its end. A script of kOps has a few.
	maxHereDocs = 256
)

// fileName is the base name of the file that kOps's scripts write the boot YAML to.
const fileName = "kube_env.yaml"

// RebootRisk says what is unknown of an existing node whose group's node configuration changed. The planner assumes that
// such a node survives a reboot; an audit reports it as unknown.
const RebootRisk = "nodeup finds a configuration newer than the one whose hash the node was born with, refuses it and tries again for ever; " +
	"that kubelet, certificates and hosts block, which are on disk, do without it has been seen (kops#15057) and is promised nowhere. " +
	"Rebooting one such node settles it; a plan replaces each of them in the steps right behind the update"

// ErrEmpty says that there is no user-data.
var ErrEmpty = errors.New("user-data is empty: an instance would boot without kOps")

// Hash identifies user-data: hexadecimal SHA-256.
func Hash(userData []byte) string {
	sum := sha256.Sum256(userData)
	return hex.EncodeToString(sum[:])
}

// Parse reads user-data, raw or in the base64 of a cloud's API. Two different boot configurations are an error, as is one
// that cannot be read. Empty user-data is [ErrEmpty]. Errors are one line.
func Parse(userData []byte) (*cloud.BootConfig, error) {
	if len(userData) > MaxInput {
		return nil, fmt.Errorf("user-data has %d bytes, over the limit of %d", len(userData), MaxInput)
	}
	if len(strings.TrimSpace(string(userData))) == 0 {
		return nil, ErrEmpty
	}
	f := unpacker{left: MaxUnpacked, credentials: map[string]bool{}, releases: map[string]bool{}}
	if err := f.walk(userData, 0); err != nil {
		return nil, err
	}
	if f.boot == nil {
		if len(f.wrappings) == 0 {
			f.wrappings = []string{"plain text"}
		}
		return nil, fmt.Errorf("user-data (%s) holds no %s", strings.Join(f.wrappings, ", "), fileName)
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

// Path returns how an instance with this boot configuration finds the control plane. With the state store and no server it
// is [cloud.BootGossip]; control-plane nodes of every topology boot like this, so only the topology tells whether they
// gossip. One address among the servers is enough for [cloud.BootAddresses], since servers are tried in turn. Nil, or a
// configuration with neither, is unknown.
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
