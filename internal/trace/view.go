package trace

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/helve-serve/helve/helvetype"
)

func hexID(id uint64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", id)
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// View is a request as operators see it.
func (k *Kept) View(kept bool) helvetype.RequestTrace {
	root := k.Root
	records := slices.Clone(k.Records)
	if root.End != 0 {
		records = append(records, root)
	}
	slices.SortStableFunc(records, func(a, b Record) int { return cmp.Or(cmp.Compare(a.Begin, b.Begin), cmp.Compare(b.End, a.End)) })
	if root.End == 0 && len(records) > 0 { // it has not ended, or its end has left nothing
		root = Record{Request: records[0].Request, Trace: records[0].Trace, Place: records[0].Place, Kind: records[0].Kind, Begin: records[0].Begin}
		for i := range records {
			root.End = max(root.End, records[i].End)
		}
	}
	v := helvetype.RequestTrace{Request: summary(&root), Missed: k.Missed, Spans: make([]helvetype.Span, len(records))}
	if kept {
		v.Kept = k.Why.String()
	}
	for i := range records {
		v.Spans[i] = span(&records[i])
		if v.Deployment == "" && v.App != "" && records[i].Depth == 0 && records[i].Place != nil { // the route knows the application only
			v.Deployment, v.Method = records[i].Place.Deployment, records[i].Place.Method
		}
	}
	return v
}

func summary(r *Record) helvetype.Request {
	trace := r.TraceID()
	v := helvetype.Request{
		ID: r.Request.String(), TraceID: hex.EncodeToString(trace[:]), Kind: r.Kind.String(), Status: int(r.Status), Reason: r.Reason, Sampled: r.Sampled,
		Started: time.Unix(0, r.Begin), Milliseconds: milliseconds(r.Took()),
	}
	if p := r.Place; p != nil {
		v.App, v.Deployment, v.Method, v.Route = p.App, p.Deployment, p.Method, p.Prefix
	}
	if r.More != nil {
		v.Name, v.Message, v.FailedAt = r.More.Name, r.More.Message, r.More.FailedAt
	}
	return v
}

func span(r *Record) helvetype.Span {
	v := helvetype.Span{
		ID: hexID(r.ID), Parent: hexID(r.Parent), Kind: r.Kind.String(), Replica: r.Replica, Origin: r.Origin, Started: time.Unix(0, r.Begin),
		Milliseconds: milliseconds(r.Took()), Attempt: int(r.Attempt), RunsAgain: r.Again, Reason: r.Reason,
	}
	if p := r.Place; p != nil {
		v.App, v.Deployment, v.Method = p.App, p.Deployment, p.Method
	}
	if m := r.More; m != nil {
		v.WithoutReplica = milliseconds(m.Without)
		v.Name, v.Message, v.FailedAt, v.Caller = m.Name, m.Message, m.FailedAt, hexID(m.Caller)
		for _, a := range m.Attributes {
			if v.Attributes == nil {
				v.Attributes = map[string]any{}
			}
			v.Attributes[a.Key] = a.Value
		}
		for _, l := range m.Links {
			v.Links = append(v.Links, hexID(l.Span))
		}
	}
	return v
}

// requestLimit is how many requests an answer has without another limit.
const requestLimit = 100

// List has the kept requests that a query chooses, the newest first.
func (r *Recorder) List(q helvetype.RequestQuery) helvetype.RequestList {
	limit := q.Limit
	if limit <= 0 {
		limit = requestLimit
	}
	type found struct {
		root Record
		why  Why
	}
	var all []found
	for why := range Why(reasons) {
		if q.Kept != "" && q.Kept != why.String() && q.Kept != helvetype.KeptSampled {
			continue
		}
		n := 0
		r.Roots(why, func(root *Record) bool {
			if q.App != "" && root.Place.App != q.App || q.Status != 0 && int(root.Status) != q.Status || root.Took() < q.LongerThan || q.Kept == helvetype.KeptSampled && !root.Sampled {
				return true
			}
			all = append(all, found{*root, why})
			n++
			return n < limit
		})
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(b.root.End, a.root.End) })
	list := helvetype.RequestList{Requests: []helvetype.Request{}}
	for i := range all[:min(len(all), limit)] {
		v := summary(&all[i].root)
		v.Kept = all[i].why.String()
		list.Requests = append(list.Requests, v)
	}
	list.SlowFrom = milliseconds(r.SlowFrom())
	list.DroppedFailed, list.DroppedSlow = r.Dropped()
	return list
}
