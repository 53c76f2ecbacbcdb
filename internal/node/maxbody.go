package node

import (
	"fmt"
	"math"
)

// minBody leaves room for frames that are not calls.
const minBody = 1 << 20

// CheckMaxBody says what is wrong with a limit; 0 is the default.
func CheckMaxBody(n int) error {
	if n != 0 && n < minBody || n > math.MaxUint32 {
		return fmt.Errorf("must be %d (1 MiB) to %d (4 GiB less one) bytes, is %d", minBody, math.MaxUint32, n)
	}
	return nil
}
