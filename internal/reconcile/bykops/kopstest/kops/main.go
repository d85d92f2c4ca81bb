// Command kops is the stand-in of package kopstest as a program of its own, for
// trying muster by hand against an emulated AWS. It is no kOps.
package main

import (
	"os"

	"github.com/muster-dev/muster/internal/reconcile/bykops/kopstest"
)

func main() { os.Exit(kopstest.Main(os.Args[1:], os.Stdout, os.Stderr)) }
