package token

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/treatyhq/treaty/orchestrator/access"
)

const (
	// MaxBytes is how long a token may be. A longer one isn't read.
	MaxBytes = 8 << 10

	// DefaultSkew is how much the clocks of the issuer and of this machine may differ.
	DefaultSkew = 30 * time.Second

	// maxNameBytes is how long the subject of a token may be.
	maxNameBytes = 1 << 10

	// maxVerified is how many tokens are remembered as verified.
	maxVerified = 4096
)

// algorithms are those that a token may be signed with. All of them have a public key.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512,
	jose.EdDSA,
}

// Issuer is whose tokens are believed.
type Issuer struct {
	// URL is the claim iss of the issuer's tokens. Unless KeysFile is set, it is also where its discovery document is:
	// it begins with https:// then, or with http:// and a loopback address.
	URL string

	// KeysFile is a file with the issuer's keys, a JSON web key set. It is read again when it changes. Default: the
	// keys are found by discovery.
	KeysFile string
}

// Params configure a Verifier.
type Params struct {
	// Issuers are whose tokens are believed. At least one.
	Issuers []Issuer

	// Audiences are for whom tokens may be made: each token has one of them in its claim aud. At least one.
	Audiences []string

	// Skew is how much the clocks may differ. Default DefaultSkew.
	Skew time.Duration

	// Client gets discovery documents and keys. Default: one with a time limit.
	Client *http.Client

	// Logger is told when keys can't be had. Default: slog.Default().
	Logger *slog.Logger

	// Now returns the time. Default: time.Now.
	Now func() time.Time
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	issuers   map[string]*keys
	audiences []string
	skew      time.Duration
	now       func() time.Time

	mu       sync.Mutex
	verified map[[sha256.Size]byte]verified
}

// verified is a token that was found valid.
type verified struct {
	principal access.Principal
	issuer    *keys
	set       *keySet // with which it was verified
	until     time.Time
}

// New returns a verifier. It reads the files with keys, and asks no issuer yet.
func New(params Params) (*Verifier, error) {
	if len(params.Issuers) == 0 {
		return nil, errors.New("tokens: no issuer whose tokens are believed: name one")
	}
	if len(params.Audiences) == 0 || slices.Contains(params.Audiences, "") {
		return nil, errors.New("tokens: no audience: name the one that tokens for this orchestrator have, since a " +
			"token for another service would count otherwise")
	}
	params.Client = cmp.Or(params.Client, defaultClient())
	params.Logger = cmp.Or(params.Logger, slog.Default())
	if params.Now == nil {
		params.Now = time.Now
	}
	v := &Verifier{
		issuers: make(map[string]*keys), audiences: params.Audiences, skew: cmp.Or(params.Skew, DefaultSkew),
		now: params.Now, verified: make(map[[sha256.Size]byte]verified),
	}
	var errs []error
	for _, issuer := range params.Issuers {
		if v.issuers[issuer.URL] != nil {
			errs = append(errs, fmt.Errorf("tokens: the issuer %q is named twice: name it once", issuer.URL))
			continue
		}
		k, err := newKeys(issuer, &params)
		errs = append(errs, err)
		v.issuers[issuer.URL] = k
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return v, nil
}

// Verify implements access.TokenVerifier. A principal has the issuer's URL and the claim sub. The error never contains
// the token.
func (v *Verifier) Verify(ctx context.Context, token string) (access.Principal, error) {
	if len(token) > MaxBytes {
		return access.Principal{}, fmt.Errorf("the token has %d bytes, more than %d", len(token), MaxBytes)
	}
	digest := sha256.Sum256([]byte(token))
	if principal, ok := v.known(ctx, digest); ok {
		return principal, nil
	}
	if strings.ContainsFunc(token, isForeign) {
		return access.Principal{}, errNoJWT
	}
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return access.Principal{}, parseError(err)
	}
	header := parsed.Headers[0]
	if err := checkType(header); err != nil {
		return access.Principal{}, err
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return access.Principal{}, errors.New("the token's claims aren't those of a JWT")
	}
	issuer := v.issuers[claims.Issuer]
	if issuer == nil {
		return access.Principal{}, fmt.Errorf("the token is of the issuer %.200q, which isn't believed", claims.Issuer)
	}
	key, set, err := issuer.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return access.Principal{}, err
	}
	claims = jwt.Claims{}
	if err := parsed.Claims(key.Key, &claims); err != nil {
		return access.Principal{}, fmt.Errorf("the token isn't signed with the key %.100q of %s", header.KeyID,
			issuer.url)
	}
	if err := v.check(&claims, issuer.url); err != nil {
		return access.Principal{}, err
	}
	principal := access.Principal{Kind: access.JWT, Issuer: issuer.url, Name: claims.Subject}
	v.remember(digest, verified{principal, issuer, set, claims.Expiry.Time().Add(v.skew)})
	return principal, nil
}

// check returns what is wrong with the claims of a token whose signature is good.
func (v *Verifier) check(claims *jwt.Claims, issuer string) error {
	who := fmt.Sprintf("the token of %.200q from %s", claims.Subject, issuer)
	switch err := claims.ValidateWithLeeway(jwt.Expected{
		Issuer: issuer, AnyAudience: v.audiences, Time: v.now(),
	}, v.skew); {
	case errors.Is(err, jwt.ErrInvalidAudience):
		return fmt.Errorf("%s is for the audience %.200q, not for %q", who, claims.Audience, v.audiences)
	case errors.Is(err, jwt.ErrExpired):
		return fmt.Errorf("%s has expired at %s", who, claims.Expiry.Time().UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrNotValidYet):
		return fmt.Errorf("%s isn't valid before %s", who, claims.NotBefore.Time().UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrIssuedInTheFuture):
		return fmt.Errorf("%s was issued in the future, at %s", who, claims.IssuedAt.Time().UTC().Format(time.RFC3339))
	case err != nil:
		return fmt.Errorf("%s isn't valid: %w", who, err)
	case claims.Expiry == nil:
		return fmt.Errorf("%s never expires: it needs the claim exp", who)
	case claims.Subject == "" || len(claims.Subject) > maxNameBytes:
		return fmt.Errorf("the token from %s has no claim sub of 1 to %d bytes", issuer, maxNameBytes)
	}
	return nil
}

// known returns the principal of a token that was verified before, if it is still valid and the issuer still has the
// same keys.
func (v *Verifier) known(ctx context.Context, digest [sha256.Size]byte) (access.Principal, bool) {
	v.mu.Lock()
	before, ok := v.verified[digest]
	v.mu.Unlock()
	if !ok || !v.now().Before(before.until) || before.issuer.current(ctx) != before.set {
		return access.Principal{}, false
	}
	return before.principal, true
}

func (v *Verifier) remember(digest [sha256.Size]byte, token verified) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.verified) >= maxVerified {
		clear(v.verified)
	}
	v.verified[digest] = token
}

// parseError says why a token can't be read, without what it says.
func parseError(err error) error {
	if unexpected, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
		return fmt.Errorf("the token is signed with the algorithm %.20q: want one with a public key, such as RS256 or "+
			"ES256", unexpected.Got)
	}
	return errNoJWT
}

var errNoJWT = errors.New("the token isn't a signed JWT")

// isForeign returns whether a compact token has no such character. The decoder would leave out line breaks.
func isForeign(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}

// checkType refuses tokens that are made for something else, such as a logout.
func checkType(header jose.Header) error {
	kind, isText := header.ExtraHeaders[jose.HeaderType].(string)
	_, present := header.ExtraHeaders[jose.HeaderType]
	if !present {
		return nil
	}
	switch name := strings.TrimPrefix(strings.ToLower(kind), "application/"); {
	case isText && (name == "jwt" || name == "at+jwt"):
		return nil
	default:
		return fmt.Errorf("the token has the type %.50q: want JWT or at+jwt", kind)
	}
}

// checkURL returns an error if keys must not be got from an address.
func checkURL(text string) error {
	parsed, err := url.Parse(text)
	switch {
	case err != nil || parsed.Host == "" || parsed.User != nil || parsed.Fragment != "":
		return fmt.Errorf("%.200q isn't a URL: want https://HOST/PATH", text)
	case parsed.Scheme == "https", parsed.Scheme == "http" && isLoopback(parsed.Hostname()):
		return nil
	}
	return fmt.Errorf("%.200q doesn't begin with https://, so anybody on the way could replace the keys", text)
}
