package client

import (
	"errors"
	"fmt"
	"strings"

	"github.com/helve-serve/helve/internal/call"
	"github.com/helve-serve/helve/internal/graph"
)

// Options are the options of the calls of a derived handle or method. They are immutable once a handle has them; the methods Set... are
// for [Options.With].
type Options struct {
	affinity *call.Affinity
	call     *call.Options
	err      error // the mistakes in the options
}

// With derives options, which set changes. o may be nil, and is not changed. A mistake is noted in d, unless that is nil.
func (o *Options) With(d *graph.Deployment, set func(*Options)) *Options {
	n := &Options{affinity: &call.Affinity{}, call: &call.Options{}}
	if o != nil {
		*n.affinity, *n.call, n.err = *o.affinity, *o.call, o.err
	}
	before := n.err
	set(n)
	if n.err != nil && n.err != before && d != nil { //nolint:errorlint // identity
		_ = d.AddMistake("%w", n.err)
	}
	return n
}

// SetModel sets the model of the calls.
func (o *Options) SetModel(id string) { o.id(&o.affinity.Model, "ModelID", id) }

// SetSession sets the session of the calls.
func (o *Options) SetSession(id string) { o.id(&o.affinity.Session, "SessionID", id) }

// SetLocal lets the calls prefer replicas of their own node.
func (o *Options) SetLocal() { o.affinity.Local = true }

// SetIdempotent lets a call run again whose replica has died.
func (o *Options) SetIdempotent() { o.call.Idempotent = true }

// SetByReference leaves the results of the calls where they are made.
func (o *Options) SetByReference() { o.call.ByReference = true }

// SetRequestCodec sets the codec of the arguments.
func (o *Options) SetRequestCodec(name string) { o.codec(&o.call.Request, "RequestCodec", name) }

// SetResponseCodec sets the codec of the results.
func (o *Options) SetResponseCodec(name string) { o.codec(&o.call.Response, "ResponseCodec", name) }

// ByReference reports whether results stay where they are made.
func (o *Options) ByReference() bool { return o != nil && o.call.ByReference }

// requestCodec is the codec that the options name for arguments; None if they name none.
func (o *Options) requestCodec() call.Codec {
	if o == nil {
		return call.None
	}
	return o.call.Request
}

func (o *Options) id(into *string, option, id string) {
	if err := call.CheckID(id); err != nil {
		o.err = errors.Join(o.err, fmt.Errorf("%s: %w", option, err))
		return
	}
	*into = id
}

func (o *Options) codec(into *call.Codec, option, name string) {
	c, ok := call.CodecNamed(name)
	if !ok {
		o.err = errors.Join(o.err, fmt.Errorf("%s: there is no codec %s; the codecs are %s", option, call.Quoted(name), strings.Join(call.CodecNames(), ", ")))
		return
	}
	*into = c
}

// mistake returns the error of the options; nil if there is none.
func (o *Options) mistake() error {
	if o == nil {
		return nil
	}
	return o.err
}
