package main

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"time"
)

// hmacSecret signs the tokens of HS256.
const hmacSecret = "a secret of the bench, which has 32 bytes and more"

// rsaKey signs the tokens of RS256, anew in each run.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// hsToken and rsToken are bearer tokens of about 300 bytes, apart from the signature, for an hour.
func hsToken() (string, error) {
	return signed("HS256", func(input []byte) ([]byte, error) {
		mac := hmac.New(sha256.New, []byte(hmacSecret))
		_, _ = mac.Write(input)
		return mac.Sum(nil), nil
	})
}

func rsToken() (string, error) {
	key, err := rsaKey()
	if err != nil {
		return "", err
	}
	return signed("RS256", func(input []byte) ([]byte, error) {
		sum := sha256.Sum256(input)
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	})
}

func signed(algorithm string, sign func([]byte) ([]byte, error)) (string, error) {
	now := time.Now().Unix()
	header := fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, algorithm, algorithm)
	claims := fmt.Sprintf(`{"iss":"https://login.example.com","sub":"user-7f3a91c2","aud":"orders","iat":%d,"exp":%d,"scope":"orders.read orders.write","tenant":"harbour-12"}`, now, now+3600)
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
	signature, err := sign([]byte(input))
	if err != nil {
		return "", err
	}
	return "Bearer " + input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// authPlugins is the configuration of the plugins that check tokens and limit calls.
func authPlugins() (string, error) {
	key, err := rsaKey()
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", err
	}
	public := strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "\n", "\\n")
	return fmt.Sprintf(`  - name: jwt_auth
    config:
      audiences: [orders]
      keys:
        - {id: HS256, algorithm: HS256, secret: %q}
        - {id: RS256, algorithm: RS256, public_key: "%s"}
  - name: limit_count
    config: {count: 1000000000, window: 3600s, key: {claim: sub}}
`, hmacSecret, public), nil
}
