// Package planflags has the flags that muster plan and muster rehearse share, about what
// a plan is for. It finds no plan.
package planflags

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/plan"
)

// AddEndpoints adds --endpoints to a command, load-balancer being the default.
func AddEndpoints(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVar(value, "endpoints", string(plan.Balancer), "what workers boot with: load-balancer, or list (the control plane's addresses behind the worker's own balancer)")
	console.Choices(cmd, "endpoints", string(plan.Balancer), string(plan.Addresses))
}

// Endpoints reads the value of --endpoints.
func Endpoints(value string) (plan.Endpoints, error) {
	e := plan.Endpoints(value)
	if e != plan.Balancer && e != plan.Addresses {
		return "", console.Usagef("--endpoints %q; want load-balancer or list", value)
	}
	return e, nil
}

// Executor reads the value of --via.
func Executor(value string) (plan.Executor, error) {
	x := plan.Executor(value)
	if !slices.Contains(plan.Executors(), x) {
		return "", console.Usagef("--via %q; want kops, terraform or lab", value)
	}
	return x, nil
}
