package plugin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/causeway-gateway/causeway/rpcadapters/rpc"
)

// The headers that tell a service who calls. No caller can send them: they end at the edge in every spelling.
const (
	ConsumerHeader = "x-consumer-name"
	GroupsHeader   = "x-consumer-groups"
)

// The reasons of refusals for want of credentials.
const (
	ReasonMissing = "CREDENTIALS_MISSING"
	ReasonInvalid = "CREDENTIALS_INVALID"
)

// Missing is the error of a call that shows no credentials of a plugin's kind. challenge is what WWW-Authenticate says
// (RFC 9110 section 11.6.1).
func Missing(challenge string) *rpc.Error {
	return unauthenticated(ReasonMissing, "credentials are missing", challenge)
}

// Invalid is the error of a call whose credentials do not hold. It does not say why: that is in cause, for logs.
func Invalid(challenge string, cause error) *rpc.Error {
	return unauthenticated(ReasonInvalid, "the credentials are not valid", challenge).WithCause(cause)
}

func unauthenticated(reason, message, challenge string) *rpc.Error {
	e := rpc.Refuse(codes.Unauthenticated, reason, "%s", message)
	if challenge != "" {
		e.Header.Add("www-authenticate", challenge)
	}
	return e
}

// Authenticated is the handler of an Authenticator: what it does not accept does not reach next. Who calls is told to the
// service in ConsumerHeader and GroupsHeader.
func Authenticated(a Authenticator, next rpc.Handler) rpc.Handler { return &authenticated{a, next} }

type authenticated struct {
	by   Authenticator
	next rpc.Handler
}

// Handle implements rpc.Handler.
func (h *authenticated) Handle(ctx context.Context, c *rpc.Call) error {
	if err := h.by.Authenticate(ctx, c); err != nil {
		return err
	}
	if u := c.Consumer; u != nil {
		c.Header.Set(ConsumerHeader, u.Name)
		if u.GroupList != "" {
			c.Header.Set(GroupsHeader, u.GroupList)
		} else {
			c.Header.Del(GroupsHeader) // of whom an outer plugin found
		}
	}
	return h.next.Handle(ctx, c)
}

// AnyOf accepts what one of several accepts; they are asked in order. What the call shows for the others is taken out of it:
// see Discarder.
func AnyOf(members ...Authenticator) Authenticator { return anyOf(members) }

type anyOf []Authenticator

// Wrap implements Plugin.
func (a anyOf) Wrap(next rpc.Handler) rpc.Handler { return Authenticated(a, next) }

// Authenticate implements Authenticator. Where none accepts, the error is the first that is about credentials which the call
// does show; where it shows none, all challenges.
func (a anyOf) Authenticate(ctx context.Context, c *rpc.Call) error {
	var shown error
	var challenges rpc.Metadata
	for i, m := range a {
		err := m.Authenticate(ctx, c)
		if err == nil {
			for j, other := range a {
				if d, ok := other.(Discarder); ok && j != i {
					d.Discard(c)
				}
			}
			return nil
		}
		if e, ok := errors.AsType[*rpc.Error](err); ok && e.Reason == ReasonMissing {
			challenges = append(challenges, e.Header...)
		} else if shown == nil {
			shown = err
		}
	}
	if shown != nil {
		return shown
	}
	e := Missing("")
	e.Header = challenges
	return e
}
