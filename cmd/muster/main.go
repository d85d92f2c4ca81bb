// Command muster is the operator's program: it looks at clusters, plans and rehearses
// their way off gossip, and carries it out.
package main

import (
	"os"

	"github.com/muster-dev/muster/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
