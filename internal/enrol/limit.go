package enrol

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxSources bounds the memory that strangers can make the limiter use.
const maxSources = 4096

// limiter limits the request rate of each source. Sources beyond maxSources share one bucket, so a flood from many
// addresses slows down new sources rather than growing the map. Safe for concurrent use.
type limiter struct {
	perSecond rate.Limit
	burst     int

	mu       sync.Mutex // guards the fields below
	sources  map[netip.Prefix]*rate.Limiter
	overflow *rate.Limiter
	swept    time.Time
}

func newLimiter(perSecond float64, burst int) *limiter {
	return &limiter{
		perSecond: rate.Limit(perSecond),
		burst:     burst,
		sources:   make(map[netip.Prefix]*rate.Limiter),
		overflow:  rate.NewLimiter(rate.Limit(perSecond), burst),
	}
}

// allow reports whether a request from addr may proceed now.
func (l *limiter) allow(addr netip.Addr, now time.Time) bool {
	return l.bucket(sourceOf(addr), now).AllowN(now, 1)
}

func (l *limiter) bucket(source netip.Prefix, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.sources[source]; ok {
		return b
	}
	// At most one sweep a second: in a flood, not every request may cost a walk over the whole map.
	if len(l.sources) >= maxSources && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for s, b := range l.sources {
			if b.TokensAt(now) >= float64(l.burst) {
				delete(l.sources, s) // full again, as good as new
			}
		}
	}
	if len(l.sources) >= maxSources {
		return l.overflow
	}
	b := rate.NewLimiter(l.perSecond, l.burst)
	l.sources[source] = b
	return b
}

// sourceOf returns what counts as one source: an IPv4 address, or an IPv6 /64, all of which one host may own.
func sourceOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // invalid addresses share one bucket
	}
	return p
}
