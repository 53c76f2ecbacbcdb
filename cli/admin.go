package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve/internal/admin"
	"github.com/helve-serve/helve/internal/dashboard"
	"github.com/helve-serve/helve/internal/listen"
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

// adminDefault is the address of the admin interface of a service, if it is free.
const adminDefault = "127.0.0.1:8265"

// adminTLS are the flags of the certificate of the admin interface.
type adminTLS struct{ certificate, key string }

// flags adds the two flags to a command: to `start`, whose keeper has the listener, and to its node.
func (a *adminTLS) flags(c *cobra.Command) {
	c.Flags().StringVar(&a.certificate, "admin-cert", "", "file of the certificate of the admin interface in PEM, with which it listens on any address; a file that changes is read again")
	c.Flags().StringVar(&a.key, "admin-key", "", "file of the private key of --admin-cert in PEM")
}

func (a *adminTLS) files() listen.Files { return listen.Files{Certificate: a.certificate, Key: a.key} }

// load reads the files; nil without.
func (a *adminTLS) load(log *slog.Logger) (*listen.Certificate, error) {
	if a.files() == (listen.Files{}) {
		return nil, nil //nolint:nilnil // no certificate
	}
	c, err := listen.NewCertificate(a.files(), log)
	if err != nil {
		return nil, usageError{errors.New(strings.NewReplacer("Certificate: ", "--admin-cert: ", "Key: ", "--admin-key: ").Replace(err.Error()))}
	}
	return c, nil
}

// checkAdmin gives an error for a value of the flag that is none of its words and no address that the admin interface listens on.
func checkAdmin(flag string, certificate bool) error {
	if flag == adminNone || flag == adminPrivate || flag == "" {
		return nil
	}
	return admin.CheckAddress(flag, certificate)
}

// sayDashboard prints the address of the dashboard of a node whose admin interface browsers reach; url is "" for another node.
func sayDashboard(w io.Writer, url string) {
	if url != "" {
		fmt.Fprintf(w, "the dashboard is on %s\n", dashboard.Reachable(url)+dashboard.Root)
	}
}

// nodeMetrics is the handler of GET /metrics.
func nodeMetrics(n admin.Node) http.Handler { return metrics.Handler(n) }

func programName() string {
	name := os.Args[0]
	return name[strings.LastIndexByte(name, '/')+1:]
}
