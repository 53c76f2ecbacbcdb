package composition_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// Hurry makes calls with large values of which many are cut off, wherever they are.
func (m *mason) Hurry(ctx context.Context, seed uint64) (int, error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	done := 0
	for range 40 {
		size := []int{10, 100_000, 140_000, 300_000, 700_000}[rnd.IntN(5)]
		hurry, cancel := context.WithTimeout(ctx, time.Duration(rnd.IntN(4000))*time.Microsecond)
		if rnd.IntN(4) == 0 {
			hurry = ctx
		}
		by := helve.Idempotent
		if rnd.IntN(2) == 0 {
			by = helve.ByReference
		}
		var err error
		made := m.make.With(by).Remote(hurry, size)
		switch rnd.IntN(5) {
		case 0:
			_, err = m.weigh.With(helve.Idempotent).RemoteFrom(hurry, made).Result(hurry)
		case 1:
			_, err = m.weighBoth.With(helve.Idempotent).RemoteWith(hurry, pair{Tag: "tag", Right: newBlob(20)},
				helve.Fill(func(p *pair) *blob { return &p.Left }, made)).Result(hurry)
		case 2:
			_, err = m.echo.With(helve.Idempotent).Call(hurry, newBlob(size).data)
		case 3:
			_, err = made.Result(hurry)
		case 4:
			_, err = m.weigh.Broadcast(hurry, newBlob(size)).Results(hurry)
		}
		made.Close()
		cancel()
		switch helve.ReasonOf(err) {
		case "":
			done++
		case helve.Cancelled, helve.Deadline, helve.Lost:
		default:
			return done, fmt.Errorf("after %d: %w", done, err)
		}
	}
	return done, nil
}

// TestLargeValuesInAHurry: calls that are cut off at any point leave no memory behind, and no call gets the value of
// another.
func TestLargeValuesInAHurry(t *testing.T) {
	t.Parallel()
	tiny := helvetest.Runner{Name: "tiny", Config: helve.Config{Isolation: helve.Process, ArenaSize: 2 << 20}}
	helvetest.Run(t, buildQuarry, func(t *testing.T, s *helve.System) {
		q, m := quarryHandles(t, s)
		ctx := t.Context()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var errs error
		for i := range 6 {
			wg.Go(func() {
				if _, err := helve.MethodOf(m, (*mason).Hurry).Call(ctx, uint64(i)); err != nil {
					mu.Lock()
					errs = errors.Join(errs, err)
					mu.Unlock()
				}
			})
		}
		here := &mason{
			make: helve.MethodOf(q, quarry.Make), weigh: helve.MethodOf(q, quarry.Weigh), weighBoth: helve.MethodOf(q, quarry.WeighBoth),
			echo: helve.MethodOf(q, quarry.Echo),
		}
		for i := range 3 {
			wg.Go(func() {
				if _, err := here.Hurry(ctx, uint64(100+i)); err != nil {
					mu.Lock()
					errs = errors.Join(errs, err)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if errs != nil {
			t.Error(errs)
		}
		nothingKept(t, s)
	}, helvetest.Socket, helvetest.Process, withoutMemory, tiny)
}
