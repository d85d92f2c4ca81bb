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
	// settleIn is how long the agent has to connect and to give back what starting
	// took; idleFor is how long it is watched.
	settleIn = 20 * time.Second
	idleFor  = 60 * time.Second
)

// TestBenchFootprint prints what an agent costs a node that does nothing: nine
// servers that are checked, a balancer that nobody uses.
func TestBenchFootprint(t *testing.T) {
	bin := os.Getenv("MUSTER_BIN")
	if bin == "" {
		t.Skip("SKIPPED: no built programs (MUSTER_BIN); make bench-balancer builds them and runs this")
	}
	b := newBed(t)
	agent := filepath.Join(bin, "muster-agent")
	file, err := os.Stat(agent)
	if err != nil {
		t.Fatal(err)
	}
	idle := b.muster(agent, b.servers(footprintServers)).proc
	time.Sleep(settleIn)
	before, err := idle.Usage()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	time.Sleep(idleFor)
	after, err := idle.Usage()
	if err != nil {
		t.Fatal(err)
	}
	share := 100 * (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds()
	fmt.Printf("bench footprint_binary %.1f MiB\n", float64(file.Size())/(1<<20))
	fmt.Printf("bench footprint_resident_idle %.1f MiB\n", float64(after.RSS)/(1<<20))
	fmt.Printf("bench footprint_cpu_idle_%d_servers %.3f %%\n", footprintServers, share)
}
