//go:build !linux

package netns

import (
	"errors"
	"fmt"
)

// Check returns what this machine lacks for network namespaces.
func Check() error {
	return fmt.Errorf("network namespaces need Linux: %w", errors.ErrUnsupported)
}

// HoldMain fails: network namespaces need Linux.
func HoldMain([]string) error { return Check() }

// Enter fails: network namespaces need Linux.
func Enter(int, string, []string) error { return Check() }
