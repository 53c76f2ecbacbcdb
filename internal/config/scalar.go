package config

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Texts without quotes are numbers, booleans or null by the rules of YAML 1.1, which PyYAML and therefore Ray Serve have: yes and off are booleans,
// 010 is 8, 1_000 is 1000, 1:30 is 90, and 1e3 is a text, because it has no point.
//
//nolint:gochecknoglobals // constants
var (
	isBool    = regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	isTrue    = regexp.MustCompile(`^(?i:yes|true|on)$`)
	isNull    = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	isInt     = regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	isFloat   = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*)$`)
	isSpecial = regexp.MustCompile(`^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
)

// plain reads a text without quotes.
func plain(s string) (k kind, form string, err error) {
	switch {
	case isNull.MatchString(s):
		return null, "", nil
	case isBool.MatchString(s):
		return boolean, strconv.FormatBool(isTrue.MatchString(s)), nil
	case isInt.MatchString(s):
		return integerForm(s)
	case isFloat.MatchString(s):
		return floatForm(s)
	case isSpecial.MatchString(s):
		return text, "", fmt.Errorf("%s is no number that JSON has", s)
	}
	return text, s, nil
}

// longestNumber is the most digits of a number.
const longestNumber = 400

func integerForm(s string) (kind, string, error) {
	digits := strings.ReplaceAll(s, "_", "")
	if len(digits) > longestNumber {
		return text, "", fmt.Errorf("a number may have at most %d digits; in quotes it is a text", longestNumber)
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
		return text, "", fmt.Errorf("%.40s cannot be read as a number; in quotes it is a text", s)
	}
	if n.Sign() == 0 {
		sign = ""
	}
	return number, sign + n.String(), nil
}

func floatForm(s string) (kind, string, error) {
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
		return text, "", fmt.Errorf("%.40s cannot be read as a number; in quotes it is a text", s)
	}
	form := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(form, ".e") {
		form += ".0" // 2.0 stays a number with a point, which Python sees as a float
	}
	return number, form, nil
}
