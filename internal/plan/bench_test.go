package plan

import "testing"

func BenchmarkFind(b *testing.B) {
	for range b.N {
		if _, err := Find(*gossiping(3, 20)); err != nil {
			b.Fatal(err)
		}
	}
}
