package balancer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const (
	footprintServers = 9
	// settleTime is how long the agent may take to connect and to release memory of its
	// start; idleTime is how long it is measured.
	settleTime = 20 * time.Second
	idleTime   = 60 * time.Second
)

// TestBenchFootprint prints the usage of an idle agent: nine servers are checked, and nobody uses the balancer.
func TestBenchFootprint(t *testing.T) {
	bin := os.Getenv("MUSTER_BIN")
	if bin == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make bench-balancer builds them and runs this")
	}
	b := newTestbed(t)
	agent := filepath.Join(bin, "muster-agent")
	file, err := os.Stat(agent)
	if err != nil {
		t.Fatal(err)
	}
	idle := b.muster(agent, b.servers(footprintServers)).proc
	time.Sleep(settleTime)
	before, err := idle.Usage()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	time.Sleep(idleTime)
	after, err := idle.Usage()
	if err != nil {
		t.Fatal(err)
	}
	share := 100 * (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds()
	fmt.Printf("bench footprint_binary %.1f MiB\n", float64(file.Size())/(1<<20))
	fmt.Printf("bench footprint_resident_idle %.1f MiB\n", float64(after.RSS)/(1<<20))
	fmt.Printf("bench footprint_cpu_idle_%d_servers %.3f %%\n", footprintServers, share)
}
