package gossipcmd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/muster-dev/muster/internal/cli/console"
	"github.com/muster-dev/muster/internal/gossip"
)

// goneReader is a reader that went away, such as head.
type goneReader struct{}

func (goneReader) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// untilDone tells one event and then lasts as long as it may.
func untilDone(ctx context.Context, emit func(gossip.Event)) error {
	emit(gossip.Event{Kind: gossip.LinkBack})
	<-ctx.Done()
	return nil
}

func TestWatchingEndsWithItsTimeItsReaderOrTheInterrupt(t *testing.T) {
	var out strings.Builder
	if err := streamEvents(t.Context(), console.Streams{Out: &out}, time.Millisecond, true, untilDone); err != nil || !strings.Contains(out.String(), `"kind":"back"`) {
		t.Errorf("after its time: %v, having printed %q", err, &out)
	}
	if err := streamEvents(t.Context(), console.Streams{Out: goneReader{}}, 0, false, untilDone); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("without a reader: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := streamEvents(ctx, console.Streams{Out: &out}, time.Hour, false, untilDone); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
