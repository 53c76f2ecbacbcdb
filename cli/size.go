package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// arena is a size that may be -1, for none.
type arena int64

func (a *arena) String() string {
	if *a == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*a), 10)
}

func (*arena) Type() string { return "size" }

func (a *arena) Set(text string) error {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n <= 0 {
		*a = arena(n) // 0 is the default, as in Config
		return nil
	}
	var s size
	if err := s.Set(text); err != nil {
		return fmt.Errorf("%w; -1 is none", err)
	}
	*a = arena(s)
	return nil
}

// size is a flag in bytes, with KiB, MiB or GiB behind it if one likes.
type size int

func (s *size) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.Itoa(int(*s))
}

func (*size) Type() string { return "size" }

func (s *size) Set(text string) error {
	number, unit := text, 1
	for suffix, u := range map[string]int{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = rest, u
		}
	}
	n, err := strconv.Atoi(number)
	if err != nil || n <= 0 || n > math.MaxInt/unit {
		return fmt.Errorf("must be a number of bytes, or one with KiB, MiB or GiB, is %q", text)
	}
	*s = size(n * unit)
	return nil
}

// count is a flag that is a number above 0; without the flag it is 0, for the default.
type count int

func (n *count) String() string {
	if *n == 0 {
		return ""
	}
	return strconv.Itoa(int(*n))
}

func (*count) Type() string { return "int" }

func (n *count) Set(text string) error {
	v, err := strconv.Atoi(text)
	if err != nil || v <= 0 {
		return fmt.Errorf("must be a number above 0, is %q", text)
	}
	*n = count(v)
	return nil
}

// wait is a flag that is a time above 0; without the flag it is 0, for the default.
type wait time.Duration

func (w *wait) String() string {
	if *w == 0 {
		return ""
	}
	return time.Duration(*w).String()
}

func (*wait) Type() string { return "duration" }

func (w *wait) Set(text string) error {
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 {
		return fmt.Errorf("must be a time above 0 such as 90s or 2m, is %q", text)
	}
	*w = wait(v)
	return nil
}
