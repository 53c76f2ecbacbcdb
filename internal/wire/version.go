package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// protocolRange sets the protocol versions that a build speaks, as LOWEST-HIGHEST; empty for the real ones. Only the linker
// sets it, so that tests have builds that are one version apart:
//
//	go build -ldflags '-X github.com/helve-serve/helve/internal/wire.protocolRange=1-1'
var protocolRange string //nolint:gochecknoglobals // set by the linker

var localVersions = parseVersions(protocolRange) //nolint:gochecknoglobals // a constant

// parseVersions reads a range of versions.
func parseVersions(set string) versions {
	if set == "" {
		return versions{ProtocolMin, Protocol}
	}
	low, high, _ := strings.Cut(set, "-")
	l, errl := strconv.Atoi(low)
	h, errh := strconv.Atoi(high)
	if errl != nil || errh != nil || l < ProtocolMin || h < l {
		panic(fmt.Sprintf("wire.protocolRange is %q, must be LOWEST-HIGHEST", set))
	}
	return versions{l, h}
}
