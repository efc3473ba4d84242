package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"

	"github.com/treatyhq/treaty/services/identity/thirdparty"
)

// register is a client of the third party. It may be used concurrently.
type register struct {
	base   *url.URL
	client *http.Client
}

// errWithdrawn is the register's answer to a registration with a withdrawn key.
var errWithdrawn = errors.New("the registration was withdrawn at the register")

// rejectedError is the register's answer to a person whom it doesn't accept.
type rejectedError struct{ reason string }

// Error returns the register's reason.
func (e *rejectedError) Error() string { return "rejected by the register: " + e.reason }

func newRegister(base string) (*register, error) {
	parsed, err := url.Parse(base)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, fmt.Errorf("--register-url %q: want http://host:port or https://host:port", base)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute}
	return &register{base: parsed, client: &http.Client{Transport: otelhttp.NewTransport(transport)}}, nil
}

// put registers a person under a key and returns the register's reference. The same key always gets the same answer. It
// returns errWithdrawn or a *rejectedError if the register has decided. With any other error, the decision is unknown.
func (r *register) put(
	ctx context.Context, key string, application thirdparty.Application,
) (reference string, err error) {
	body, err := json.Marshal(application)
	if err != nil {
		return "", fmt.Errorf("registering: %w", err)
	}
	code, answer, err := r.do(ctx, http.MethodPut, key, body)
	if err != nil {
		return "", fmt.Errorf("registering: %w", err)
	}
	switch code {
	case http.StatusOK:
		var made thirdparty.Registration
		if err := json.Unmarshal(answer, &made); err != nil || made.Reference == "" {
			return "", errors.Join(errors.New("registering: the register's answer has no reference"), err)
		}
		return made.Reference, nil
	case http.StatusUnprocessableEntity:
		var rejection thirdparty.Rejection
		if err := json.Unmarshal(answer, &rejection); err != nil {
			return "", fmt.Errorf("registering: reading the register's rejection: %w", err)
		}
		return "", &rejectedError{rejection.Reason}
	case http.StatusGone:
		return "", errWithdrawn
	}
	return "", fmt.Errorf("registering: the register answered %d", code)
}

// withdraw withdraws a registration permanently, even if it is made later.
func (r *register) withdraw(ctx context.Context, key string) error {
	code, _, err := r.do(ctx, http.MethodDelete, key, nil)
	if err != nil {
		return fmt.Errorf("withdrawing: %w", err)
	}
	if code != http.StatusNoContent {
		return fmt.Errorf("withdrawing: the register answered %d", code)
	}
	return nil
}

func (r *register) do(ctx context.Context, method, key string, body []byte) (code int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, r.base.JoinPath("registrations", key).String(),
		bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer, err = io.ReadAll(io.LimitReader(response.Body, 1<<16))
	return response.StatusCode, answer, err
}
