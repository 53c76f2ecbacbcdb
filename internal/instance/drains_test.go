package instance

import "testing"

// TestDrains: the drain of one replica is not that of another, may begin twice, and is forgotten with the replica; a replica that is taken over has a
// drain that has not begun.
func TestDrains(t *testing.T) {
	t.Parallel()
	var d Drains
	begun := func(replica string) bool {
		select {
		case <-d.Of(replica):
			return true
		default:
			return false
		}
	}
	d.Add("a")
	d.Add("b")
	before := d.Of("a")
	d.Begin("a")
	d.Begin("a")
	d.Begin("nowhere")
	<-before
	if !begun("a") || begun("b") || d.Of("nowhere") != nil {
		t.Error(begun("a"), begun("b"), d.Of("nowhere"))
	}
	d.Add("a")
	if begun("a") {
		t.Error("the drain of before is the drain of a replica that was taken over")
	}
	d.Forget("a")
	if d.Of("a") != nil {
		t.Error("a replica that was forgotten")
	}
	var none *Drains
	none.Add("a")
	none.Begin("a")
	none.Forget("a")
	if none.Of("a") != nil {
		t.Error("no drains")
	}
}
