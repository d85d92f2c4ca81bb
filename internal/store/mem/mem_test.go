package mem_test

import (
	"testing"

	"github.com/muster-dev/muster/internal/store"
	"github.com/muster-dev/muster/internal/store/mem"
	"github.com/muster-dev/muster/internal/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Knobs{Many: 1500}, func(*testing.T) store.Store { return &mem.Store{Name: "test"} })
}
