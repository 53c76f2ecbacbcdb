// Package pickle reads and writes pickles of plain data. It never executes code: a pickle is a program for a stack
// machine, and the machine of this package has no operation that finds or calls a function.
//
// Plain data is None, bool, int, float, str, bytes, bytearray, list, tuple, set, frozenset and dict, and the classes
// that the standard library writes as calls with plain arguments: datetime, date and timedelta, Decimal, OrderedDict,
// defaultdict, Counter and deque. All other objects become an [Object] that knows only the name of its class. For
// example, a pickle of [1, numpy.array(2)] is a list of 1 and an Object "numpy...", and the caller of [Read] can
// report where in the value it is.
package pickle

import (
	"errors"
	"fmt"
)

// The values that [Read] returns consist of nil, bool, int64, *big.Int (only for an int that int64 does not hold),
// float64, string, []byte, time.Time (datetime with a time zone, in UTC), time.Duration (timedelta), *List, *Dict and
// *Object. Decimal, date and datetime without a time zone are their ISO text, as msgspec writes them in MessagePack.

// List is a list, tuple, set or frozenset. A list that the pickle refers to several times is one *List.
type List struct {
	Items  []any
	kind   kind
	state  state
	sealed bool // the items are shared with another container, so that an append would copy them all
}

type kind uint8

const (
	list kind = iota
	tuple
	set
)

// Dict is a dict or one of its standard subclasses. A key may occur several times; the last one counts.
type Dict struct {
	Entries []Entry
	state   state
	sealed  bool
}

// Entry is a key of a [Dict] with its value.
type Entry struct{ Key, Value any }

// Object is a class, a function, or an instance that this package does not read.
type Object struct {
	Class  string // module and name
	Itself bool   // true for the class or function itself, false for an instance
	zone   *int   // offset of a datetime.timezone in seconds east of UTC, else nil
}

// Refused returns the error of a value that has o in it.
func (o *Object) Refused() error { return &RefusedError{*o} }

// RefusedError is the error of a value that is no plain data.
type RefusedError struct{ Object Object }

func (e *RefusedError) Error() string {
	what := "an instance of "
	if e.Object.Itself {
		what = "the class or function "
	}
	return "pickle holds " + what + e.Object.Class + ", which Go does not read; use plain data or msgpack"
}

// state says how far [acyclic] is with a container.
type state uint8

const (
	unseen state = iota
	open
	done
)

var errRecursive = errors.New("pickle holds a value that contains itself, which Go does not read")

// acyclic is an error if v contains itself or is too deep. It looks at every container once, however many references
// it has.
func acyclic(v any, depth int) error {
	var at *state
	switch v := v.(type) {
	case *List:
		at = &v.state
	case *Dict:
		at = &v.state
	default:
		return nil
	}
	switch *at {
	case done:
		return nil
	case open:
		return errRecursive
	}
	if depth == 0 {
		return errors.New("pickle is nested too deep")
	}
	*at = open
	switch v := v.(type) {
	case *List:
		for _, item := range v.Items {
			if err := acyclic(item, depth-1); err != nil {
				return err
			}
		}
	case *Dict:
		for _, e := range v.Entries {
			if err := acyclic(e.Key, depth-1); err != nil {
				return err
			}
			if err := acyclic(e.Value, depth-1); err != nil {
				return err
			}
		}
	}
	*at = done
	return nil
}

// name is the name of v's type in errors.
func name(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case string:
		return "str"
	case []byte:
		return "bytes"
	case *List:
		return [...]string{"list", "tuple", "set"}[v.kind]
	case *Dict:
		return "dict"
	case *Object:
		return v.Class
	}
	return fmt.Sprintf("%T", v)
}
