package passthrough

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

func init() {
	caddy.RegisterModule(new(bearer))
	httpcaddyfile.RegisterHandlerDirective("bearer", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return &caddyauth.Authentication{ProvidersRaw: caddy.ModuleMap{"bearer": json.RawMessage("{}")}}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("bearer", httpcaddyfile.After, "basic_auth")
}

// bearer is an authentication by JWT. As with the modules that there are, a claim of the
// token becomes a placeholder.
type bearer struct{}

var bearerKey = []byte("a key of at least thirty-two bytes")

func (*bearer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.bearer", New: func() caddy.Module { return new(bearer) }}
}

func (*bearer) Authenticate(_ http.ResponseWriter, r *http.Request) (user caddyauth.User, ok bool, err error) {
	text := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return user, false, err
	}
	var claims jwt.Claims
	if err := token.Claims(bearerKey, &claims); err != nil {
		return user, false, err
	}
	if err := claims.ValidateWithLeeway(jwt.Expected{Time: time.Now()}, 0); err != nil {
		return user, false, err
	}
	user = caddyauth.User{ID: claims.Subject, Metadata: make(map[string]string)}
	if claims.Expiry != nil {
		user.Metadata["expires"] = strconv.FormatInt(int64(*claims.Expiry), 10)
	}
	return user, true, nil
}

// bearerToken returns a JWT that expires at a time; at zero, never.
func bearerToken(t *testing.T, user string, expires time.Time) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: bearerKey}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.Claims{Subject: user}
	if !expires.IsZero() {
		claims.Expiry = jwt.NewNumericDate(expires)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token
}
