// Package yaml11 reads texts without quotes as YAML 1.1 does, which PyYAML and therefore Ray Serve have: yes and off are booleans, 010 is 8, 1_000 is 1000, 1:30 is 90, and 1e3 is
// a text, because it has no point.
package yaml11

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Kind is the kind of a value.
type Kind int

// The kinds of texts without quotes.
const (
	Null Kind = iota
	Boolean
	Number
	Text
)

//nolint:gochecknoglobals // constants
var (
	isBool    = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	isTrue    = regexp.MustCompile(`^(?i:yes|true|on)$`)
	isNull    = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	isInt     = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	isFloat   = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*)$`)
	isSpecial = regexp.MustCompile(`^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
)

// Read gives the kind of a text without quotes, and its form in JSON; that of [Text] is the text itself, and that of [Null] is "". The error is for a number that JSON does not have.
func Read(s string) (k Kind, form string, err error) {
	switch {
	case isNull.MatchString(s):
		return Null, "", nil
	case isBool.MatchString(s):
		return Boolean, strconv.FormatBool(isTrue.MatchString(s)), nil
	case isInt.MatchString(s):
		return Integer(s)
	case isFloat.MatchString(s):
		return Float(s)
	case isSpecial.MatchString(s):
		return Text, "", fmt.Errorf("%s is no number that JSON has", s)
	}
	return Text, s, nil
}

// longestNumber is the most digits of a number.
const longestNumber = 400

// Integer is the form in JSON of a text that is an integer.
func Integer(s string) (Kind, string, error) {
	digits := strings.ReplaceAll(s, "_", "")
	if len(digits) > longestNumber {
		return Text, "", fmt.Errorf("a number may have at most %d digits; in quotes it is a text", longestNumber)
	}
	sign := ""
	if digits[0] == '-' || digits[0] == '+' {
		sign, digits = strings.TrimPrefix(digits[:1], "+"), digits[1:]
	}
	n, ok := new(big.Int), true
	if strings.Contains(digits, ":") {
		for part := range strings.SplitSeq(digits, ":") {
			d, good := new(big.Int).SetString(part, 10)
			if ok = ok && good; ok {
				n.Add(n.Mul(n, big.NewInt(60)), d)
			}
		}
	} else {
		base := 10
		switch {
		case strings.HasPrefix(digits, "0b"), strings.HasPrefix(digits, "0x"):
			base = map[byte]int{'b': 2, 'x': 16}[digits[1]]
			digits = digits[2:]
		case len(digits) > 1 && digits[0] == '0':
			base = 8
		}
		n, ok = n.SetString(digits, base)
	}
	if !ok {
		return Text, "", fmt.Errorf("%.40s cannot be read as a number; in quotes it is a text", s)
	}
	if n.Sign() == 0 {
		sign = ""
	}
	return Number, sign + n.String(), nil
}

// Float is the form in JSON of a text that is a number with a point or an exponent.
func Float(s string) (Kind, string, error) {
	digits := strings.ReplaceAll(s, "_", "")
	var f float64
	var err error
	if strings.Contains(digits, ":") {
		sign := 1.0
		if digits[0] == '-' || digits[0] == '+' {
			if digits[0] == '-' {
				sign = -1
			}
			digits = digits[1:]
		}
		for part := range strings.SplitSeq(digits, ":") {
			d, e := strconv.ParseFloat(part, 64)
			if e != nil {
				err = e
			}
			f = f*60 + d
		}
		f *= sign
	} else {
		f, err = strconv.ParseFloat(digits, 64)
	}
	if err != nil {
		return Text, "", fmt.Errorf("%.40s cannot be read as a number; in quotes it is a text", s)
	}
	form := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(form, ".e") {
		form += ".0" // 2.0 stays a number with a point, which Python sees as a float
	}
	return Number, form, nil
}
