package why

import (
	"strings"
	"testing"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

// checked is the event of a replica that runs and has failed its health checks with a text.
func checked(id uint64, replica string, after time.Duration, text string) helvetype.Event {
	return helvetype.Event{
		ID: id, Object: shop("Pay", replica), From: "RUNNING", To: "STOPPING", Reason: "replace", Time: at.Add(after), Message: "replica " + replica + " failed 3 health checks: " + text,
	}
}

// TestSharedCheck: replicas that fail the same check with the same text at the same time have a dependency that they share. A replica that fails twice shares none, and other texts are of other causes.
func TestSharedCheck(t *testing.T) {
	t.Parallel()
	start := helvetype.Event{ID: 9, Object: shop("Pay", "P#4"), From: "STARTING", Reason: "start_failed", Time: at.Add(3 * time.Second), Message: "shop/Pay.check_health: no rates\nTraceback"}
	for name, c := range map[string]struct {
		events kept
		want   string
	}{
		"three together":        {kept{checked(1, "P#1", 0, "no rates"), checked(2, "P#2", time.Second, "no rates"), checked(3, "P#3", 1500*time.Millisecond, "no rates"), start}, "3 replicas of Pay failed the same health check within 1500 ms"},
		"other texts":           {kept{checked(1, "P#1", 0, "no rates"), checked(2, "P#2", time.Second, "no disk")}, ""},
		"one after the other":   {kept{checked(1, "P#1", 0, "no rates"), checked(2, "P#2", time.Minute, "no rates")}, ""},
		"the same one":          {kept{checked(1, "P#1", 0, "no rates"), start}, ""},
		"long ago":              {kept{checked(1, "P#1", -time.Hour, "no rates"), checked(2, "P#2", -time.Hour, "no rates")}, ""},
		"two, and later three":  {kept{checked(1, "P#1", 0, "no rates"), checked(2, "P#2", 0, "no rates"), checked(3, "P#5", time.Minute, "x"), checked(4, "P#6", time.Minute, "x"), checked(5, "P#7", time.Minute, "x")}, "3 replicas of Pay"},
		"a process that ends":   {kept{{ID: 1, Object: shop("Pay", "P#1"), From: "RUNNING", Reason: "died", Message: "killed", Time: at}}, ""},
		"another deployment's":  {kept{{ID: 1, Object: shop("Other", "P#1"), From: "RUNNING", Reason: "replace", Message: "a health checks: x", Time: at}}, ""},
		"a message of no check": {kept{{ID: 1, Object: shop("Pay", "P#1"), From: "RUNNING", Reason: "replace", Message: "a wrong user config", Time: at}, {ID: 2, Object: shop("Pay", "P#2"), From: "RUNNING", Reason: "replace", Message: "a wrong user config", Time: at}}, ""},
	} {
		text, next := sharedCheck(c.events, "shop", "Pay", at.Add(2*time.Minute))
		if !strings.Contains(text, c.want) || (c.want == "") != (text == "") || (c.want != "") != strings.Contains(next, "check_ready") {
			t.Errorf("%s: %q, want %q; next %q", name, text, c.want, next)
		}
	}
	s := helvetype.Status{Applications: map[string]helvetype.ApplicationStatus{"shop": {Status: helvetype.ApplicationUnhealthy, Deployments: map[string]helvetype.DeploymentStatus{"Pay": {Wanted: 2}}}}}
	for _, of := range []helvetype.Object{shop(), shop("Pay")} {
		events := kept{checked(1, "P#1", 0, "no rates"), checked(2, "P#2", time.Second, "no rates"), {ID: 3, Object: of, Cause: 2}}
		if e, _ := Explain(of, s, events, at.Add(time.Minute)); !strings.Contains(e.Sentence, "a dependency that they share") || !strings.Contains(e.Next, "docs/health.md") {
			t.Errorf("%v: %s\n%s", of, e.Sentence, e.Next)
		}
	}
}

// TestWaitWithoutReplica: a wait in which the deployment had no replica says so, with the failures that led there, and gives no advice about slots.
func TestWaitWithoutReplica(t *testing.T) {
	t.Parallel()
	wait := piece("wait", "b", "a", "Pay", 2, 5000)
	wait.WithoutReplica = 4900
	r := request(6000, 200, piece("call", "a", "r", "Front", 1, 5998), wait, piece("call", "b", "a", "Pay", 5002, 900))
	begin := time.Minute
	for name, c := range map[string]struct {
		events kept
		want   string
	}{
		"all by the same check": {kept{checked(1, "P#1", begin-time.Second, "no rates"), checked(2, "P#2", begin, "no rates"), checked(3, "P#3", begin, "no rates")},
			": all 3 were replaced after check_health had failed in each at the same time: no rates"},
		"one that died":     {kept{{ID: 1, Object: shop("Pay", "P#1"), From: "RUNNING", Reason: "died", Message: "killed by SIGKILL", Time: at.Add(begin)}}, ": P#1 had failed: killed by SIGKILL"},
		"two that died":     {kept{{ID: 1, Object: shop("Pay", "P#1"), From: "RUNNING", Reason: "died", Message: "x", Time: at.Add(begin)}, {ID: 2, Object: shop("Pay", "P#2"), From: "RUNNING", Reason: "died", Message: "y", Time: at.Add(begin)}}, ": P#1, P#2 had failed, the last one with: y"},
		"nothing is known":  {nil, "for 4900 ms of that"},
		"one long before":   {kept{{ID: 1, Object: shop("Pay", "P#1"), From: "RUNNING", Reason: "died", Message: "x", Time: at.Add(-time.Hour)}}, "for 4900 ms of that"},
		"one that was next": {kept{{ID: 1, Object: shop("Pay", "P#1"), From: "RUNNING", Reason: "died", Message: "x", Time: at.Add(2 * begin)}}, "for 4900 ms of that"},
	} {
		sentence, next := Request(r, helvetype.Status{}, c.events)
		if want := "the call waited 5000 ms of 6000 ms for a replica of shop/Pay (called by Front.run), because none was ready for 4900 ms of that"; !strings.Contains(sentence, want) || !strings.HasSuffix(sentence, c.want) || next != "helve why shop/Pay" {
			t.Errorf("%s: %s\nwant %s\nnext %s", name, sentence, c.want, next)
		}
	}
}

// TestFactsOnce: a timeline has the text of a failure with the replica, and not again with its deployment and application.
func TestFactsOnce(t *testing.T) {
	t.Parallel()
	events := kept{
		{ID: 1, Object: shop("Pay", "P#1"), From: "RUNNING", To: "STOPPING", Message: "no rates"},
		{ID: 2, Object: shop("Pay"), From: "HEALTHY", To: "UNHEALTHY", Cause: 1, Message: "no rates"},
		{ID: 3, Object: shop(), From: "RUNNING", To: "UNHEALTHY", Cause: 2, Message: "deployment Pay: no rates"},
		{ID: 4, Object: shop("Pay", "P#2"), From: "RUNNING", To: "STOPPING", Message: "no rates"},
		{ID: 5, Object: shop("Pay"), From: "UNHEALTHY", To: "UNHEALTHY", Cause: 4, Message: "no rates"},
		{ID: 6, Object: shop(), From: "UNHEALTHY", To: "UNHEALTHY", Cause: 5, Message: "deployment Pay: no rates"},
	}
	var got []string
	for _, ev := range timeline(events.History(shop()), events) {
		got = append(got, ev.Object.String()+" "+ev.To+" "+ev.Message)
	}
	want := "shop/Pay/P#1 STOPPING no rates, shop/Pay UNHEALTHY , shop UNHEALTHY , shop/Pay/P#2 STOPPING no rates"
	if strings.Join(got, ", ") != want {
		t.Errorf("%s\nwant %s", strings.Join(got, ", "), want)
	}
}
