package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
)

// C2: ten thousand tokens a second, each with another `kid` that no key has, have the key set fetched once in 30 s, and who has a
// good token is served all the while.
func TestProofUnknownKids(t *testing.T) {
	const attackers, batch, every = 8, 25, 30 * time.Second
	rate, length := 1000, 2*time.Second
	if full() {
		rate, length = 10_000, 95*time.Second
	}
	_, echoAddress, chatAddress := startHeard(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	var mu sync.Mutex
	var fetches []time.Time
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		fetches = append(fetches, time.Now())
		mu.Unlock()
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"EC","crv":"P-256","kid":"good","x":%q,"y":%q}]}`, b64(raw[1:33]), b64(raw[33:])) // whoever asked may have left
	}))
	t.Cleanup(keys.Close)
	g := startGateway(t, inletsConfig(t, echoAddress, chatAddress, "outbound: {allow: [127.0.0.1]}\nplugins: [{name: jwt_auth, config: {key_sets: [{url: "+keys.URL+"}]}}]\n"))
	good := func(n int) head {
		tok := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix(), "sub": fmt.Sprint("user-", n)})
		tok.Header["kid"] = "good"
		text, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return head{"authorization": "Bearer " + text}
	}
	first := good(0)
	waitFor(t, "the keys", func() bool { return askREST(t.Context(), t, g, first).code == codes.OK })

	began := time.Now()
	var wg sync.WaitGroup
	var refused atomic.Int64
	for i := range attackers {
		wg.Go(func() {
			if err := floodKids(strings.TrimPrefix(g.url, "http://"), i, batch, time.Duration(batch*attackers)*time.Second/time.Duration(rate), began.Add(length), &refused); err != nil {
				t.Error(err)
			}
		})
	}
	served, slowest := 0, time.Duration(0)
	for n := 1; time.Since(began) < length; n++ {
		who := first // verified before, and one that is not, in turns
		if n%2 == 0 {
			who = good(n)
		}
		at := time.Now()
		if got := askREST(t.Context(), t, g, who); got.code != codes.OK {
			t.Errorf("a good token after %s: %s", time.Since(began), got)
			break
		}
		served, slowest = served+1, max(slowest, time.Since(at))
		time.Sleep(20 * time.Millisecond) // the pace of one user
	}
	wg.Wait()
	took := time.Since(began)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("PROOF %d tokens with unknown kids in %.1f s, %.0f a second, all refused: the key set was fetched %d times, the first before them; %d calls with good tokens, none refused, the slowest after %s",
		refused.Load(), took.Seconds(), float64(refused.Load())/took.Seconds(), len(fetches), served, slowest)
	if most := 2 + int(took/every); len(fetches) > most || len(fetches) < 2 {
		t.Errorf("fetched %d times in %s, want one time before and at most %d then: %v", len(fetches), took, most-1, fetches)
	}
	if full() && float64(refused.Load()) < 0.95*float64(rate)*took.Seconds() {
		t.Errorf("want %d tokens a second: the machine has no room for them now", rate)
	}
}

// floodKids shows tokens with kids of its own on one connection, so many at once in every interval.
func floodKids(address string, who, batch int, interval time.Duration, until time.Time, refused *atomic.Int64) error {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	b64 := base64.RawURLEncoding.EncodeToString
	rest := "." + b64([]byte(`{"sub":"eve","exp":4102444800}`)) + "." + b64(make([]byte, 64))
	var out []byte
	for n, due := 0, time.Now(); due.Before(until); due = due.Add(interval) {
		time.Sleep(time.Until(due))
		out = out[:0]
		for range batch {
			n++
			kid := b64(fmt.Appendf(nil, `{"alg":"ES256","kid":"random-%d-%d"}`, who, n))
			out = fmt.Appendf(out, "GET /v1/echo/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s%s\r\n\r\n", kid, rest)
		}
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		if _, err := conn.Write(out); err != nil {
			return err
		}
		for range batch {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			if err = errors.Join(err, resp.Body.Close()); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusUnauthorized {
				return fmt.Errorf("a token of nobody's: status %d", resp.StatusCode)
			}
			refused.Add(1)
		}
	}
	return nil
}
