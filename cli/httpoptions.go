package cli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/helve-serve/helve"
)

// httpOptions are the flags of [helve.HTTPOptions].
type httpOptions struct {
	requestTimeout, drainDelay               time.Duration
	rootPath                                 string
	trustForwarded                           []string
	certificate, key, passwordFile, clientCA string
}

// httpOptionFlags are the flags by the fields that they set.
var httpOptionFlags = map[string]string{ //nolint:gochecknoglobals // a constant
	"RequestTimeout": "request-timeout", "DrainDelay": "drain-delay", "RootPath": "http-root-path", "TrustForwarded": "trust-forwarded",
	"TLS.Certificate": "tls-certificate", "TLS.Key": "tls-key", "TLS.KeyPassword": "tls-key-password-file", "TLS.ClientCA": "tls-client-ca",
}

func (o *httpOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.DurationVar(&o.requestTimeout, "request-timeout", 0, "how long an HTTP request may take, with its time in the queue (default no limit)")
	f.DurationVar(&o.drainDelay, "drain-delay", 0, "how long health says no before the node takes no more requests at its end (default 0s)")
	f.StringVar(&o.rootPath, "http-root-path", "", "path in front of every route prefix, such as /serve, for a load balancer that gives the node that part of its paths")
	f.StringSliceVar(&o.trustForwarded, "trust-forwarded", nil, `networks of the proxies whose X-Forwarded headers name the client, such as 10.0.0.0/8, and "unix" for unix sockets`)
	f.StringVar(&o.certificate, "tls-certificate", "", "file of the certificate in PEM, and of those of its issuers: HTTP is with TLS then; a file that changes is read again")
	f.StringVar(&o.key, "tls-key", "", "file of the certificate's private key in PEM")
	f.StringVar(&o.passwordFile, "tls-key-password-file", "", "file of the password of an encrypted key")
	f.StringVar(&o.clientCA, "tls-client-ca", "", "file of the authorities whose certificates clients must have")
}

// options are the options that the flags set. The password is the first line of its file.
func (o *httpOptions) options() (helve.HTTPOptions, error) {
	all := helve.HTTPOptions{
		RequestTimeout: o.requestTimeout, DrainDelay: o.drainDelay, RootPath: o.rootPath, TrustForwarded: o.trustForwarded,
		TLS: helve.TLS{Certificate: o.certificate, Key: o.key, ClientCA: o.clientCA},
	}
	if o.passwordFile != "" {
		b, err := os.ReadFile(o.passwordFile)
		if err != nil {
			return all, fmt.Errorf("--tls-key-password-file: %w", err)
		}
		all.TLS.KeyPassword, _, _ = strings.Cut(string(b), "\n")
		all.TLS.KeyPassword = strings.TrimSuffix(all.TLS.KeyPassword, "\r")
	}
	return all, nil
}

// flagged is an error of an option, with the flag in place of the field; text follows "HTTPOptions: ".
func (o *httpOptions) flagged(text string) error {
	field, rest, _ := strings.Cut(text, ": ")
	return usageError{fmt.Errorf("--%s: %s", httpOptionFlags[field], withFlags(rest))}
}
