"""A strict small OpenID Connect provider on loopback: discovery, keys, authorize with PKCE, token, userinfo; RS256 with a key made at start.

Written from OpenID Connect Core and Discovery 1.0 and RFC 7636, for one client and one person (`claims`). `/authorize` shows a page with a button, as
a provider does; the page's form sends the person back. `fault` lets it misbehave, see FAULTS. `log` holds what was asked, in order.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import time
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import padding, rsa

FAULTS = (
    "nonce",  # the id_token holds another nonce
    "no_nonce",
    "audience",  # it was made for another client
    "azp",  # it was made for several clients, and given to another one
    "issuer",  # it names another issuer
    "expired",
    "signature",  # it is signed with a key that is not published
    "unsigned",  # alg: none
    "shared",  # alg: HS256, signed with the client's secret
    "no_id_token",
    "foreign_userinfo",  # the userinfo is about somebody else
    "discovery",  # the discovery document is that of another issuer
    "plain",  # the discovery document names an address without https
    "redirect",  # the token address leads somewhere else
    "500",
    "html",  # answers with a page instead of JSON
    "hang",
    "drip",  # answers with blanks, a few each second
    "gzip",  # answers in an encoding that was not asked for
    "stale",  # does not let the person sign in once more, though it was asked to
    "no_auth_time",  # does not say when the person signed in
)


def b64(raw: bytes) -> str:
    """Returns base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Issuer:
    """One provider with one client and one person."""

    key = "oidc"

    def __init__(self, redirect_uri: str = "http://testserver/auth/oidc/callback/") -> None:
        self.client_id, self.client_secret = "switchboard-client", secrets.token_urlsafe(24)
        self.redirect_uri = redirect_uri
        self.claims: dict[str, Any] = {"sub": "person-1", "email": "alice@example.com", "email_verified": True, "name": "Alice Example"}
        self.email_in_id_token = True
        self.fault = ""
        self.fault_at = ""  # the path that "500", "html" and "hang" are about; empty: all
        self.denies = False
        self.signed_in_at = time.time()  # when the person last typed something here
        self.log: list[str] = []
        self.given: list[str] = []  # every code and token that was given out
        self.keys = [rsa.generate_private_key(65537, 2048) for _ in range(2)]  # the second is not published
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: set[str] = set()

    def app(self) -> web.Application:
        """Returns the aiohttp application."""
        app = web.Application(middlewares=[self._middleware])
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._discovery),
                web.get("/jwks", self._jwks),
                web.get("/authorize", self._authorize),
                web.post("/authorize", self._decide),
                web.post("/token", self._token),
                web.get("/userinfo", self._userinfo),
            ]
        )
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.log.append(f"{request.method} {request.path}")
        if self.fault_at in ("", request.path):
            if self.fault == "500":
                return web.Response(status=500, text="no")
            if self.fault == "html":
                return web.Response(text="<html>a gateway</html>", content_type="text/html")
            if self.fault == "hang":
                await asyncio.sleep(60)
            if self.fault == "drip":
                return await self._drip(request)
        answer = await handler(request)
        if self.fault == "gzip" and self.fault_at in ("", request.path):
            answer.enable_compression(web.ContentCoding.gzip)
        return answer

    @staticmethod
    async def _drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(600):
                await answer.write(b" ")
                await asyncio.sleep(0.1)
        return answer

    @staticmethod
    def _base(request: web.Request) -> str:
        return f"http://{request.host}"

    async def _discovery(self, request: web.Request) -> web.Response:
        base = self._base(request)
        return web.json_response(
            {
                "issuer": "http://127.0.0.1:1" if self.fault == "discovery" else base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": "ftp://127.0.0.1/token" if self.fault == "plain" else f"{base}/token",
                "jwks_uri": f"{base}/jwks",
                "userinfo_endpoint": f"{base}/userinfo",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    async def _jwks(self, request: web.Request) -> web.Response:
        public = self.keys[0].public_key().public_numbers()
        number = {name: b64(value.to_bytes((value.bit_length() + 7) // 8, "big")) for name, value in (("n", public.n), ("e", public.e))}
        return web.json_response({"keys": [{"kty": "RSA", "kid": "key-1", "use": "sig", "alg": "RS256", **number}]})

    async def _authorize(self, request: web.Request) -> web.Response:
        """Shows the page on which a person agrees, if the client asked correctly."""
        asked = dict(request.query)
        wrong = [
            name
            for name, good in {
                "client_id": asked.get("client_id") == self.client_id,
                "redirect_uri": asked.get("redirect_uri") == self.redirect_uri,
                "response_type": asked.get("response_type") == "code",
                "scope": {"openid", "email"} <= set(asked.get("scope", "").split()),
                "state": len(asked.get("state", "")) >= 16,
                "nonce": len(asked.get("nonce", "")) >= 16,
                "code_challenge_method": asked.get("code_challenge_method") == "S256",
                "code_challenge": len(asked.get("code_challenge", "")) == 43,
            }.items()
            if not good
        ]
        if wrong:
            return web.Response(status=400, text=f"invalid_request: {', '.join(wrong)}")
        hidden = "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in asked.items())
        page = f'<title>Provider</title><form method="post" action="/authorize">{hidden}<button id="agree">Continue</button></form>'
        return web.Response(text=f"<!doctype html><html lang=en><body>{page}</body></html>", content_type="text/html")

    async def _decide(self, request: web.Request) -> web.Response:
        asked = {name: str(value) for name, value in (await request.post()).items()}
        raise web.HTTPFound(self.decide(asked))

    def decide(self, asked: dict[str, str]) -> str:
        """Returns the address that the person is sent back to."""
        if asked.get("prompt") == "login" and asked.get("max_age") == "0" and self.fault != "stale":
            self.signed_in_at = time.time()
        answer = {"state": asked["state"]}
        if self.denies:
            answer |= {"error": "access_denied", "error_description": "<b>secret words of the provider</b>"}
        else:
            code = self._give()
            self._codes[code] = asked
            answer["code"] = code
        return f"{self.redirect_uri}?{urlencode(answer)}"

    def come_back(self, target: str) -> str:
        """Does what the page and its button do, for a test without a browser: takes an authorization address, returns the one that leads back."""
        return self.decide({name: values[0] for name, values in parse_qs(urlsplit(target).query).items()})

    def _give(self) -> str:
        made = secrets.token_urlsafe(32)
        self.given.append(made)
        return made

    async def _token(self, request: web.Request) -> web.Response:
        if self.fault == "redirect":
            raise web.HTTPTemporaryRedirect(f"{self._base(request)}/userinfo")
        sent = {name: str(value) for name, value in (await request.post()).items()}
        asked = self._codes.pop(sent.get("code", ""), None)  # a code is good once
        if (sent.get("client_id"), sent.get("client_secret")) != (self.client_id, self.client_secret):
            return web.json_response({"error": "invalid_client"}, status=401)
        challenge = b64(hashlib.sha256(sent.get("code_verifier", "").encode()).digest())
        good = asked and sent.get("grant_type") == "authorization_code" and sent.get("redirect_uri") == self.redirect_uri
        if not asked or not good or challenge != asked["code_challenge"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        access, refresh = self._give(), self._give()
        self._tokens.add(access)
        answer = {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 300}
        if self.fault != "no_id_token":
            answer["id_token"] = self._id_token(self._base(request), asked)
            self.given.append(str(answer["id_token"]))
        return web.json_response(answer)

    def _id_token(self, base: str, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {"iss": base, "aud": self.client_id, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        if self.fault != "no_auth_time":
            claims["auth_time"] = int(self.signed_in_at)
        claims |= {name: value for name, value in self.claims.items() if self.email_in_id_token or not name.startswith("email")}
        claims |= {
            "nonce": {"nonce": "another-nonce-0123456789"},
            "audience": {"aud": "another-client"},
            "azp": {"aud": [self.client_id, "another-client"], "azp": "another-client"},
            "issuer": {"iss": "https://another.example"},
            "expired": {"iat": now - 7200, "exp": now - 3600},
        }.get(self.fault, {})
        if self.fault == "no_nonce":
            del claims["nonce"]
        alg = {"unsigned": "none", "shared": "HS256"}.get(self.fault, "RS256")
        signed = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": alg, "kid": "key-1", "typ": "JWT"}, claims))
        return f"{signed}.{b64(self._sign(alg, signed.encode()))}"

    def _sign(self, alg: str, signed: bytes) -> bytes:
        if alg == "none":
            return b""
        if alg == "HS256":
            code = hmac.HMAC(self.client_secret.encode(), hashes.SHA256())
            code.update(signed)
            return code.finalize()
        return self.keys[self.fault == "signature"].sign(signed, padding.PKCS1v15(), hashes.SHA256())

    async def _userinfo(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self._tokens:
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response(self.claims | ({"sub": "somebody-else"} if self.fault == "foreign_userinfo" else {}))
