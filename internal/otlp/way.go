package otlp

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Way is how requests go to a receiver. The zero Way sends plain JSON, for 10 s at most, and trusts the authorities of the system.
type Way struct {
	Compressed  bool          // by gzip
	Timeout     time.Duration // of one request; 0 for 10 s
	Authorities string        // a file in PEM with the authorities that the certificate of a receiver may be from; "" for those of the system
	Certificate string        // a file in PEM with the certificate of this client; "" for none
	Key         string        // the file in PEM with its private key
}

// way reads the variables about the way: each is there with TRACES_ in front of its last part too, and that one is over it.
func way(of map[string]string, warn func(name, text string)) (w Way) {
	read := func(last string) (name, v string) {
		name = "OTEL_EXPORTER_OTLP_TRACES_" + last
		if of[name] == "" {
			name = "OTEL_EXPORTER_OTLP_" + last
		}
		return name, of[name]
	}
	switch name, v := read("COMPRESSION"); v {
	case "", "none":
	case "gzip":
		w.Compressed = true
	default:
		warn(name, "must be gzip or none, is "+strconv.Quote(v))
	}
	if name, v := read("TIMEOUT"); v != "" {
		const day = 24 * time.Hour
		ms, err := strconv.ParseInt(v, 10, 64)
		if err != nil || ms <= 0 || ms > day.Milliseconds() {
			warn(name, "must be a number of milliseconds, 1 or more, is "+strconv.Quote(v))
		} else {
			w.Timeout = time.Duration(ms) * time.Millisecond
		}
	}
	if name, v := read("CERTIFICATE"); v != "" {
		if _, err := authorities(v); err != nil {
			warn(name, err.Error())
		} else {
			w.Authorities = v
		}
	}
	name, certificate := read("CLIENT_CERTIFICATE")
	keyName, key := read("CLIENT_KEY")
	switch {
	case certificate == "" && key == "":
	case certificate == "":
		warn(keyName, "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")
	case key == "":
		warn(name, "needs OTEL_EXPORTER_OTLP_CLIENT_KEY")
	default:
		if _, err := tls.LoadX509KeyPair(certificate, key); err != nil {
			warn(name, err.Error())
		} else {
			w.Certificate, w.Key = certificate, key
		}
	}
	return w
}

func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

// transport makes the transport of an exporter. The certificate of the client is read for each connection, so that a file that changes is used from then on.
func (w Way) transport() *http.Transport {
	own := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // a program that changes it has its own reasons
	own.MaxIdleConnsPerHost = 1
	if w.Authorities == "" && w.Certificate == "" {
		return own
	}
	own.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if w.Authorities != "" {
		pool, err := authorities(w.Authorities)
		if err != nil {
			pool = x509.NewCertPool() // the file was there a moment ago: no receiver is trusted in place of all
		}
		own.TLSClientConfig.RootCAs = pool
	}
	if w.Certificate != "" {
		own.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(w.Certificate, w.Key)
			return &c, err
		}
	}
	return own
}

// timeout is the time of one request.
func (w Way) timeout() time.Duration { return cmp.Or(w.Timeout, sendTime) }

// packed is a body as it goes to the receiver.
func (w Way) packed(body []byte) ([]byte, error) {
	if !w.Compressed {
		return body, nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(body)
	err = errors.Join(err, z.Close())
	return b.Bytes(), err
}
