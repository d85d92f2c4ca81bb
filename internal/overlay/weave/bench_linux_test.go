package weave

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// BenchmarkMesh measures whole meshes of full participants, in this process and
// over real sockets: how long a change takes to reach the last peer, what it
// costs, and what the mesh costs at rest.
func BenchmarkMesh(b *testing.B) {
	for _, size := range []int{60, 200} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { benchmarkMesh(b, size) })
	}
}

const restFor = 40 * time.Second // longer than the period of everything periodic

func benchmarkMesh(b *testing.B, size int) {
	before := heap()
	lab := newLab(b)
	start := time.Now()
	nodes := lab.mesh(size)
	joinedIn := time.Since(start)
	lab.until(3*time.Minute, func() bool { return settled(nodes) })
	settledIn := time.Since(start)
	for i, n := range nodes {
		// What such clusters hold: an address for each node.
		if err := n.Publish(fmt.Sprintf("dns/local/A/node-%d.internal.test.k8s.local", i), "10.0.0.1"); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(10 * time.Second)
	peak := heap()

	cpu, sent, at := usage(b), sentBytes(nodes), time.Now()
	time.Sleep(restFor)
	rest := time.Since(at)
	idleCPU, idleSent := usage(b)-cpu, sentBytes(nodes)-sent

	cpu, sent = usage(b), sentBytes(nodes)
	var worst time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		value := fmt.Sprintf("10.0.%d.%d", rounds>>8, rounds&255)
		if err := nodes[rounds%size].Publish("dns/local/A/api.internal.test.k8s.local", value); err != nil {
			b.Fatal(err)
		}
		worst = max(worst, arrival(b, nodes, "dns/local/A/api.internal.test.k8s.local", value, 30*time.Second))
	}
	time.Sleep(2 * time.Second) // what follows a change belongs to it
	// The loop resets what was reported before it.
	b.ReportMetric(joinedIn.Seconds(), "s-to-join")
	b.ReportMetric(settledIn.Seconds(), "s-to-settle")
	b.ReportMetric(float64(links(nodes))/float64(size), "links/peer")
	b.ReportMetric(float64(peak-before)/1024/float64(size), "KiB/peer")
	b.ReportMetric(float64(idleCPU)/float64(rest), "idle-cores")
	b.ReportMetric(float64(idleSent)/1024/rest.Seconds(), "idle-KiB/s")
	b.ReportMetric(float64(worst.Milliseconds()), "ms-to-last-worst")
	b.ReportMetric(float64((usage(b)-cpu).Milliseconds())/float64(rounds), "cpu-ms/change")
	b.ReportMetric(float64(sentBytes(nodes)-sent)/1024/float64(rounds), "KiB-sent/change")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// usage returns the processor time this process has used.
func usage(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func sentBytes(nodes []*Node) (sum uint64) {
	for _, n := range nodes {
		sum += n.Stats().BytesOut
	}
	return sum
}
