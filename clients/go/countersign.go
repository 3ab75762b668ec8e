// Package countersign signs the requests of net/http for a Countersign gateway. Copy this file into your project.
//
//	key, err := countersign.ParseKey(pem)
//	client := http.Client{Transport: &countersign.Transport{MachineID: "web-1", Key: key}, Timeout: 10 * time.Second}
//	answer, err := client.Get("https://gateway.example/v1/secret/db")
package countersign

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

var errStreamed = errors.New("countersign: cannot sign a streamed body: its hash is part of the signature. " +
	"Give http.NewRequest a bytes.Reader, bytes.Buffer or strings.Reader")

// Transport is an http.RoundTripper that signs every request, each time it is sent. Redirects are refused.
type Transport struct {
	MachineID string
	Key       ed25519.PrivateKey
	PathOnly  bool              // set it if the gateway's route has `query: strip`
	Base      http.RoundTripper // sends; nil means http.DefaultTransport
}

// ParseKey reads a private key in PKCS#8 PEM.
func ParseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("countersign: the key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("countersign: cannot read the key: %w", err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("countersign: the key is not an Ed25519 key. Make one: countersign keygen --out key.pem")
	}
	return key, nil
}

// RoundTrip signs a copy of the request and sends it.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := read(request)
	if err != nil {
		return nil, err
	}
	if len(t.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("countersign: the transport has no key. Set Key to what ParseKey returns")
	}
	signed := request.Clone(request.Context())
	signed.Body, signed.ContentLength = http.NoBody, int64(len(body))
	if len(body) > 0 {
		signed.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		signed.Body, _ = signed.GetBody()
	}
	method := request.Method
	if method == "" {
		method = http.MethodGet
	}
	path := request.URL.RequestURI() // as net/http writes it
	if t.PathOnly {
		path, _, _ = strings.Cut(path, "?")
	}
	timestamp, nonce := strconv.FormatInt(time.Now().Unix(), 10), nextNonce()
	signed.Header.Set("X-Machine-Id", t.MachineID)
	signed.Header.Set("X-Timestamp", timestamp)
	signed.Header.Set("X-Nonce", nonce)
	signed.Header.Set("X-Signature", Sign(t.Key, method, path, timestamp, nonce, body))
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(signed)
}

// Sign returns X-Signature for exactly these parts.
func Sign(key ed25519.PrivateKey, method, path, timestamp, nonce string, body []byte) string {
	message := fmt.Sprintf("%s:%s:%s:%s:%x", method, path, timestamp, nonce, sha256.Sum256(body))
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(message)))
}

// read returns the body, and closes it, as a RoundTripper must whatever happens.
func read(request *http.Request) ([]byte, error) {
	if request.Body != nil {
		defer request.Body.Close()
	}
	if request.Response != nil { // the answer that redirected the client here
		return nil, fmt.Errorf("countersign: redirect refused: a signature is good for one request to one server. "+
			"Use the final URL: %s://%s%s", request.URL.Scheme, request.URL.Host, request.URL.EscapedPath())
	}
	if request.Body == nil || request.Body == http.NoBody {
		return nil, nil
	}
	if request.GetBody == nil { // NewRequest sets it for bodies in memory
		return nil, errStreamed
	}
	return io.ReadAll(request.Body)
}

var (
	instance = random(8)
	count    atomic.Uint64
)

// nextNonce is `CS1`, a random name of this process, a counter, and 96 random bits, each as base64url. The gateway
// tells a process that goes on from a copied key that is used beside it.
func nextNonce() string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], count.Add(1)-1)
	return "CS1" + instance + base64.RawURLEncoding.EncodeToString(counter[2:]) + random(12)
}

func random(size int) string {
	bytes := make([]byte, size)
	if _, err := rand.Read(bytes); err != nil {
		panic("countersign: the system has no random numbers: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(bytes)
}
