package admin

import (
	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/jsonbody"
)

// decode reads the body into a value of the type of the route. A body that the schema of the OpenAPI document does not take is answered.
func (a *Server) decode(c *ask, into any) bool {
	err := jsonbody.Decode(c.body, into)
	if err != nil {
		a.failed(c, &helvetype.OperationError{Code: helvetype.CodeInvalidArgument, Message: "the body: " + err.Error(), Next: "/openapi.json has the bodies of all requests"})
	}
	return err == nil
}
