package bootconfig

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/muster-dev/muster/internal/cloud"
	"github.com/muster-dev/muster/internal/cluster"
)

// document is the fields of kOps's boot YAML that decide discovery.
type document struct {
	CloudProvider string `yaml:"CloudProvider"`
	ClusterName   string `yaml:"ClusterName"`
	ConfigBase    string `yaml:"ConfigBase"`
	ConfigServer  struct {
		Servers        []string `yaml:"servers"`
		TLSServerName  string   `yaml:"tlsServerName"`
		CACertificates string   `yaml:"CACertificates"`
	} `yaml:"ConfigServer"`
	APIServerIPs      []string `yaml:"APIServerIPs"`
	InstanceGroupName string   `yaml:"InstanceGroupName"`
	InstanceGroupRole string   `yaml:"InstanceGroupRole"`
	NodeupConfigHash  string   `yaml:"NodeupConfigHash"`
}

// decode reads the boot YAML. Values must be printable, because they are shown on terminals.
func decode(data []byte) (*cloud.BootConfig, error) {
	d, err := unmarshal[document](data)
	if err != nil {
		return nil, fmt.Errorf("%s is not the YAML of kOps: %w", fileName, err)
	}
	b := &cloud.BootConfig{
		Cluster:       d.ClusterName,
		Group:         d.InstanceGroupName,
		Cloud:         d.CloudProvider,
		ConfigBase:    d.ConfigBase,
		Servers:       d.ConfigServer.Servers,
		TLSServerName: d.ConfigServer.TLSServerName,
		CA:            d.ConfigServer.CACertificates,
		APIServerIPs:  d.APIServerIPs,
		ConfigHash:    d.NodeupConfigHash,
	}
	switch d.InstanceGroupRole {
	case "Master":
		b.Role = cluster.RoleControlPlane
	case string(cluster.RoleControlPlane), string(cluster.RoleNode), string(cluster.RoleAPIServer), string(cluster.RoleBastion):
		b.Role = cluster.Role(d.InstanceGroupRole)
	case "":
		return nil, fmt.Errorf("%s has no InstanceGroupRole", fileName)
	default:
		return nil, fmt.Errorf("%s has InstanceGroupRole %q, which kOps does not know", fileName, clip(d.InstanceGroupRole))
	}
	if b.Cluster == "" || b.Group == "" {
		return nil, fmt.Errorf("%s has no ClusterName or no InstanceGroupName", fileName)
	}
	if b.CA != "" {
		sum := sha256.Sum256([]byte(b.CA))
		b.CAHash = hex.EncodeToString(sum[:])
	}
	texts := append([]string{b.Cluster, b.Group, b.Cloud, b.ConfigBase, b.TLSServerName, b.ConfigHash}, b.Servers...)
	for _, s := range append(texts, b.APIServerIPs...) {
		if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return nil, fmt.Errorf("%s has a value that is no plain text: %q", fileName, clip(s))
		}
	}
	return b, nil
}

// unmarshal reads YAML. The library panics on states that it considers impossible; foreign input must not panic.
func unmarshal[T any](data []byte) (value T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the reader gave up")
		}
	}()
	if err := yaml.Unmarshal(data, &value); err != nil {
		// The library quotes values in errors, which may be secrets.
		line, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), ":")
		if strings.HasPrefix(line, "line ") {
			return value, fmt.Errorf("fault at %s", clip(line))
		}
		return value, errors.New("it cannot be parsed")
	}
	return value, nil
}

// clip keeps foreign text in messages to a length that fits a line.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
