package describe

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// ReadNodeConfig reads a nodeupconfig.yaml of the state store. It fails if the file does
// not say whether the node gossips.
func ReadNodeConfig(data []byte) (c NodeConfig, err error) {
	// The library panics on states that it considers impossible; input must not.
	defer func() {
		if p := recover(); p != nil {
			c, err = NodeConfig{}, errors.New("not YAML: the reader gave up")
		}
	}()
	var doc struct {
		UsesLegacyGossip *bool `yaml:"usesLegacyGossip"`
	}
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return NodeConfig{}, fmt.Errorf("not YAML: %w", err)
	}
	if doc.UsesLegacyGossip == nil {
		return NodeConfig{}, errors.New("it does not say usesLegacyGossip")
	}
	return NodeConfig{Gossip: *doc.UsesLegacyGossip}, nil
}
