package failover

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSoak injects random faults for SOAKTIME, any number at a time including all servers down, and checks that the agent
// leaks neither goroutines nor descriptors nor memory, and that its list is never empty. It prints
//
//	soak NAME VALUE UNIT
//
// SOAKSEED repeats the faults of an earlier run, apart from timing.
func TestSoak(t *testing.T) {
	length := 30 * time.Second
	if text := os.Getenv("SOAKTIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	if text := os.Getenv("SOAKSEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("soak seed %d number\n", seed)
	s := &soak{world: newWorld(t, 6, 200), rand: rand.New(rand.NewPCG(seed, 0)), minServing: 1 << 20}

	// What a first round of connections and faults allocates is not a leak.
	s.run(length / 10)
	before := s.idle()
	s.samples = nil
	s.run(length)
	after := s.idle()

	quarter := len(s.samples) / 4
	early, late := residentOf(s.samples[quarter:2*quarter]), residentOf(s.samples[len(s.samples)-quarter:])
	for _, line := range []struct {
		name  string
		value float64
		unit  string
	}{
		{"time", length.Seconds(), "s"},
		{"faults", float64(s.faults), "number"},
		{"connections", after.connections, "number"},
		{"goroutines_before", before.goroutines, "number"},
		{"goroutines_after", after.goroutines, "number"},
		{"descriptors_before", before.descriptors, "number"},
		{"descriptors_after", after.descriptors, "number"},
		{"resident_idle_before", before.resident, "MiB"},
		{"resident_idle_after", after.resident, "MiB"},
		{"resident_second_quarter", early, "MiB"},
		{"resident_last_quarter", late, "MiB"},
		{"serving_least", s.minServing, "servers"},
	} {
		fmt.Printf("soak %s %.4g %s\n", line.name, line.value, line.unit)
	}
	// Servers on disk are checked too, which takes a goroutine and a connection each.
	// A leak grows with every fault or connection.
	const room = 10
	if after.goroutines > before.goroutines+room {
		t.Errorf("%v goroutines, %v before", after.goroutines, before.goroutines)
	}
	if after.descriptors > before.descriptors+room {
		t.Errorf("%v descriptors, %v before", after.descriptors, before.descriptors)
	}
	if late > early*1.25+4 {
		t.Errorf("%.1f MiB resident in the last quarter, %.1f in the second", late, early)
	}
	if s.minServing < 1 {
		t.Error("the list was empty at some time")
	}
	if s.faults == 0 || after.connections == 0 {
		t.Error("nothing happened; the test looked at the wrong thing")
	}
}

// soak is a world with random faults.
type soak struct {
	*world
	rand       *rand.Rand
	active     []*activeFault
	faults     int
	samples    []sample
	minServing float64 // minimum of serving servers
}

// activeFault is a current fault of one machine.
type activeFault struct {
	machine string
	until   time.Time
	end     func()
}

// run injects faults for a while and then ends them all. A fault lasts up to 15 s and there is a new one about every two
// seconds, so that often most servers are down, and sometimes all.
func (s *soak) run(length time.Duration) {
	s.t.Helper()
	next := time.Now()
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		s.endFaults(time.Now())
		if time.Now().After(next) {
			s.begin()
			next = time.Now().Add(time.Duration(500+s.rand.IntN(3000)) * time.Millisecond)
		}
		if n := len(s.samples); n == 0 || time.Since(s.samples[n-1].at) > time.Second {
			s.samples = append(s.samples, s.sample())
		}
	}
	s.endFaults(time.Now().Add(time.Hour))
	s.slice(s.addrs(s.servers[:3]))
}

func (s *soak) endFaults(now time.Time) {
	s.active = slices.DeleteFunc(s.active, func(t *activeFault) bool {
		if t.until.After(now) {
			return false
		}
		t.end()
		return true
	})
}

// begin injects a fault into a machine that has none.
func (s *soak) begin() {
	s.t.Helper()
	s.faults++
	switch s.rand.IntN(10) {
	case 0: // the worker's own cable
		s.addFault(s.worker.Name, func() { s.cut(s.worker.Name) }, func() { s.restore(s.worker.Name) })
		return
	case 1: // another list
		servers := s.addrs(s.servers)
		s.rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
		s.slice(servers[:1+s.rand.IntN(3)])
		return
	}
	m := s.servers[s.rand.IntN(len(s.servers))]
	setMode := func(change func(*mode, bool)) (begin, end func()) {
		return func() { m.set(func(to *mode) { change(to, true) }) }, func() { m.set(func(to *mode) { change(to, false) }) }
	}
	var begin, end func()
	switch s.rand.IntN(9) {
	case 0:
		begin, end = m.kill, m.start
	case 1:
		begin, end = func() { m.signal(syscall.SIGSTOP) }, func() { m.signal(syscall.SIGCONT); m.apply() }
	case 2:
		begin, end = func() { s.cut(m.Name) }, func() { s.restore(m.Name) }
	case 3:
		begin, end = func() { s.blackhole(s.worker, m.IPv4) }, func() { s.clearNeighbour(s.worker, m.IPv4) }
	case 4:
		begin, end = setMode(func(to *mode, on bool) { to.Refuse = on })
	case 5:
		begin, end = setMode(func(to *mode, on bool) { to.SlowAccept = on })
	case 6:
		begin, end = setMode(func(to *mode, on bool) { to.BrokenTLS = on })
	case 7:
		begin, end = setMode(func(to *mode, on bool) { to.NotReady = on })
	case 8:
		begin, end = setMode(func(to *mode, on bool) { to.SlowReady = on })
	}
	s.addFault(m.Name, begin, end)
}

func (s *soak) addFault(machine string, begin, end func()) {
	if slices.ContainsFunc(s.active, func(t *activeFault) bool { return t.machine == machine }) {
		return
	}
	begin()
	length := time.Second + time.Duration(s.rand.IntN(14000))*time.Millisecond
	s.active = append(s.active, &activeFault{machine, time.Now().Add(length), end})
}

// slice sets the EndpointSlice. Servers that are down serve it when they are back.
func (s *soak) slice(addrs []netip.AddrPort) {
	for _, m := range s.servers {
		m.mode.Slice = addrs
		if !slices.ContainsFunc(s.active, func(t *activeFault) bool { return t.machine == m.Name }) {
			m.apply()
		}
	}
}

// sample is the agent's metrics at one time.
type sample struct {
	at                                time.Time
	goroutines, descriptors, resident float64 // resident in MiB
	open, connections                 float64 // connections through the balancer: now, ever
}

func (s *soak) sample() sample {
	s.t.Helper()
	m, err := s.metrics()
	if err != nil {
		s.t.Fatalf("metrics: %v\n%s", err, s.running.Tail(15))
	}
	got := sample{
		at: time.Now(), goroutines: m["go_goroutines"], descriptors: m["process_open_fds"], resident: m["process_resident_memory_bytes"] / (1 << 20),
		open: m["muster_balancer_connections"], connections: m["muster_balancer_connections_total"],
	}
	s.minServing = min(s.minServing, m["muster_serving_endpoints"])
	var stored map[string][]netip.AddrPort
	data, err := os.ReadFile(s.path("state/endpoints.json"))
	if err == nil {
		err = json.Unmarshal(data, &stored)
	}
	if err != nil || len(stored["api.internal"]) == 0 {
		s.t.Errorf("the list on disk: %v, %v", stored, err)
	}
	return got
}

// idle returns a sample without clients.
func (s *soak) idle() sample {
	s.t.Helper()
	s.waitHealthy(2 * time.Minute)
	s.stopClients()
	// Pipes of closed connections are released by the garbage collector, which
	// frequent requests trigger.
	const few = 100
	got := s.sample()
	for began := time.Now(); got.open > 0 || got.descriptors > few; got = s.sample() {
		if time.Since(began) > time.Minute {
			s.t.Fatalf("without clients, %v connections and %v descriptors are open", got.open, got.descriptors)
		}
		time.Sleep(20 * time.Millisecond)
	}
	// Health checks after a change end within seconds.
	time.Sleep(5 * time.Second)
	got = s.sample()
	s.startClients()
	return got
}

// metrics reads the agent's, summed over labels.
func (s *soak) metrics() (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.path("status"))
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	sums := make(map[string]float64)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if i := strings.LastIndex(lines.Text(), "} "); i >= 0 {
			name, value = name[:strings.Index(name, "{")], lines.Text()[i+2:]
		}
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			sums[name] += v
		}
	}
	return sums, lines.Err()
}

// residentOf returns the median resident memory.
func residentOf(samples []sample) float64 {
	if len(samples) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(samples), func(a, b sample) int { return cmp.Compare(a.resident, b.resident) })
	return sorted[len(sorted)/2].resident
}
