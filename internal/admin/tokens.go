package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/helve-serve/helve/helvetype"
	"github.com/helve-serve/helve/internal/rest"
	"github.com/helve-serve/helve/internal/token"
)

// tokens are the tokens of the node. A node without them answers, and is nil.
func (a *Server) tokens(c *ask) *token.Tokens {
	if a.set.Tokens == nil {
		a.failed(c, &helvetype.OperationError{Code: helvetype.CodeUnimplemented, Message: "this node has no tokens: only processes of its user reach it", Next: "start it with an address of TCP: --admin 127.0.0.1:8265"})
	}
	return a.set.Tokens
}

func (a *Server) listTokens(c *ask) {
	if t := a.tokens(c); t != nil {
		list, err := t.List()
		if err != nil {
			a.failed(c, err)
			return
		}
		answer(c.w, http.StatusOK, rest.TokenList{Tokens: list})
	}
}

func (a *Server) addToken(c *ask) {
	var body tokenBody
	t := a.tokens(c)
	if t == nil || !a.decode(c, &body) || !a.present(c, "token "+body.Name) {
		return
	}
	text, err := t.Add(body.Name, body.Role)
	a.tokenChange(c, body.Name, string(body.Role), err, rest.NewToken{Name: body.Name, Role: body.Role, Token: text})
}

func (a *Server) removeToken(c *ask) {
	if t := a.tokens(c); t != nil {
		name := c.path("name")
		if !a.present(c, "token "+name) {
			return
		}
		a.tokenChange(c, name, "", t.Remove(name), rest.Done{Message: "The token " + name + " is removed."})
	}
}

// present says whether the generation of the header If-Match is the present one; else the request is answered. Tokens are no part of the generation, so no change
// of them comes between.
func (a *Server) present(c *ask, object string) bool {
	if c.by.Seen == 0 || c.by.Seen == a.set.Operator.Generation() {
		return true
	}
	err := &helvetype.OperationError{
		Code: helvetype.CodeFailedPrecondition, Message: fmt.Sprintf("the generation is %d by now, and the change was made for generation %d", a.set.Operator.Generation(), c.by.Seen),
		Next: "read the state again, and repeat the change if it is still right",
	}
	a.note(c, object, "", err)
	a.failed(c, err)
	return false
}

func (a *Server) tokenChange(c *ask, name, detail string, err error, done any) {
	for mistake, code := range map[error]helvetype.Code{
		token.ErrName: helvetype.CodeInvalidArgument, token.ErrRole: helvetype.CodeInvalidArgument, token.ErrExists: helvetype.CodeAlreadyExists,
		token.ErrMissing: helvetype.CodeNotFound, token.ErrMany: helvetype.CodeResourceExhausted,
	} {
		if errors.Is(err, mistake) {
			err = &helvetype.OperationError{Code: code, Message: err.Error(), Next: "helve token list shows the tokens"}
		}
	}
	a.note(c, "token "+name, detail, err)
	if err != nil {
		a.failed(c, err)
		return
	}
	answer(c.w, http.StatusOK, done)
}
