package balance

// Carriers counts the links in the books by who carries what they say.
func (b *Balancer) Carriers() (loops, goroutines int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.servers {
		for l := range s.links {
			if _, is := l.(*pair); is {
				loops++
			} else {
				goroutines++
			}
		}
	}
	return loops, goroutines
}

// EndLinks returns what ends the links that the books have now, also when they have
// others by then.
func (b *Balancer) EndLinks() (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []link
	for _, s := range b.servers {
		for l := range s.links {
			all = append(all, l)
		}
	}
	return func() {
		for _, l := range all {
			l.end()
		}
	}
}
