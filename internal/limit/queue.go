package limit

import (
	"container/list"
	"sync"
)

// A Queue runs tasks on goroutines of its own: at most so many at once, the others when it is
// their turn. It has no goroutines while there are no tasks.
type Queue struct {
	most int

	mu      sync.Mutex // guards the following
	running int
	waiting list.List // of func()
}

// NewQueue returns a Queue that runs at most so many tasks at once.
func NewQueue(most int) *Queue { return &Queue{most: most} }

// Add adds a task, which must not panic. Calling remove takes it out again if it hasn't begun
// to run.
func (q *Queue) Add(task func()) (remove func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	place := q.waiting.PushBack(task)
	if q.running < q.most {
		q.running++
		go q.run()
	}
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.waiting.Remove(place) // does nothing once it is out
	}
}

// run runs tasks until none waits.
func (q *Queue) run() {
	for {
		task := q.next()
		if task == nil {
			return
		}
		task()
	}
}

// next takes the task out whose turn it is. If there is none, a goroutine has ended.
func (q *Queue) next() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := q.waiting.Front()
	if first == nil {
		q.running--
		return nil
	}
	return q.waiting.Remove(first).(func())
}
