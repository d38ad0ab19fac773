package limit

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			q        = NewQueue(3)
			mu       sync.Mutex // guards the following
			began    []int
			at, most int
		)
		for i := range 10 {
			q.Add(func() {
				mu.Lock()
				began = append(began, i)
				at++
				most = max(most, at)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				at--
				mu.Unlock()
			})
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if most != 3 || !slices.Equal(began, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
			t.Errorf("%v began, at most %d at once, want all in order and 3", began, most)
		}
		ran := false
		q.Add(func() { ran = true })
		synctest.Wait()
		if !ran {
			t.Error("the queue has stopped")
		}
	})
}

func TestQueueRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(1)
		ran := make(map[string]bool)
		task := func(name string) func() {
			return func() {
				ran[name] = true
				time.Sleep(time.Second)
			}
		}
		first := q.Add(task("first"))
		synctest.Wait()
		second := q.Add(task("second"))
		q.Add(task("third"))
		first() // too late
		second()
		second()
		time.Sleep(time.Minute)
		synctest.Wait()
		if !ran["first"] || ran["second"] || !ran["third"] || q.waiting.Len() != 0 || q.running != 0 {
			t.Errorf("%v ran, %d wait, %d run", ran, q.waiting.Len(), q.running)
		}
	})
}
