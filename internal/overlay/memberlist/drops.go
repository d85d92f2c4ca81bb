package memberlist

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/overlay/upstream"
	"github.com/muster-dev/muster/internal/record"
)

// Reasons for refusing incoming data, besides those of package record, which are counted under their text.
const (
	// Malformed counts data that does not decode.
	Malformed = "malformed"
	// WrongKey counts data that no key of the keyring decrypts.
	WrongKey = "not encrypted with a key of the keyring"
	// WrongCluster counts data with another cluster's name.
	WrongCluster = "meant for another cluster"
)

// verifierReasons returns the reasons of record.Verifier.
func verifierReasons() []error {
	return []error{
		record.ErrIdentity, record.ErrSignature, record.ErrName,
		record.ErrNetwork, record.ErrFuture, record.ErrExpired,
	}
}

// reasonOf returns the reason in an error of record.Verifier.
func reasonOf(err error) string {
	for _, reason := range verifierReasons() {
		if errors.Is(err, reason) {
			return reason.Error()
		}
	}
	return Malformed
}

// dropCounter counts refusals by reason. The zero value is ready to use. Safe for concurrent use.
type dropCounter struct {
	mu         sync.Mutex
	count      map[string]uint64
	lastLogged map[string]time.Time
}

// add counts one refusal, and returns the sum and whether to log it.
func (l *dropCounter) add(reason string, now time.Time) (sum uint64, shouldLog bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count, l.lastLogged = make(map[string]uint64), make(map[string]time.Time)
	}
	l.count[reason]++
	last, logged := l.lastLogged[reason]
	if shouldLog = !logged || now.Sub(last) >= upstream.RepeatInterval; shouldLog {
		l.lastLogged[reason] = now
	}
	return l.count[reason], shouldLog
}

// counts returns the count of every reason.
func (l *dropCounter) counts() map[string]uint64 {
	all := map[string]uint64{Malformed: 0, WrongKey: 0, WrongCluster: 0}
	for _, reason := range verifierReasons() {
		all[reason.Error()] = 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(all, l.count)
	return all
}

// drop counts a refusal, and logs each reason at most once per upstream.RepeatInterval.
func (o *Overlay) drop(reason, detail string) {
	if sum, shouldLog := o.drops.add(reason, time.Now()); shouldLog {
		o.log.Warn("gossip refused", "reason", reason, "detail", detail, "so far", sum)
	}
}

// countLine counts the refusals that upstream reports only in its log. It reports whether text was one.
func (o *Overlay) countLine(text string) bool {
	switch {
	case strings.Contains(text, "with unacceptable label"):
		o.drop(WrongCluster, text)
	case strings.Contains(text, "decrypt") || strings.Contains(text, "Decrypt") || strings.Contains(text, "is not encrypted"):
		o.drop(WrongKey, text)
	default:
		return false
	}
	return true
}
