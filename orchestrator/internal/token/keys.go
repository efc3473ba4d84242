package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// fetchTimeout is how long getting keys may take.
	fetchTimeout = 5 * time.Second

	// refreshAfter is how old the keys of an issuer become before they are fetched again, and maxAge how old if that
	// fails.
	refreshAfter = 10 * time.Minute
	maxAge       = 24 * time.Hour

	// fetchInterval is the least time between two fetches, however many tokens name an unknown key.
	fetchInterval = 10 * time.Second

	// fileInterval is how often a file with keys is read, at most.
	fileInterval = time.Second

	// maxDocument is how large a discovery document or a key set may be, in bytes, and maxKeys how many keys one has.
	maxDocument = 1 << 20
	maxKeys     = 100

	// minRSABits is how long an RSA key has to be.
	minRSABits = 2048
)

// keys are the keys of one issuer.
type keys struct {
	url      string
	fetch    func(ctx context.Context) ([]jose.JSONWebKey, error)
	after    time.Duration // the keys are fetched again when they are older
	interval time.Duration // between two fetches
	maxAge   time.Duration // 0 means forever
	log      *slog.Logger
	now      func() time.Time

	mu       sync.Mutex
	set      *keySet
	fetched  time.Time     // when set was known to be right
	tried    time.Time     // when the last fetch began
	err      error         // of the last fetch
	fetching chan struct{} // closed when the fetch in flight has ended; nil if there is none
}

// keySet is one version of an issuer's keys.
type keySet struct{ keys []jose.JSONWebKey }

func newKeys(issuer Issuer, params *Params) (*keys, error) {
	k := &keys{
		url: issuer.URL, after: refreshAfter, interval: fetchInterval, maxAge: maxAge,
		log: params.Logger, now: params.Now,
	}
	if issuer.KeysFile == "" {
		if err := checkURL(issuer.URL); err != nil {
			return nil, fmt.Errorf("tokens: the issuer: %w", err)
		}
		k.fetch = func(ctx context.Context) ([]jose.JSONWebKey, error) {
			return discover(ctx, params.Client, issuer.URL)
		}
		return k, nil
	}
	if issuer.URL == "" {
		return nil, fmt.Errorf("tokens: the keys in %s belong to no issuer: name it", issuer.KeysFile)
	}
	k.after, k.interval, k.maxAge = fileInterval, fileInterval, 0
	k.fetch = func(context.Context) ([]jose.JSONWebKey, error) { return readKeys(issuer.KeysFile) }
	first, err := readKeys(issuer.KeysFile)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	k.set, k.fetched, k.tried = &keySet{first}, k.now(), k.now()
	return k, nil
}

// find returns the key with which a token must be signed, and the set that has it. If the set isn't known or doesn't
// have it, the keys are fetched, unless that was tried just now.
func (k *keys) find(ctx context.Context, id, algorithm string) (*jose.JSONWebKey, *keySet, error) {
	set := k.current(ctx)
	if set != nil {
		if key := set.find(id, algorithm); key != nil {
			return key, set, nil
		}
	}
	if err := k.refresh(ctx); err != nil {
		return nil, nil, err
	}
	k.mu.Lock()
	set, err := k.set, k.err
	k.mu.Unlock()
	if set == nil {
		return nil, nil, fmt.Errorf("the keys of %s can't be had: %w", k.url, err)
	}
	if key := set.find(id, algorithm); key != nil {
		return key, set, nil
	}
	return nil, nil, fmt.Errorf("%s has no key %.100q for the algorithm %s", k.url, id, algorithm)
}

// current returns the keys in use, or nil if they aren't known. Those that are old are fetched again meanwhile. It
// waits for that if they are very old.
func (k *keys) current(ctx context.Context) *keySet {
	k.mu.Lock()
	set, age := k.set, k.now().Sub(k.fetched)
	k.mu.Unlock()
	if set == nil || age < k.after {
		return set
	}
	if ended := k.begin(); ended != nil && age >= 2*k.after {
		select {
		case <-ended:
		case <-ctx.Done():
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.maxAge > 0 && k.now().Sub(k.fetched) >= k.maxAge {
		k.set = nil
	}
	return k.set
}

// refresh fetches the keys, and waits for it. It does nothing if that was tried just now. The error is that of ctx.
func (k *keys) refresh(ctx context.Context) error {
	ended := k.begin()
	if ended == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the keys of %s: %w", k.url, context.Cause(ctx))
	}
}

// begin begins to fetch the keys. It returns a channel that is closed afterwards, or nil if it was tried just now.
func (k *keys) begin() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fetching != nil {
		return k.fetching
	}
	if !k.tried.IsZero() && k.now().Sub(k.tried) < k.interval {
		return nil
	}
	k.tried = k.now()
	ended := make(chan struct{})
	k.fetching = ended
	go func() {
		defer close(ended)
		// No caller's context: others wait for the same keys.
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		found, err := k.fetch(ctx)
		k.fetchEnded(found, err)
	}()
	return ended
}

func (k *keys) fetchEnded(found []jose.JSONWebKey, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fetching = nil
	if err != nil {
		if k.err == nil || k.err.Error() != err.Error() {
			k.log.Warn("the keys of an issuer of tokens can't be had; those that are known stay in use",
				"issuer", k.url, "error", err)
		}
		k.err = err
		return
	}
	k.err, k.fetched = nil, k.now()
	if next := (&keySet{found}); k.set == nil || !k.set.equal(next) {
		k.set = next
		k.log.Info("the keys of an issuer of tokens", "issuer", k.url, "keys", len(found))
	}
}

// find returns the key with an id that fits an algorithm. A token that names no key fits if there is only one key.
func (s *keySet) find(id, algorithm string) *jose.JSONWebKey {
	var found *jose.JSONWebKey
	for i := range s.keys {
		key := &s.keys[i]
		if (id != "" && key.KeyID != id) || !fits(key, algorithm) {
			continue
		}
		if found != nil {
			return nil // it isn't clear which of them
		}
		found = key
	}
	return found
}

// equal returns whether two sets have the same keys in the same order.
func (s *keySet) equal(other *keySet) bool {
	a, errA := json.Marshal(jose.JSONWebKeySet{Keys: s.keys})
	b, errB := json.Marshal(jose.JSONWebKeySet{Keys: other.keys})
	return errA == nil && errB == nil && string(a) == string(b)
}

// fits returns whether a key can verify the signatures of an algorithm, and may.
func fits(key *jose.JSONWebKey, algorithm string) bool {
	if key.Algorithm != "" && key.Algorithm != algorithm {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(algorithm, "RS") || strings.HasPrefix(algorithm, "PS")
	case *ecdsa.PublicKey:
		return algorithm == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[public.Params().BitSize]
	case ed25519.PublicKey:
		return algorithm == string(jose.EdDSA)
	}
	return false
}

// discover gets the keys of an issuer by OpenID Connect discovery.
func discover(ctx context.Context, client *http.Client, issuer string) ([]jose.JSONWebKey, error) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	at := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	data, err := get(ctx, client, at)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("%s isn't a discovery document: it isn't JSON", at)
	}
	if document.Issuer != issuer {
		return nil, fmt.Errorf("%s is the document of the issuer %.200q: want %q, exactly", at, document.Issuer, issuer)
	}
	if err := checkURL(document.Keys); err != nil {
		return nil, fmt.Errorf("%s: jwks_uri: %w", at, err)
	}
	if data, err = get(ctx, client, document.Keys); err != nil {
		return nil, err
	}
	found, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", document.Keys, err)
	}
	return found, nil
}

func get(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", address, err)
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err) // it names the address
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("reading %s: the answer is %s", address, response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", address, err)
	case len(data) > maxDocument:
		return nil, fmt.Errorf("reading %s: it has more than %d bytes", address, maxDocument)
	}
	return data, nil
}

// readKeys reads a file with a key set.
func readKeys(path string) ([]jose.JSONWebKey, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	found, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("reading the keys in %s: %w", path, err)
	}
	return found, nil
}

// parseKeys reads a JSON web key set. Keys of kinds that it doesn't know, for encryption, or with a shared secret are
// left out.
func parseKeys(data []byte) ([]jose.JSONWebKey, error) {
	if len(data) > maxDocument {
		return nil, fmt.Errorf("the key set has more than %d bytes", maxDocument)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("this isn't a JSON web key set: want {\"keys\": [...]}")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys, more than %d", len(set.Keys), maxKeys)
	}
	var found []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err != nil || !key.Valid() || key.Use == "enc" {
			continue
		}
		if !key.IsPublic() {
			return nil, fmt.Errorf("the key %.100q is a private one: anybody who reads it makes tokens, so replace it "+
				"and list only public keys", key.KeyID)
		}
		if public, isRSA := key.Key.(*rsa.PublicKey); isRSA && public.N.BitLen() < minRSABits {
			continue
		}
		found = append(found, key)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the key set has no public key for signatures: want RSA of at least %d bits, EC or "+
			"Ed25519", minRSABits)
	}
	return found, nil
}

// defaultClient returns a client that follows redirections to safe addresses only.
func defaultClient() *http.Client {
	return &http.Client{Timeout: fetchTimeout, CheckRedirect: func(request *http.Request, via []*http.Request) error {
		if len(via) >= 3 {
			return errors.New("more than three redirections")
		}
		return checkURL(request.URL.String())
	}}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
