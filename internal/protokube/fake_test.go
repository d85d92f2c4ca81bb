package protokube

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/muster-dev/muster/internal/overlay/legacy"
)

// fabric is an overlay of fakes: what one publishes all hold at once, unless they
// are apart.
type fabric struct {
	mu    sync.Mutex
	now   time.Time // the zero value is the present
	peers []*fake
}

// fake implements Overlay.
type fake struct {
	fabric  *fabric
	name    string
	apart   bool // hears nobody, and nobody hears it
	state   legacy.State
	ties    map[string]legacy.Tie
	writes  int
	changed chan struct{}
	synced  bool
	runErr  error
	refuses error // what Publish returns, if set
}

func (f *fabric) clock() time.Time {
	if f.now.IsZero() {
		return time.Now()
	}
	return f.now
}

func (f *fabric) join(name string) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &fake{fabric: f, name: name, ties: make(map[string]legacy.Tie), changed: make(chan struct{})}
	f.peers = append(f.peers, p)
	f.settle()
	return p
}

// settle lets all who hear each other exchange their states. The caller holds mu.
func (f *fabric) settle() {
	for again := true; again; {
		again = false
		for _, from := range f.peers {
			for _, to := range f.peers {
				if from == to || from.apart || to.apart {
					continue
				}
				merged, err := to.state.Merge(from.state.Append(nil))
				if err != nil {
					panic(err)
				}
				for _, k := range merged.Changed {
					delete(to.ties, k)
				}
				for _, t := range merged.Ties {
					to.ties[t.Held.Key] = t
				}
				if len(merged.Changed) > 0 {
					again = true
					to.wake()
				}
				to.synced = true
			}
		}
	}
}

func (p *fake) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// refuse makes Publish fail, or work again with nil.
func (p *fake) refuse(err error) {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	p.refuses = err
}

// part cuts a peer off, or lets it come back.
func (p *fake) part(apart bool) {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	p.apart = apart
	p.fabric.settle()
}

// Run implements Overlay.
func (p *fake) Run(ctx context.Context) error {
	if p.runErr != nil {
		return p.runErr
	}
	<-ctx.Done()
	return nil
}

// Publish implements Overlay.
func (p *fake) Publish(key, value string) error {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	if p.refuses != nil {
		return p.refuses
	}
	changed, err := p.state.Put(key, value, p.fabric.clock())
	if changed {
		p.writes++
		delete(p.ties, key)
		p.wake()
		p.fabric.settle()
	}
	return err
}

// State implements Overlay.
func (p *fake) State() State {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	s := State{Entries: p.state.Entries()}
	for _, t := range p.ties {
		s.Ties = append(s.Ties, t)
	}
	return s
}

// Changed implements Overlay.
func (p *fake) Changed() <-chan struct{} {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	return p.changed
}

// Synced implements Overlay.
func (p *fake) Synced() bool {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	return p.synced
}

// View implements Overlay.
func (p *fake) View() View {
	p.fabric.mu.Lock()
	defer p.fabric.mu.Unlock()
	var names []string
	for _, o := range p.fabric.peers {
		if o != p && !p.apart && !o.apart {
			names = append(names, o.name)
		}
	}
	slices.Sort(names)
	return View{Members: names}
}
