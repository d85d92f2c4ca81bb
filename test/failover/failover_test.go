// Package failover measures what happens to a worker's connections when API
// servers fail, with the real muster-agent, network namespaces and a thousand
// long-lived connections. It prints one line per fault:
//
//	failover ROW RECOVERY_MS FAILED_NEW ok|late
//
// RECOVERY_MS is the time until every long-lived connection works again, from the fault or, in rows that begin with "total",
// in which all servers are down for a while, from the return of the first. FAILED_NEW counts new connections after the fault
// that failed. A row fails the test if connections do not recover or, while a server is up, a new one fails; "late" is
// printed, not asserted, because a busy machine makes everything late.
package failover

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/muster-dev/muster/test/testca"
)

const (
	target          = 3 * time.Second // for all connections to be usable again
	targetTotal     = time.Second     // after the first server's return
	recoveryTimeout = 20 * time.Second
	// stableFor is how long connections must stay usable after recovery, to detect flapping.
	stableFor = 3 * time.Second
)

// row is one fault.
type row struct {
	name  string
	fault func(w *world)
	undo  func(w *world)
	// back ends the total outage; nil without one.
	back func(w *world)
	// totalOutage is the length of the total outage; 0 means totalOutage.
	totalOutage time.Duration
}

func rows() []row {
	victim := func(w *world) *machine { return w.servers[0] }
	simple := func(name string, on func(*mode, bool)) row {
		return row{
			name:  name,
			fault: func(w *world) { victim(w).set(func(m *mode) { on(m, true) }) },
			undo:  func(w *world) { victim(w).set(func(m *mode) { on(m, false) }) },
		}
	}
	return []row{
		{
			name:  "crash",
			fault: func(w *world) { victim(w).kill() },
			undo:  func(w *world) { victim(w).start() },
		},
		{
			name:  "stopped",
			fault: func(w *world) { victim(w).signal(syscall.SIGSTOP) },
			undo:  func(w *world) { victim(w).signal(syscall.SIGCONT) },
		},
		{
			name:  "cable-pulled",
			fault: func(w *world) { w.cut(victim(w).Name) },
			undo:  func(w *world) { w.restore(victim(w).Name) },
		},
		{
			name:  "one-way-to-server",
			fault: func(w *world) { w.blackhole(w.worker, victim(w).IPv4) },
			undo:  func(w *world) { w.clearNeighbour(w.worker, victim(w).IPv4) },
		},
		{
			name:  "one-way-from-server",
			fault: func(w *world) { w.blackhole(victim(w).Node, w.worker.IPv4) },
			undo:  func(w *world) { w.clearNeighbour(victim(w).Node, w.worker.IPv4) },
		},
		simple("reject", func(m *mode, on bool) { m.Refuse = on }),
		simple("slow-accept", func(m *mode, on bool) { m.SlowAccept = on }),
		simple("tls-broken", func(m *mode, on bool) { m.BrokenTLS = on }),
		simple("readyz-503", func(m *mode, on bool) { m.NotReady = on }),
		{
			name: "k3s-10240-all-checks-fail",
			fault: func(w *world) {
				for _, m := range w.servers[:3] {
					m.set(func(m *mode) { m.SlowReady = true })
				}
			},
			undo: func(w *world) {
				for _, m := range w.servers[:3] {
					m.set(func(m *mode) { m.SlowReady = false })
				}
			},
		},
		{
			// Two dead at once, as when a rack goes: kubespray#5663.
			name: "kubespray-5663-two-of-three-dead",
			fault: func(w *world) {
				w.cut(w.servers[0].Name)
				w.servers[1].kill()
			},
			undo: func(w *world) {
				w.restore(w.servers[0].Name)
				w.servers[1].start()
			},
		},
		{
			name: "list-replaced-wholesale",
			fault: func(w *world) {
				for _, m := range w.servers {
					m.set(func(m *mode) { m.Slice = w.addrs(w.servers[3:6]) })
				}
				for _, m := range w.servers[:3] {
					m.kill() // faster than agents learn: rke2#6208
				}
			},
			undo: func(w *world) {
				for _, m := range w.servers[:3] {
					m.start()
				}
				for _, m := range w.servers {
					m.set(func(m *mode) { m.Slice = w.addrs(w.servers[:3]) })
				}
			},
		},
		{
			name: "total-all-down-then-one-up",
			fault: func(w *world) {
				for _, m := range w.servers[:3] {
					m.kill()
				}
			},
			back: func(w *world) { w.servers[1].start() },
			undo: func(w *world) {
				w.servers[0].start()
				w.servers[2].start()
			},
		},
		{
			// The kernel resolves a lost neighbour once a second, which no balancer can
			// influence: the neighbour entries are permanent here.
			name: "total-loss-for-10s",
			fault: func(w *world) {
				w.pinNeighbours(w.servers[:3])
				w.cut(w.worker.Name)
			},
			back: func(w *world) { w.restore(w.worker.Name) },
			undo: func(w *world) { w.unpinNeighbours(w.servers[:3]) },
		},
		{
			// Talos's balancer fails with "no upstreams" once all scores are bad.
			name: "total-all-stopped-then-one-goes-on",
			fault: func(w *world) {
				for _, m := range w.servers[:3] {
					m.signal(syscall.SIGSTOP)
				}
			},
			back: func(w *world) { w.servers[2].signal(syscall.SIGCONT) },
			undo: func(w *world) {
				w.servers[0].signal(syscall.SIGCONT)
				w.servers[1].signal(syscall.SIGCONT)
			},
		},
		{
			// The configured address is dead; the disk has better ones.
			name: "total-rke2-5364-restart-with-a-dead-boot-address",
			fault: func(w *world) {
				w.servers[0].kill()
				if err := w.running.Kill(); err != nil {
					w.t.Fatal(err)
				}
				<-w.running.Exited()
			},
			back:        func(w *world) { w.startAgent(w.config([]netip.AddrPort{w.servers[0].addr()}, nil)) },
			totalOutage: restart,
			undo:        func(w *world) { w.servers[0].start() },
		},
		{
			// Every control-plane node was replaced while the worker was off: only the
			// load balancer's address is still valid.
			name: "total-all-replaced-while-off",
			fault: func(w *world) {
				if err := w.running.Kill(); err != nil {
					w.t.Fatal(err)
				}
				<-w.running.Exited()
				for _, m := range w.servers {
					m.set(func(m *mode) { m.Slice = w.addrs(w.servers[4:6]) })
				}
				for _, m := range w.servers[:3] {
					m.kill()
				}
			},
			back: func(w *world) {
				w.startAgent(w.config(w.addrs(w.servers[:3]), []netip.AddrPort{w.servers[3].addr()}))
			},
			totalOutage: restart,
			undo: func(w *world) {
				for _, m := range w.servers[:3] {
					m.start()
				}
				for _, m := range w.servers {
					m.set(func(m *mode) { m.Slice = w.addrs(w.servers[:3]) })
				}
			},
		},
	}
}

const (
	// totalOutage is the length of a total outage.
	totalOutage = 10 * time.Second
	// restart is the same for rows without an agent, in which clients wait in its
	// socket's backlog. It is less than newTimeout: otherwise all clients would
	// reconnect when recovery is measured.
	restart = 5 * time.Second
)

func TestFailover(t *testing.T) {
	w := newWorld(t, 6, 1000)
	w.crowd()
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			w.t = t
			r.run(w)
		})
	}
	t.Run("k3s-11349-alternating-outages", func(t *testing.T) {
		w.t = t
		alternatingOutages(w)
	})
}

// crowd prints how long all clients take to reconnect directly to one server, a lower bound for rows in which all have to.
func (w *world) crowd() {
	w.t.Helper()
	w.stopClients()
	defer w.startClients()
	argv := w.worker.Wrap([]string{w.self, "crowd", w.servers[0].addr().String(), w.path(testca.CA), strconv.Itoa(w.lasting)})
	out, err := exec.CommandContext(w.t.Context(), argv[0], argv[1:]...).Output()
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Printf("direct %d-connections-to-one-server %s\n", w.lasting, bytes.TrimSpace(out))
}

func (r row) run(w *world) {
	// Connections do not move back: after the last fault the victim has none.
	w.restartClients()
	moment := time.Now()
	r.fault(w)
	if r.back != nil {
		time.Sleep(time.Until(moment.Add(cmp.Or(r.totalOutage, totalOutage))))
		// A server is back when it listens, not when its process starts.
		r.back(w)
		moment = time.Now()
	}
	got := w.recovery(since{Moment: moment, After: time.Now()})
	printResult(r.name, got, r.back != nil)
	if got.FailedNew > 0 {
		fail := w.t.Errorf
		if r.back != nil {
			fail = w.t.Logf
		}
		fail("%d of %d new connections failed, such as: %s", got.FailedNew, got.New, got.Fault)
	}
	r.undo(w)
}

// recovery waits until all connections have worked for stableFor.
func (w *world) recovery(s since) report {
	w.t.Helper()
	began := time.Now()
	good := time.Time{}
	for {
		r, err := w.report(s)
		if err != nil {
			w.t.Fatal(err)
		}
		switch {
		case r.Unusable > 0 || r.New == 0:
			good = time.Time{}
		case good.IsZero():
			good = time.Now()
		case time.Since(good) > stableFor:
			r.Recovery = max(r.Recovery, 0)
			return r
		}
		if time.Since(began) > recoveryTimeout {
			w.t.Fatalf("%d of %d connections do not work after %s: %+v\n%s", r.Unusable, w.lasting, recoveryTimeout, r, w.running.Tail(15))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func printResult(name string, r report, total bool) {
	verdict, limit := "ok", target
	if total {
		limit = targetTotal
	}
	if r.Recovery > limit.Milliseconds() || r.FailedNew > 0 && !total {
		verdict = "late"
	}
	fmt.Printf("failover %s %d %d %s\n", name, r.Recovery, r.FailedNew, verdict)
}

// alternatingOutages takes each server down in turn for 16 s, the next one before the previous one is back: k3s's agents got stuck if that
// took longer than 15 s.
func alternatingOutages(w *world) {
	const away, overlap = 16 * time.Second, 2 * time.Second
	w.restartClients()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute+recoveryTimeout)
	defer cancel()
	began := time.Now()
	var worst report
	var faults []fault
	for i := range 3 {
		moment := time.Now()
		w.cut(w.servers[i].Name)
		faults = append(faults, fault{moment, time.Now()})
		if i > 0 {
			time.Sleep(overlap)
			w.restore(w.servers[i-1].Name)
		}
		got := w.recovery(since{Moment: moment, After: time.Now()})
		worst.Recovery = max(worst.Recovery, got.Recovery)
		for time.Since(moment) < away && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	w.restore(w.servers[2].Name)
	all := w.recovery(since{Moment: began, After: began, Faults: faults})
	worst.FailedNew = all.FailedNew
	printResult("k3s-11349-alternating-outages", worst, false)
	if worst.FailedNew > 0 {
		w.t.Errorf("%d of %d new connections failed, such as: %s", all.FailedNew, all.New, all.Fault)
	}
}
