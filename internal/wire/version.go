package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// protocols narrows or moves the versions that a build speaks, LOWEST-HIGHEST. Only the linker sets it, so that tests have
// builds one version apart:
//
//	go build -ldflags '-X github.com/helve-serve/helve/internal/wire.protocols=1-1'
var protocolRange string //nolint:gochecknoglobals // the linker's

var localVersions = parseVersions(protocolRange) //nolint:gochecknoglobals // a constant

func parseVersions(set string) versions {
	if set == "" {
		return versions{ProtocolMin, Protocol}
	}
	low, high, _ := strings.Cut(set, "-")
	l, errl := strconv.Atoi(low)
	h, errh := strconv.Atoi(high)
	if errl != nil || errh != nil || l < ProtocolMin || h < l {
		panic(fmt.Sprintf("wire.protocols is %q, must be LOWEST-HIGHEST", set))
	}
	return versions{l, h}
}
