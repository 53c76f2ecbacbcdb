package durable_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// round is the account of one fault.
type round struct {
	fault fault
	first time.Duration // to the first answer over HTTP to a request that began after the fault
	whole time.Duration // until every replica runs
	// The failed calls, by the kind of the client and how they failed.
	failed map[string]map[string]int
}

func (r round) String() string {
	return fmt.Sprintf("first answer after %s, whole after %s, failed %v", r.first.Round(time.Millisecond), r.whole.Round(time.Millisecond), r.failed)
}

// kindOf is the kind of a client: http, go or python.
func kindOf(client string) string { return strings.TrimRight(client, "0123456789") }

// table has the rounds of all episodes.
type table struct {
	mu     sync.Mutex
	rounds []round
}

func (t *table) add(rounds ...round) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rounds = append(t.rounds, rounds...)
}

// String has a line for each fault, with the medians and the largest numbers of its rounds.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	by := map[string][]round{}
	for _, r := range t.rounds {
		by[r.fault.String()] = append(by[r.fault.String()], r)
	}
	var b strings.Builder
	fmt.Fprintln(&b, "| fault | times | failed calls of HTTP | of Go | of Python | first answer, s | whole, s |\n|---|---|---|---|---|---|---|")
	for _, name := range slices.Sorted(maps.Keys(by)) {
		rounds := by[name]
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s |\n", name, len(rounds), failures(rounds, "http"), failures(rounds, "go"), failures(rounds, "python"),
			spread(rounds, func(r round) time.Duration { return r.first }), spread(rounds, func(r round) time.Duration { return r.whole }))
	}
	return b.String()
}

// failures are the kinds of failed calls of one kind of client, with their number in a round.
func failures(rounds []round, client string) string {
	sum := map[string]int{}
	for _, r := range rounds {
		for kind, n := range r.failed[client] {
			sum[kind] += n
		}
	}
	var texts []string
	for _, kind := range slices.Sorted(maps.Keys(sum)) {
		texts = append(texts, fmt.Sprintf("%.1f %s", float64(sum[kind])/float64(len(rounds)), kind))
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}

// spread is the median and the largest of a time.
func spread(rounds []round, of func(round) time.Duration) string {
	var all []time.Duration
	for _, r := range rounds {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return fmt.Sprintf("%.2f, at most %.2f", all[len(all)/2].Seconds(), all[len(all)-1].Seconds())
}
