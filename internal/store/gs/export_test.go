package gs

import "time"

// WithShortBackoff makes the store retry after a millisecond.
func (s *Store) WithShortBackoff() *Store {
	s.client.backoff = time.Millisecond
	return s
}
