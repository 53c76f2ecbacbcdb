package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/call"
)

// Operation is a control request of any type.
type Operation interface {
	// Op is the request's name in the JSON field "op".
	Op() string
}

// Request is a control request whose reply has the type R. Reply exists for its type alone: it lets the compiler check that
// a request is sent and answered with the same type of reply.
type Request[R any] interface {
	Operation
	Reply() R
}

// Done is the reply of requests that have nothing to say but that they are done.
type Done struct{}

// Requests are all control requests, in the order of the table in docs/control.md.
func Requests() []Operation {
	return []Operation{
		StartReplica{}, Prepare{}, Drain{}, CheckHealth{}, CheckReady{}, Reconfigure{}, Ping{}, StopReplica{}, SetRank{}, RoutingStats{}, AutoscalingStats{}, LoadedModels{}, LoadModel{}, Profile{}, EndProfile{}, Release{},
		GrantBlock{}, RecallBlock{}, ReturnBlock{}, Faults{}, Handover{}, FreeBlock{}, Uses{}, Models{}, Spans{}, Metrics{}, Deploy{}, DeployBuild{}, Delete{}, Scale{}, Rollback{}, Configure{}, Status{}, Ingress{}, HTTP{},
	}
}

// Caller sends a control request that is encoded already and decodes its reply into reply. A wire.Peer is one.
type Caller interface {
	Control(ctx context.Context, request, reply any) error
}

// Teller sends requests, and drops their replies. [wire.Peer] is one.
type Teller interface {
	Tell(request any) (sent bool, err error)
}

// Ask sends a request and waits for its reply.
func Ask[R any](ctx context.Context, to Caller, request Request[R]) (R, error) {
	var reply R
	body, err := Encode(request)
	if err != nil {
		return reply, err
	}
	err = to.Control(ctx, json.RawMessage(body), &reply)
	return reply, err
}

// Tell sends a request without waiting for its reply, before all frames that are sent from now on. sent is false if that is not possible now: see [wire.Peer.Tell].
func Tell(to Teller, request Operation) (sent bool, err error) {
	body, err := Encode(request)
	if err != nil {
		return false, err
	}
	return to.Tell(json.RawMessage(body))
}

// Encode gives a request as JSON, with its op as the first field.
func Encode(request Operation) ([]byte, error) {
	fields, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", request.Op(), err)
	}
	body := make([]byte, 0, len(fields)+len(request.Op())+len(`{"op":"",`))
	body = append(body, `{"op":"`...)
	body = append(body, request.Op()...)
	body = append(body, '"')
	if fields = fields[1:]; len(fields) > 1 {
		body = append(body, ',')
	}
	return append(body, fields...), nil
}

// Decode reads a request's fields. Its error names the op and, where one field is at fault, the field; for example:
//
//	start_replica: field "timeout_s": a JSON string cannot be a number
func Decode[T Operation](body []byte) (T, error) {
	var request T
	if err := json.Unmarshal(body, &request); err != nil {
		return request, malformed(request.Op(), err)
	}
	if c, ok := Operation(request).(checker); ok {
		if field, problem := c.check(); problem != "" {
			return request, fieldError(request.Op(), field, problem)
		}
	}
	return request, nil
}

// checker is a request with fields that not every value of their type suits. problem is "" for a request that is in order.
type checker interface {
	check() (field, problem string)
}

func fieldError(op, field, problem string) error {
	return call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("%s: field %q: %s", op, field, problem))
}

func malformed(op string, err error) error {
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		return fieldError(op, t.Field, fmt.Sprintf("a JSON %s cannot be a value of type %s", t.Value, t.Type))
	}
	return call.NewError(helvetype.ReasonBadInput, op+": "+err.Error())
}

// Handler answers one type of request. [On] makes it.
type Handler struct {
	op    string
	serve func(ctx context.Context, body []byte) (any, error)
}

// On is a handler that decodes a request and calls f with it.
func On[T Request[R], R any](f func(ctx context.Context, request T) (R, error)) Handler {
	var request T
	return Handler{request.Op(), func(ctx context.Context, body []byte) (any, error) {
		request, err := Decode[T](body)
		if err != nil {
			return nil, err
		}
		reply, err := f(ctx, request)
		if err != nil {
			return nil, err
		}
		return reply, nil
	}}
}

// Table has the requests that one side answers.
type Table struct {
	side     string
	handlers map[string]Handler
}

// NewTable makes a table. side says in errors for whom it is; for example, "drivers" gives "control request "counts" is not
// for drivers".
func NewTable(side string, handlers ...Handler) Table {
	t := Table{side, make(map[string]Handler, len(handlers))}
	for _, h := range handlers {
		t.handlers[h.op] = h
	}
	return t
}

// Has says whether the table answers a request of the name.
func (t Table) Has(op string) bool {
	_, ok := t.handlers[op]
	return ok
}

// Serve answers a request: op is its name and body all of its JSON, the op included.
func (t Table) Serve(ctx context.Context, op string, body []byte) (any, error) {
	h, ok := t.handlers[op]
	if ok {
		return h.serve(ctx, body)
	}
	for _, r := range Requests() {
		if r.Op() == op {
			return nil, call.NewError(helvetype.ReasonBadInput, fmt.Sprintf("control request %q is not for %s", op, t.side))
		}
	}
	return nil, call.NewError(helvetype.ReasonBadInput, "unknown control request "+call.Quoted(op))
}
