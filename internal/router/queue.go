package router

// queue is a list of tickets: the tickets of one origin in the order of seq, or assigned tickets about to be
// delivered.
type queue struct {
	origin     string
	head, tail *Ticket
	prev, next *queue // neighbours in the ring of origins
}

// insert puts t behind the ticket after, or at the front if after is nil.
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

// before finds the last ticket whose seq is at most seq, or nil. New calls belong to the end and requeued ones near
// the head, so both ends are walked at once: after the loss of a replica the cost of a requeue must not grow with the
// queue.
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

// queues has the queued tickets: a list for each origin, and a ring of the origins with tickets. It is not safe for
// concurrent use.
type queues struct {
	byOrigin map[string]*queue
	turn     *queue // the list whose ticket is next; nil if there is none
	spare    *queue // the list that became empty last, for reuse: most origins come and go one call at a time
}

// push inserts t by its seq, behind tickets with the same. A new origin is last in turn.
func (qs *queues) push(t *Ticket) {
	q := qs.byOrigin[t.origin]
	if q == nil {
		if q = qs.spare; q == nil {
			q = new(queue)
		}
		qs.spare, q.origin = nil, t.origin
		qs.byOrigin[t.origin] = q
		if qs.turn == nil {
			q.prev, q.next = q, q
			qs.turn = q
		} else {
			q.prev, q.next = qs.turn.prev, qs.turn
			q.prev.next, q.next.prev = q, q
		}
	}
	q.insert(t, q.before(t.seq))
	t.queue = q
}

// pop takes the first ticket of the origin whose turn it is, and gives the turn to the next origin. There must be a
// ticket.
func (qs *queues) pop() *Ticket {
	q := qs.turn
	t := q.head
	qs.turn = q.next
	qs.remove(t)
	return t
}

// remove takes a queued ticket out. An origin without tickets leaves the ring.
func (qs *queues) remove(t *Ticket) {
	q := t.queue
	q.unlink(t)
	t.queue = nil
	if q.head != nil {
		return
	}
	delete(qs.byOrigin, q.origin)
	if q.next == q {
		qs.turn = nil
	} else {
		q.prev.next, q.next.prev = q.next, q.prev
		if qs.turn == q {
			qs.turn = q.next
		}
	}
	*q = queue{}
	qs.spare = q
}
