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

// Reasons for refusing what arrives, besides those of package record, which
// count under their text.
const (
	// Malformed is what does not decode.
	Malformed = "malformed"
	// WrongKey is what no key of the keyring decrypts.
	WrongKey = "not encrypted with a key of the keyring"
	// WrongCluster is what carries another cluster's name.
	WrongCluster = "meant for another cluster"
)

// verdicts are the reasons of record.Verifier.
func verdicts() []error {
	return []error{
		record.ErrIdentity, record.ErrSignature, record.ErrName,
		record.ErrNetwork, record.ErrFuture, record.ErrExpired,
	}
}

// reasonOf names the reason in an error of record.Verifier.
func reasonOf(err error) string {
	for _, reason := range verdicts() {
		if errors.Is(err, reason) {
			return reason.Error()
		}
	}
	return Malformed
}

// ledger counts refusals. The zero value is ready to use.
type ledger struct {
	mu     sync.Mutex
	count  map[string]uint64
	toldAt map[string]time.Time
}

// note counts one refusal and reports the sum and whether to log it.
func (l *ledger) note(reason string, now time.Time) (sum uint64, tell bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count == nil {
		l.count, l.toldAt = make(map[string]uint64), make(map[string]time.Time)
	}
	l.count[reason]++
	last, told := l.toldAt[reason]
	if tell = !told || now.Sub(last) >= upstream.TellInterval; tell {
		l.toldAt[reason] = now
	}
	return l.count[reason], tell
}

// counts returns every reason with its count.
func (l *ledger) counts() map[string]uint64 {
	all := map[string]uint64{Malformed: 0, WrongKey: 0, WrongCluster: 0}
	for _, reason := range verdicts() {
		all[reason.Error()] = 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(all, l.count)
	return all
}

// drop counts a refusal and logs it now and then.
func (o *Overlay) drop(reason, detail string) {
	if sum, tell := o.drops.note(reason, time.Now()); tell {
		o.log.Warn("gossip refused", "reason", reason, "detail", detail, "so far", sum)
	}
}

// takeLine counts the refusals that upstream does not count: its log is the only
// place where it tells.
func (o *Overlay) takeLine(text string) bool {
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
