package pickle

import (
	"errors"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// object runs an operation that makes or changes an instance of a class.
func (r *reader) object(op byte) error {
	switch op {
	case opGlobal:
		module, err := r.line()
		if err != nil {
			return err
		}
		class, err := r.line()
		if err != nil {
			return err
		}
		return r.pushClass(module, class)
	case opStackGlobal:
		names, err := r.popN(2)
		if err != nil {
			return err
		}
		module, ok1 := names[0].(string)
		class, ok2 := names[1].(string)
		if !ok1 || !ok2 {
			return errors.New("the name of a class is no str")
		}
		return r.pushClass(module, class)
	case opInst:
		module, err := r.line()
		if err != nil {
			return err
		}
		class, err := r.line()
		if err != nil {
			return err
		}
		if _, err := r.popMark(); err != nil {
			return err
		}
		return r.push(&Object{Class: className(module, class)})
	case opObj:
		items, err := r.popMark()
		if err != nil {
			return err
		}
		if len(items) == 0 {
			return errStack
		}
		return r.pushInstance(items[0])
	case opNewObj, opNewObjEx:
		items, err := r.popN(2 + int(op-opNewObj)/(opNewObjEx-opNewObj))
		if err != nil {
			return err
		}
		return r.pushInstance(items[0])
	case opReduce:
		items, err := r.popN(2)
		if err != nil {
			return err
		}
		of, ok := items[0].(*Object)
		args, ok2 := items[1].(*List)
		if !ok || !ok2 || args.kind != tuple {
			return errors.New("a call is not one of a class with a tuple")
		}
		v, err := r.reduce(of, args.Items)
		if err != nil {
			return err
		}
		return r.push(v)
	}
	if _, err := r.pop(); err != nil { // opBuild
		return err
	}
	v, err := r.top()
	if err != nil {
		return err
	}
	if _, ok := v.(*Object); !ok {
		return errors.New(name(v) + " takes no state")
	}
	return nil
}

func (r *reader) pushClass(module, class string) error {
	if !utf8.ValidString(module) || !utf8.ValidString(class) {
		return &whole{errText}
	}
	return r.push(&Object{Class: className(module, class), Itself: true})
}

func (r *reader) pushInstance(class any) error {
	of, ok := class.(*Object)
	if !ok {
		return errors.New(name(class) + " is no class")
	}
	return r.push(&Object{Class: of.Class})
}

// className is the full name of a class. Protocols before 3 use the names of Python 2 for some modules.
func className(module, class string) string {
	switch module {
	case "__builtin__":
		module = "builtins"
	case "copy_reg":
		module = "copyreg"
	}
	return module + "." + strings.TrimSuffix(class, "._unpickle") // zoneinfo
}

// reduce returns the result of the call of(args...): plain data for the known classes, an [Object] for all others.
func (r *reader) reduce(of *Object, args []any) (any, error) {
	unknown := &Object{Class: of.Class}
	if !of.Itself {
		return unknown, nil
	}
	arg := func(i int) any {
		if i < len(args) {
			return args[i]
		}
		return nil
	}
	switch of.Class {
	case "builtins.set", "builtins.frozenset":
		switch from := arg(0).(type) {
		case nil:
			return &List{kind: set}, nil
		case *List:
			return &List{Items: slices.Clip(from.Items), kind: set, sealed: len(from.Items) > 0}, nil
		}
	case "collections.deque":
		if from, ok := arg(0).(*List); ok {
			return &List{Items: slices.Clip(from.Items), sealed: len(from.Items) > 0}, nil
		}
		return &List{}, nil
	case "collections.OrderedDict", "collections.Counter", "collections.defaultdict":
		if from, ok := arg(0).(*Dict); ok {
			return &Dict{Entries: slices.Clip(from.Entries), sealed: len(from.Entries) > 0}, nil
		}
		if of.Class == "collections.defaultdict" || len(args) == 0 {
			return &Dict{}, nil
		}
	case "builtins.bytes", "builtins.bytearray":
		switch from := arg(0).(type) {
		case nil:
			return []byte{}, nil
		case []byte:
			return from, nil
		case string:
			return r.latin1(from, arg(1))
		}
	case "_codecs.encode":
		if from, ok := arg(0).(string); ok {
			return r.latin1(from, arg(1))
		}
	case "decimal.Decimal":
		if text, ok := arg(0).(string); ok {
			return text, nil
		}
	case "datetime.timedelta":
		if d, ok, err := delta(args); ok || err != nil {
			return d, err
		}
	case "datetime.timezone":
		if d, ok := arg(0).(time.Duration); ok && d%time.Second == 0 {
			seconds := int(d / time.Second)
			unknown.zone = &seconds
		}
	case "datetime.date":
		if b, ok := arg(0).([]byte); ok && len(b) == 4 {
			t, err := date(b, nil, time.UTC)
			return t.Format(time.DateOnly), err
		}
	case "datetime.datetime":
		if b, ok := arg(0).([]byte); ok && len(b) == 10 {
			return datetime(b, arg(1))
		}
	default:
		return &Object{Class: madeBy(of.Class, args), Itself: strings.HasSuffix(of.Class, "_make_skeleton_class")}, nil
	}
	return unknown, nil
}

// madeBy is the class that a function such as copyreg._reconstructor makes an instance of.
func madeBy(class string, args []any) string {
	switch class {
	case "copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__", "builtins.getattr",
		"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct":
		if len(args) > 0 {
			if of, ok := args[0].(*Object); ok {
				return of.Class
			}
		}
	case "numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer":
		return "numpy.ndarray"
	case "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar":
		return "numpy.generic (a scalar of numpy)"
	case "cloudpickle.cloudpickle._make_skeleton_class":
		if len(args) > 1 {
			if name, ok := args[1].(string); ok {
				return "__main__." + name
			}
		}
	case "cloudpickle.cloudpickle._make_function":
		return "a function that cloudpickle took along"
	}
	return class
}

// latin1 reads bytes as protocols before 3 write them: as text that the reader encodes in Latin-1.
func (r *reader) latin1(text string, encoding any) (any, error) {
	if encoding != "latin1" && encoding != "latin-1" {
		return &Object{Class: "_codecs.encode"}, nil
	}
	n := utf8.RuneCountInString(text)
	if r.spare -= n; r.spare < 0 { // no writer encodes one text again and again
		return nil, errors.New("it makes more bytes than it has")
	}
	out := make([]byte, 0, n)
	for _, c := range text {
		if c > 0xff {
			return nil, errors.New("bytes hold a character that is no byte")
		}
		out = append(out, byte(c))
	}
	return out, nil
}

func delta(args []any) (time.Duration, bool, error) {
	if len(args) != 3 {
		return 0, false, nil
	}
	sum := new(big.Int)
	for i, unit := range []time.Duration{24 * time.Hour, time.Second, time.Microsecond} {
		n, ok := args[i].(int64)
		if !ok {
			return 0, false, nil
		}
		sum.Add(sum, new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(unit))))
	}
	if !sum.IsInt64() {
		return 0, false, &whole{errors.New("pickle holds a timedelta of more than 292 years, which Go does not read")}
	}
	return time.Duration(sum.Int64()), true, nil
}

// datetime reads the ten bytes of a datetime. A datetime without a time zone is no instant, so it stays text.
func datetime(b []byte, zone any) (any, error) {
	where := time.UTC
	of, aware := zone.(*Object)
	switch {
	case aware && of.zone == nil:
		return &Object{Class: of.Class}, nil
	case aware:
		where = time.FixedZone("", *of.zone)
	case zone != nil:
		return nil, errors.New(name(zone) + " is no time zone")
	}
	b = slices.Clone(b)
	b[2] &= 0x7f // the highest bit is fold, the choice between two equal readings of the clock
	t, err := date(b[:4], b[4:], where)
	if err != nil || aware {
		return t.UTC(), err
	}
	if t.Nanosecond() == 0 { // datetime.isoformat does the same
		return t.Format("2006-01-02T15:04:05"), nil
	}
	return t.Format("2006-01-02T15:04:05.000000"), nil
}

func date(day, clock []byte, where *time.Location) (time.Time, error) {
	var h, m, s, us int
	if clock != nil {
		h, m, s = int(clock[0]), int(clock[1]), int(clock[2])
		us = int(clock[3])<<16 | int(clock[4])<<8 | int(clock[5])
	}
	y := int(day[0])<<8 | int(day[1])
	t := time.Date(y, time.Month(day[2]), int(day[3]), h, m, s, us*1000, where)
	ofCalendar := y >= 1 && y <= 9999 && t.Month() == time.Month(day[2]) && t.Day() == int(day[3])
	if !ofCalendar || h > 23 || m > 59 || s > 59 || us > 999999 {
		return t, errors.New("a date is none of the calendar")
	}
	return t, nil
}
