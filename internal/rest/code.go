package rest

import (
	"net/http"

	"github.com/helve-serve/helve/helvetype"
)

// CodeOf is the code of an answer by its status: of the checks before a handler, and of an answer without a code, for example that of a proxy in front of the node.
func CodeOf(status int) helvetype.Code {
	switch status {
	case http.StatusBadRequest:
		return helvetype.CodeInvalidArgument
	case http.StatusUnauthorized:
		return helvetype.CodeUnauthenticated
	case http.StatusForbidden:
		return helvetype.CodePermissionDenied
	case http.StatusNotFound:
		return helvetype.CodeNotFound
	case http.StatusConflict:
		return helvetype.CodeAborted
	case http.StatusPreconditionFailed:
		return helvetype.CodeFailedPrecondition
	case http.StatusServiceUnavailable:
		return helvetype.CodeUnavailable
	case http.StatusNotImplemented, http.StatusMethodNotAllowed:
		return helvetype.CodeUnimplemented
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return helvetype.CodeResourceExhausted
	}
	return helvetype.CodeInternal
}

// StatusOf is the HTTP status of a code.
func StatusOf(code helvetype.Code) int {
	switch code {
	case helvetype.CodeInvalidArgument, helvetype.CodeOutOfRange:
		return http.StatusBadRequest
	case helvetype.CodeUnauthenticated:
		return http.StatusUnauthorized
	case helvetype.CodePermissionDenied:
		return http.StatusForbidden
	case helvetype.CodeNotFound:
		return http.StatusNotFound
	case helvetype.CodeAborted, helvetype.CodeAlreadyExists:
		return http.StatusConflict
	case helvetype.CodeFailedPrecondition:
		return http.StatusPreconditionFailed
	case helvetype.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case helvetype.CodeUnimplemented:
		return http.StatusNotImplemented
	case helvetype.CodeUnavailable, helvetype.CodeCanceled:
		return http.StatusServiceUnavailable
	case helvetype.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
