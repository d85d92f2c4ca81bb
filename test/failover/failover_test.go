// Package failover measures what happens to a worker's connections when API
// servers fail, with the real muster-agent, network namespaces and a thousand
// connections that last. It prints one line a fault:
//
//	failover ROW RECOVERY_MS FAILED_NEW ok|late
//
// RECOVERY_MS is the time from the fault until every lasting connection works
// again, or in rows that begin with "total", in which for a while no server
// lives, from the first server's return. FAILED_NEW counts new connections that
// were begun after the fault and failed. A row fails the test if connections do
// not come back or, while a server lives, a new one fails; "late" is printed,
// not asserted, because a busy machine makes everything late.
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
	aim      = 3 * time.Second // until every connection is usable again
	aimTotal = time.Second     // after the first server's return
	patience = 20 * time.Second
	// quietly is how long a row goes on after recovery: what flaps shows.
	quietly = 3 * time.Second
)

// row is one fault.
type row struct {
	name  string
	fault func(w *world)
	undo  func(w *world)
	// back ends the time without any server, where there is one.
	back func(w *world)
	// lasts is how long that time is; outage unless said.
	lasts time.Duration
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
			fault: func(w *world) { w.mislead(w.worker, victim(w).IPv4) },
			undo:  func(w *world) { w.lead(w.worker, victim(w).IPv4) },
		},
		{
			name:  "one-way-from-server",
			fault: func(w *world) { w.mislead(victim(w).Node, w.worker.IPv4) },
			undo:  func(w *world) { w.lead(victim(w).Node, w.worker.IPv4) },
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
			// The kernel asks for a neighbour's card that it has lost once a second, on
			// which no balancer has any influence: here it does not lose them.
			name: "total-loss-for-10s",
			fault: func(w *world) {
				w.acquaint(w.servers[:3])
				w.cut(w.worker.Name)
			},
			back: func(w *world) { w.restore(w.worker.Name) },
			undo: func(w *world) { w.forget(w.servers[:3]) },
		},
		{
			// Talos's balancer says "no upstreams" once all scores are bad.
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
			// The configuration's address is dead and the disk knows better.
			name: "total-rke2-5364-restart-with-a-dead-boot-address",
			fault: func(w *world) {
				w.servers[0].kill()
				if err := w.running.Kill(); err != nil {
					w.t.Fatal(err)
				}
				<-w.running.Exited()
			},
			back:  func(w *world) { w.startAgent(w.config([]netip.AddrPort{w.servers[0].addr()}, nil)) },
			lasts: restart,
			undo:  func(w *world) { w.servers[0].start() },
		},
		{
			// Every control-plane node was replaced while the worker was off: the
			// load balancer's address is all that is still true.
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
			lasts: restart,
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
	// outage is how long rows without any server go on.
	outage = 10 * time.Second
	// restart is the same for rows without an agent, during which clients wait at its
	// socket. It is less than newTimeout, for otherwise each would give up and come
	// again in the moment that is measured.
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
		alternate(w)
	})
}

// crowd prints how long as many clients as there are take to come back to one server
// when nothing is between: no row in which all have to can take less.
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
	// Connections stay where they are: after the last fault the victim had none.
	w.restartClients()
	moment := time.Now()
	r.fault(w)
	if r.back != nil {
		time.Sleep(time.Until(moment.Add(cmp.Or(r.lasts, outage))))
		// A server is back when it listens, not when its process is begun.
		r.back(w)
		moment = time.Now()
	}
	got := w.recovery(since{moment, time.Now()})
	say(r.name, got, r.back != nil)
	if got.FailedNew > 0 {
		fail := w.t.Errorf
		if r.back != nil {
			fail = w.t.Logf
		}
		fail("%d of %d new connections failed, such as: %s", got.FailedNew, got.New, got.Fault)
	}
	r.undo(w)
}

// recovery waits until all connections work and for a while longer.
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
		case time.Since(good) > quietly:
			r.Recovery = max(r.Recovery, 0)
			return r
		}
		if time.Since(began) > patience {
			w.t.Fatalf("%d of %d connections do not work after %s: %+v\n%s", r.Unusable, w.lasting, patience, r, w.running.Tail(15))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func say(name string, r report, total bool) {
	verdict, limit := "ok", aim
	if total {
		limit = aimTotal
	}
	if r.Recovery > limit.Milliseconds() || r.FailedNew > 0 && !total {
		verdict = "late"
	}
	fmt.Printf("failover %s %d %d %s\n", name, r.Recovery, r.FailedNew, verdict)
}

// alternate has each server in turn away for 16 s, the next one failing before
// the former is back: k3s's agents got stuck when that took longer than 15 s.
func alternate(w *world) {
	const away, overlap = 16 * time.Second, 2 * time.Second
	w.restartClients()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute+patience)
	defer cancel()
	began := time.Now()
	var worst report
	for i := range 3 {
		moment := time.Now()
		w.cut(w.servers[i].Name)
		if i > 0 {
			time.Sleep(overlap)
			w.restore(w.servers[i-1].Name)
		}
		got := w.recovery(since{moment, time.Now()})
		worst.Recovery = max(worst.Recovery, got.Recovery)
		for time.Since(moment) < away && ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	w.restore(w.servers[2].Name)
	all := w.recovery(since{began, began})
	worst.FailedNew = all.FailedNew
	say("k3s-11349-alternating-outages", worst, false)
	if worst.FailedNew > 0 {
		w.t.Errorf("%d of %d new connections failed, such as: %s", all.FailedNew, all.New, all.Fault)
	}
}
