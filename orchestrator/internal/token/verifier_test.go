package token_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/token"
)

const audience = "treaty"

var start = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// clock is a clock that is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// issuer issues tokens, and serves its discovery document and its keys.
type issuer struct {
	url string

	mu       sync.Mutex
	names    string // what the document says that it is; empty for url
	keysAt   string // what the document says where the keys are; empty for the right place
	keys     []jose.JSONWebKey
	body     string // instead of the keys
	status   int    // instead of 200
	requests int    // for keys
}

func newIssuer(t *testing.T, keys ...jose.JSONWebKey) *issuer {
	t.Helper()
	i := &issuer{keys: keys}
	server := httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		document := map[string]string{"issuer": i.url, "jwks_uri": i.url + "/keys"}
		if i.names != "" {
			document["issuer"] = i.names
		}
		if i.keysAt != "" {
			document["jwks_uri"] = i.keysAt
		}
		answer = document
	case "/keys":
		i.requests++
		if i.status != 0 {
			w.WriteHeader(i.status)
			return
		}
		if i.body != "" {
			_, _ = w.Write([]byte(i.body))
			return
		}
		answer = publicKeys(i.keys...)
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests
}

func publicKeys(keys ...jose.JSONWebKey) jose.JSONWebKeySet {
	var set jose.JSONWebKeySet
	for _, key := range keys {
		public := key.Public()
		set.Keys = append(set.Keys, public)
	}
	return set
}

func ecKey(t testing.TB, id string) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"}
}

func rsaKey(t testing.TB, id string) jose.JSONWebKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"}
}

// sign returns a token with these claims and headers.
func sign(
	t testing.TB, algorithm jose.SignatureAlgorithm, key any, claims any, headers map[jose.HeaderKey]any,
) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: headers}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// claims returns valid claims of an issuer, with some changed.
func claims(issuer string, changes map[string]any) map[string]any {
	all := map[string]any{
		"iss": issuer, "sub": "ada", "aud": audience, "iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
	}
	for name, value := range changes {
		if value == nil {
			delete(all, name)
		} else {
			all[name] = value
		}
	}
	return all
}

func newVerifier(t testing.TB, now *clock, issuers ...token.Issuer) *token.Verifier {
	t.Helper()
	v, err := token.New(token.Params{
		Issuers: issuers, Audiences: []string{audience}, Now: now.time, Logger: testkit.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestVerify has tokens that prove somebody.
func TestVerify(t *testing.T) {
	ec, rs := ecKey(t, "ec"), rsaKey(t, "rs")
	_, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed := jose.JSONWebKey{Key: edPrivate, KeyID: "ed"}
	i := newIssuer(t, ec, rs, ed)
	v := newVerifier(t, &clock{now: start}, token.Issuer{URL: i.url})
	typed := func(name string) map[jose.HeaderKey]any { return map[jose.HeaderKey]any{jose.HeaderType: name} }
	for name, text := range map[string]string{
		"ES256":          sign(t, jose.ES256, ec, claims(i.url, nil), nil),
		"RS256":          sign(t, jose.RS256, rs, claims(i.url, nil), nil),
		"PS512":          sign(t, jose.PS512, rs, claims(i.url, nil), nil),
		"EdDSA":          sign(t, jose.EdDSA, ed, claims(i.url, nil), nil),
		"no key named":   sign(t, jose.ES256, ec.Key, claims(i.url, nil), nil),
		"JWT":            sign(t, jose.ES256, ec, claims(i.url, nil), typed("JWT")),
		"access token":   sign(t, jose.ES256, ec, claims(i.url, nil), typed("application/at+jwt")),
		"many audiences": sign(t, jose.ES256, ec, claims(i.url, map[string]any{"aud": []string{"a", audience}}), nil),
		"expired within the skew": sign(t, jose.ES256, ec, claims(i.url, map[string]any{
			"exp": start.Add(-token.DefaultSkew).Unix(),
		}), nil),
		"not yet valid within the skew": sign(t, jose.ES256, ec, claims(i.url, map[string]any{
			"nbf": start.Add(token.DefaultSkew).Unix(), "iat": start.Add(token.DefaultSkew).Unix(),
		}), nil),
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second time, the token is known
				got, err := v.Verify(t.Context(), text)
				if err != nil {
					t.Fatal(err)
				}
				if got.Kind != access.JWT || got.Issuer != i.url || got.Name != "ada" || len(got.DNSNames) != 0 {
					t.Errorf("the principal is %+v", got)
				}
			}
		})
	}
	if i.fetched() != 1 {
		t.Errorf("the keys were fetched %d times, want once", i.fetched())
	}
}

// TestVerifyRefuses has tokens that prove nothing, and why. No reason contains the token.
func TestVerifyRefuses(t *testing.T) {
	ec, rs, forged := ecKey(t, "ec"), rsaKey(t, "rs"), ecKey(t, "ec")
	i, other := newIssuer(t, ec, rs), newIssuer(t, forged)
	v := newVerifier(t, &clock{now: start}, token.Issuer{URL: i.url})
	two := newVerifier(t, &clock{now: start}, token.Issuer{URL: i.url}, token.Issuer{URL: other.url})
	der, err := x509.MarshalPKIXPublicKey(&rs.Key.(*rsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	good := sign(t, jose.ES256, ec, claims(i.url, nil), nil)
	part := base64.RawURLEncoding.EncodeToString
	parts := strings.Split(good, ".")
	with := func(changes map[string]any) string { return sign(t, jose.ES256, ec, claims(i.url, changes), nil) }
	seconds := func(d time.Duration) int64 { return start.Add(d).Unix() }
	forgedPublic := forged.Public()
	for _, test := range []struct {
		name, token, want string
		verifier          *token.Verifier
	}{
		{"expired", with(map[string]any{"exp": seconds(-31 * time.Second)}), "has expired at 2026-11-30T11:59:29Z", v},
		{"not yet valid", with(map[string]any{"nbf": seconds(31 * time.Second)}), "isn't valid before", v},
		{"issued in the future", with(map[string]any{"iat": seconds(31 * time.Second)}), "issued in the future", v},
		{"never expires", with(map[string]any{"exp": nil}), "never expires", v},
		{"wrong issuer", with(map[string]any{"iss": "https://evil.example"}), "isn't believed", v},
		{"no issuer", with(map[string]any{"iss": nil}), "isn't believed", v},
		{"another issuer's key", sign(t, jose.ES256, forged, claims(i.url, nil), nil),
			`isn't signed with the key "ec"`, two},
		{"wrong audience", with(map[string]any{"aud": "billing"}), `is for the audience ["billing"]`, v},
		{"no audience", with(map[string]any{"aud": nil}), "is for the audience []", v},
		{"part of the audience", with(map[string]any{"aud": "treaty2"}), "is for the audience", v},
		{"no subject", with(map[string]any{"sub": nil}), "no claim sub", v},
		{"a long subject", with(map[string]any{"sub": strings.Repeat("a", 1025)}), "no claim sub", v},
		{"a number as the subject", with(map[string]any{"sub": 7}), "claims aren't those", v},
		{"none", part([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", `algorithm "none"`, v},
		{"None", part([]byte(`{"alg":"None"}`)) + "." + parts[1] + ".", `algorithm "None"`, v},
		{"HMAC with the public key", sign(t, jose.HS256, publicPEM, claims(i.url, nil),
			map[jose.HeaderKey]any{"kid": "rs"}), `algorithm "HS256"`, v},
		{"RSA with an elliptic key's name", sign(t, jose.RS256, jose.JSONWebKey{Key: rs.Key, KeyID: "ec"},
			claims(i.url, nil), nil), `has no key "ec" for the algorithm RS256`, v},
		{"unknown key", sign(t, jose.ES256, ecKey(t, "new"), claims(i.url, nil), nil), `has no key "new"`, v},
		{"its own key", sign(t, jose.ES256, forged.Key, claims(i.url, nil), map[jose.HeaderKey]any{
			"jwk": &forgedPublic,
		}), "isn't signed with the key", v},
		{"a type for something else", sign(t, jose.ES256, ec, claims(i.url, nil), map[jose.HeaderKey]any{
			jose.HeaderType: "logout+jwt",
		}), `the type "logout+jwt"`, v},
		{"a type that is no text", sign(t, jose.ES256, ec, claims(i.url, nil), map[jose.HeaderKey]any{
			jose.HeaderType: 7,
		}), "the type", v},
		{"critical header", sign(t, jose.ES256, ec, claims(i.url, nil), map[jose.HeaderKey]any{
			"crit": []string{"exp"}, "exp": 1,
		}), "", v},
		{"changed claims", parts[0] + "." +
			part([]byte(`{"iss":"`+i.url+`","sub":"eve","aud":"treaty","exp":4102444800}`)) + "." + parts[2],
			"isn't signed with the key", v},
		{"no signature", parts[0] + "." + parts[1] + ".", "", v},
		{"two parts", parts[0] + "." + parts[1], "isn't a signed JWT", v},
		{"five parts", good + ".a.b", "isn't a signed JWT", v},
		{"JSON serialization", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] +
			`"}`, "isn't a signed JWT", v},
		{"padding", good + "=", "", v},
		{"white space", good + "\n", "", v},
		{"empty", "", "isn't a signed JWT", v},
		{"garbage", "\xff\x00.\xff.\xff", "isn't a signed JWT", v},
		{"huge", with(map[string]any{"x": strings.Repeat("a", token.MaxBytes)}), "bytes, more than 8192", v},
		{"huge garbage", strings.Repeat("a.", 10<<20), "bytes, more than 8192", v},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.verifier.Verify(t.Context(), test.token)
			if err == nil {
				t.Fatalf("it proves %s", got)
			}
			if got.Kind != "" || got.Name != "" {
				t.Errorf("the principal is %+v with the error %v", got, err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("the reason is %q, want %q", err, test.want)
			}
			for piece := range strings.SplitSeq(test.token, ".") {
				if len(piece) > 20 && strings.Contains(err.Error(), piece) {
					t.Errorf("the reason contains the token: %q", err)
				}
			}
		})
	}
}

// TestVerifyAgain verifies a token until it expires. That it was verified before doesn't make it last longer.
func TestVerifyAgain(t *testing.T) {
	key := ecKey(t, "one")
	i, now := newIssuer(t, key), &clock{now: start}
	v := newVerifier(t, now, token.Issuer{URL: i.url})
	text := sign(t, jose.ES256, key, claims(i.url, map[string]any{"exp": start.Add(time.Minute).Unix()}), nil)
	for _, step := range []struct {
		advance time.Duration
		valid   bool
	}{{0, true}, {time.Minute, true}, {29 * time.Second, true}, {2 * time.Second, false}} {
		now.advance(step.advance)
		if _, err := v.Verify(t.Context(), text); (err == nil) != step.valid {
			t.Errorf("at %s: %v", now.time(), err)
		}
	}
}

// TestRotation replaces the keys. Tokens of the new key count at once, and those of the old one don't once the keys
// have been fetched again.
func TestRotation(t *testing.T) {
	before, after := ecKey(t, "before"), ecKey(t, "after")
	i, now := newIssuer(t, before), &clock{now: start}
	v := newVerifier(t, now, token.Issuer{URL: i.url})
	old := sign(t, jose.ES256, before, claims(i.url, nil), nil)
	next := sign(t, jose.ES256, after, claims(i.url, nil), nil)
	verify := func(when, text string, valid bool) {
		t.Helper()
		if _, err := v.Verify(t.Context(), text); (err == nil) != valid {
			t.Fatalf("%s: %v", when, err)
		}
	}
	verify("the old key", old, true)
	i.set(func() { i.keys = []jose.JSONWebKey{before, after} })
	verify("the new key, just after the last fetch", next, false)
	now.advance(10 * time.Second)
	verify("the new key", next, true)
	verify("the old key, beside the new one", old, true)
	i.set(func() { i.keys = []jose.JSONWebKey{after} })
	now.advance(20 * time.Minute)
	verify("the old key, after it was removed", old, false)
	verify("the new key, alone", next, true)
}

// TestFetchesAreLimited sends many tokens with unknown keys.
func TestFetchesAreLimited(t *testing.T) {
	i, now := newIssuer(t, ecKey(t, "one")), &clock{now: start}
	v := newVerifier(t, now, token.Issuer{URL: i.url})
	stranger := ecKey(t, "two")
	text := sign(t, jose.ES256, stranger, claims(i.url, nil), nil)
	for range 30 {
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				if _, err := v.Verify(t.Context(), text); err == nil {
					t.Error("a token with an unknown key is valid")
				}
			})
		}
		calls.Wait()
		now.advance(time.Second)
	}
	if got := i.fetched(); got > 4 {
		t.Errorf("the keys were fetched %d times in 30 s, want at most 4", got)
	}
}

// TestIssuerIsDown has an issuer that doesn't answer. The known keys stay in use for a day.
func TestIssuerIsDown(t *testing.T) {
	key := ecKey(t, "one")
	i, now := newIssuer(t, key), &clock{now: start}
	v := newVerifier(t, now, token.Issuer{URL: i.url})
	text := sign(t, jose.ES256, key, claims(i.url, map[string]any{"exp": start.Add(48 * time.Hour).Unix()}), nil)
	for _, step := range []struct {
		name    string
		status  int
		advance time.Duration
		valid   bool
	}{
		{"down from the beginning", http.StatusServiceUnavailable, 0, false},
		{"up", 0, 10 * time.Second, true},
		{"down", http.StatusServiceUnavailable, 12 * time.Hour, true},
		{"down for a day", http.StatusServiceUnavailable, 12 * time.Hour, false},
		{"up again", 0, 10 * time.Second, true},
	} {
		i.set(func() { i.status = step.status })
		now.advance(step.advance)
		if _, err := v.Verify(t.Context(), text); (err == nil) != step.valid {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

// TestKeysThatAreRefused has issuers whose documents or keys aren't believed.
func TestKeysThatAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key := ecKey(t, "one")
	keysOf := func(key jose.JSONWebKey) string {
		data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	many := strings.TrimSuffix(strings.Repeat(`{"kty":"x"},`, 101), ",")
	for name, test := range map[string]struct {
		change func(*issuer)
		want   string
	}{
		"document of another issuer": {func(i *issuer) { i.names = "https://evil.example" },
			"the document of the issuer"},
		"keys in plaintext": {func(i *issuer) { i.keysAt = "http://evil.example/keys" }, "https://"},
		"keys nowhere":      {func(i *issuer) { i.keysAt = "keys" }, "isn't a URL"},
		"keys in a file":    {func(i *issuer) { i.keysAt = "file:///etc/passwd" }, "isn't a URL"},
		"not found":         {func(i *issuer) { i.status = http.StatusNotFound }, "404"},
		"no JSON":           {func(i *issuer) { i.body = "<html>" }, "isn't a JSON web key set"},
		"no keys":           {func(i *issuer) { i.body = "{}" }, "no public key"},
		"a shared secret": {func(i *issuer) { i.body = `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}` },
			"no public key"},
		"a private key": {func(i *issuer) { i.body = keysOf(key) }, "is a private one"},
		"a short key": {func(i *issuer) { i.keys = []jose.JSONWebKey{{Key: small, KeyID: "one"}} },
			"no public key"},
		"a key for encryption": {func(i *issuer) { i.keys[0].Use = "enc" }, "no public key"},
		"many keys":            {func(i *issuer) { i.body = `{"keys":[` + many + `]}` }, "101 keys"},
		"huge": {func(i *issuer) { i.body = strings.Repeat(" ", 1<<20) + "{}" },
			"more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t, key)
			test.change(i)
			v := newVerifier(t, &clock{now: start}, token.Issuer{URL: i.url})
			_, err := v.Verify(t.Context(), sign(t, jose.ES256, key, claims(i.url, nil), nil))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the reason is %v, want %q", err, test.want)
			}
		})
	}
}

// TestWaitingEnds ends a call that waits for keys.
func TestWaitingEnds(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-answer
	}))
	defer server.Close()
	defer close(answer)
	v := newVerifier(t, &clock{now: start}, token.Issuer{URL: server.URL})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := v.Verify(ctx, sign(t, jose.ES256, ecKey(t, "a"), claims(server.URL, nil), nil))
	if err == nil || !strings.Contains(err.Error(), "waiting for the keys") {
		t.Errorf("got %v", err)
	}
}

// TestKeysInAFile reads keys from a file, and again when it has changed. A broken file changes nothing.
func TestKeysInAFile(t *testing.T) {
	before, after := ecKey(t, "before"), ecKey(t, "after")
	const url = "spiffe-like issuers need no address"
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(keys ...jose.JSONWebKey) {
		t.Helper()
		data, err := json.Marshal(publicKeys(keys...))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(before)
	now := &clock{now: start}
	v := newVerifier(t, now, token.Issuer{URL: url, KeysFile: path})
	old, next := sign(t, jose.ES256, before, claims(url, nil), nil), sign(t, jose.ES256, after, claims(url, nil), nil)
	for _, step := range []struct {
		name              string
		change            func()
		oldValid, newOnes bool
	}{
		{"at first", func() {}, true, false},
		{"both", func() { write(before, after) }, true, true},
		{"half a file", func() { _ = os.WriteFile(path, []byte(`{"keys": [`), 0o600) }, true, true},
		{"no file", func() { _ = os.Remove(path) }, true, true},
		{"the new one", func() { write(after) }, false, true},
	} {
		step.change()
		now.advance(2 * time.Second)
		if _, err := v.Verify(t.Context(), old); (err == nil) != step.oldValid {
			t.Errorf("%s: the old key: %v", step.name, err)
		}
		if _, err := v.Verify(t.Context(), next); (err == nil) != step.newOnes {
			t.Errorf("%s: the new key: %v", step.name, err)
		}
	}
}

// TestNewRefuses has configurations of which nobody could say whose tokens count.
func TestNewRefuses(t *testing.T) {
	one := []token.Issuer{{URL: "https://id.example"}}
	for name, test := range map[string]struct {
		params token.Params
		want   string
	}{
		"no issuer":         {token.Params{Audiences: []string{"a"}}, "no issuer"},
		"no audience":       {token.Params{Issuers: one}, "no audience"},
		"an empty audience": {token.Params{Issuers: one, Audiences: []string{""}}, "no audience"},
		"an issuer twice":   {token.Params{Issuers: append(one, one...), Audiences: []string{"a"}}, "named twice"},
		"plaintext": {token.Params{Issuers: []token.Issuer{{URL: "http://id.example"}}, Audiences: []string{"a"}},
			"doesn't begin with https://"},
		"no URL": {token.Params{Issuers: []token.Issuer{{URL: "id.example"}}, Audiences: []string{"a"}}, "isn't a URL"},
		"keys of nobody": {token.Params{Issuers: []token.Issuer{{KeysFile: "keys.json"}}, Audiences: []string{"a"}},
			"belong to no issuer"},
		"no file": {token.Params{Issuers: []token.Issuer{{URL: "x", KeysFile: "none.json"}}, Audiences: []string{"a"}},
			"none.json"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := token.New(test.params); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// FuzzToken verifies texts. Only the token that the issuer has signed proves somebody.
func FuzzToken(f *testing.F) {
	key := ecKey(f, "one")
	path := filepath.Join(f.TempDir(), "keys.json")
	data, err := json.Marshal(publicKeys(key))
	if err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		f.Fatal(err)
	}
	v, err := token.New(token.Params{
		Issuers: []token.Issuer{{URL: "i", KeysFile: path}}, Audiences: []string{audience},
		Now: func() time.Time { return start },
	})
	if err != nil {
		f.Fatal(err)
	}
	good := sign(f, jose.ES256, key, claims("i", nil), nil)
	if _, err := v.Verify(f.Context(), good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add("..")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + ".")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"one","crit":["b64"]}`)) + ".a.b")
	f.Fuzz(func(t *testing.T, text string) {
		principal, err := v.Verify(t.Context(), text)
		// The signature's last character has bits that mean nothing.
		if same := strings.HasPrefix(text, good[:len(good)-1]); err == nil && !same {
			t.Errorf("%q proves %s", text, principal)
		}
	})
}
