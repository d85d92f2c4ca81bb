package gossip

import (
	"fmt"
	"strings"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// EventKind says what an event is about.
type EventKind string

// The kinds of events.
const (
	RecordFound   EventKind = "is"       // as found at the start
	RecordChanged EventKind = "changed"  // From -> To
	PeerJoined    EventKind = "joined"   // or returned
	PeerGone      EventKind = "went"     // unreachable, dead or left
	LinkLost      EventKind = "cut off"  // no connection to any peer
	LinkBack      EventKind = "back"     // connected again
	Replaced      EventKind = "replaced" // a held record, by another writer
	Reasserted    EventKind = "written"  // a held record, by us
	Fight         EventKind = "fight"    // another writer keeps replacing a held record
	HoldPaused    EventKind = "paused"   // the held addresses do not answer; other writers win
	HoldResumed   EventKind = "resumed"
)

// Event is one thing that happened.
type Event struct {
	Time    time.Time `json:"time"`
	Overlay Overlay   `json:"overlay,omitempty"`
	Kind    EventKind `json:"kind"`
	Name    string    `json:"name,omitempty"` // of a record, else of a peer
	Type    string    `json:"type,omitempty"`
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Version uint64    `json:"version,omitempty"`
	// Told is who wrote it or sent it to us first, as far as the overlay shows. The overlays do not sign: writers may
	// use any name.
	Told string `json:"told,omitempty"`
	Note string `json:"note,omitempty"`
}

// String returns the event as one line, without the day.
func (e Event) String() string {
	parts := []string{e.Time.Local().Format(time.TimeOnly)}
	if e.Overlay != "" {
		parts = append(parts, string(e.Overlay))
	}
	parts = append(parts, string(e.Kind))
	if e.Name != "" {
		parts = append(parts, strings.TrimSpace(e.Name+" "+e.Type))
	}
	switch {
	case e.From != "" && e.To != "":
		parts = append(parts, e.From+" -> "+e.To)
	case e.To != "":
		parts = append(parts, e.To)
	}
	if e.Version != 0 {
		parts = append(parts, fmt.Sprintf("version %d", e.Version))
	}
	for _, s := range []string{e.Told, e.Note} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "  ")
}

// about fills in Name and Type from the record's key.
func (e Event) about(key string) Event {
	if k, err := legacy.ParseKey(key); err == nil {
		e.Name, e.Type = clip(k.Name, maxName), clip(k.Type, maxName)
	} else {
		e.Name = clip(key, maxName)
	}
	return e
}
