package http_test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/helve-serve/helve"
	"github.com/helve-serve/helve/helvetest"
)

// pythonSubject is testdata/subject.py, an ASGI application.
type pythonSubject interface{ http.Handler }

// startPython starts a node whose ingress is the subject in Python.
func startPython(t *testing.T, slots int) *node {
	t.Helper()
	version := 0
	build := func() (*helve.App, error) {
		app := helve.NewApp("app")
		app.RoutePrefix("/app")
		app.Ingress(helve.HTTP(helve.Python[pythonSubject](app, "Subject", "testdata.subject:Subject", helve.Args{},
			helve.Options{MaxOngoingRequests: &slots, Version: strconv.Itoa(version)})))
		return app, nil
	}
	log := &accessLog{}
	s := helvetest.Start(t, helve.Config{AccessLog: log, HTTPOptions: helve.HTTPOptions{AccessLogFormat: "json"}}, build)
	url, _, err := s.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &node{url: url + "/app", log: log, redeploy: func(t *testing.T) {
		t.Helper()
		version++
		if err := s.Deploy(t.Context(), build); err != nil {
			t.Error(err)
		}
	}}
}
