// Command muster is the operator's program: it rehearses, and runs labs.
package main

import (
	"os"

	"github.com/muster-dev/muster/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
