package codec

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tinylib/msgp/msgp"

	"github.com/helve-serve/helve/internal/call"
)

// textKeyed reports whether keys of type t are written as the text of their method MarshalText, as encoding/json
// does: addresses, UUIDs and the like. Strings and integers are written as themselves.
func textKeyed(t reflect.Type) bool {
	k := t.Kind()
	if k == reflect.String || k >= reflect.Int && k <= reflect.Uintptr || k == reflect.Interface || k == reflect.Pointer {
		return false
	}
	return t.Implements(textMarshaler) && reflect.PointerTo(t).Implements(textUnmarsh)
}

// keyable reports whether a map with keys of type t can be encoded.
func keyable(t reflect.Type) bool {
	k := t.Kind()
	return k == reflect.String || k >= reflect.Int && k <= reflect.Uintptr || textKeyed(t)
}

func keyText(k reflect.Value) (string, error) {
	text, err := k.Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return "", fmt.Errorf("the key of a map: %w", call.Guard(err))
	}
	return string(text), nil
}

func sortByText(keys []reflect.Value) error {
	texts := make(map[any]string, len(keys)) // any key of a map can be a key of this map too
	for _, k := range keys {
		text, err := keyText(k)
		if err != nil {
			return err
		}
		texts[k.Interface()] = text
	}
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(texts[a.Interface()], texts[b.Interface()]) })
	for i := 1; i < len(keys); i++ {
		if text := texts[keys[i].Interface()]; text == texts[keys[i-1].Interface()] {
			return fmt.Errorf("two keys of the map are both written as %q", text)
		}
	}
	return nil
}

func decodeTextKey(b []byte, k reflect.Value) ([]byte, error) {
	text, rest, err := msgp.ReadStringBytes(b)
	if err != nil {
		return b, mismatch(b, k.Type())
	}
	k.SetZero()
	return rest, keyError(text, k, k.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)))
}
