package router

// queue is a list of tickets: those of one origin by seq, or those about to be delivered.
type queue struct {
	origin     string
	head, tail *Ticket
	prev, next *queue // in the ring of origins
}

// insert puts t after a ticket of the list, or first if that is nil.
func (q *queue) insert(t, after *Ticket) {
	t.prev = after
	if after == nil {
		t.next, q.head = q.head, t
	} else {
		t.next, after.next = after.next, t
	}
	if t.next == nil {
		q.tail = t
	} else {
		t.next.prev = t
	}
}

func (q *queue) unlink(t *Ticket) {
	if t.prev == nil {
		q.head = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		q.tail = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.prev, t.next = nil, nil
}

// before finds the last ticket that is not later than seq, nil for none. New calls belong to the end and requeued ones
// near the head, so both ends are walked at once: the loss of a replica must not cost a walk of the whole queue per call.
func (q *queue) before(seq uint64) *Ticket {
	head, tail := q.head, q.tail
	for {
		if tail == nil || tail.seq <= seq {
			return tail
		}
		if head.seq > seq {
			return head.prev
		}
		head, tail = head.next, tail.prev
	}
}

// queues holds the queued tickets: a list per origin, and a ring of the origins that have any. It is not safe for
// concurrent use.
type queues struct {
	byOrigin map[string]*queue
	turn     *queue // whose ticket is next; nil when there is none
	spare    *queue // the last one that became empty, because most origins come and go one call at a time
}

// push puts t in its place by seq, after those with the same. A new origin is last in turn.
func (s *queues) push(t *Ticket) {
	q := s.byOrigin[t.origin]
	if q == nil {
		if q = s.spare; q == nil {
			q = new(queue)
		}
		s.spare, q.origin = nil, t.origin
		s.byOrigin[t.origin] = q
		if s.turn == nil {
			q.prev, q.next = q, q
			s.turn = q
		} else {
			q.prev, q.next = s.turn.prev, s.turn
			q.prev.next, q.next.prev = q, q
		}
	}
	q.insert(t, q.before(t.seq))
	t.queue = q
}

// pop takes the first ticket of the origin whose turn it is, and gives the turn to the next origin. There must be one.
func (s *queues) pop() *Ticket {
	q := s.turn
	t := q.head
	s.turn = q.next
	s.remove(t)
	return t
}

// remove takes a queued ticket out. An origin that has none left loses its turn.
func (s *queues) remove(t *Ticket) {
	q := t.queue
	q.unlink(t)
	t.queue = nil
	if q.head != nil {
		return
	}
	delete(s.byOrigin, q.origin)
	if q.next == q {
		s.turn = nil
	} else {
		q.prev.next, q.next.prev = q.next, q.prev
		if s.turn == q {
			s.turn = q.next
		}
	}
	*q = queue{}
	s.spare = q
}
