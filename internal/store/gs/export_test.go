package gs

import "time"

// Hurry makes a store that waits hardly at all before it asks again.
func (s *Store) Hurry() *Store {
	s.client.pause = time.Millisecond
	return s
}
