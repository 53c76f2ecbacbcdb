package cli

import (
	"net/http"
	"os"
	"strings"

	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/metrics"
)

const (
	adminPrivate = "private"
	adminNone    = "none" // of --http, too: an empty variable counts as none given
	adminUsage   = `admin interface: "private" for a socket that only this user's commands find, "none", or a loopback address such as 127.0.0.1:8265 beside it`
)

// adminOf is the value of helve.Config.Admin for that of the flag.
func adminOf(flag string) string {
	if flag == adminNone {
		return ""
	}
	return flag
}

// checkAdmin gives an error for a value of the flag that is none of its words and no address that the admin interface listens on.
func checkAdmin(flag string) error {
	if flag == adminNone || flag == adminPrivate || flag == "" {
		return nil
	}
	return admin.CheckAddress(flag)
}

// nodeMetrics is the handler of GET /metrics.
func nodeMetrics(n admin.Node) http.Handler { return metrics.Handler(n) }

func programName() string {
	name := os.Args[0]
	return name[strings.LastIndexByte(name, '/')+1:]
}
