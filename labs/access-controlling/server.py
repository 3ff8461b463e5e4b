"""A directory that is made up: it gives the gateway's identity a token, signs tokens for applications, and shows its keys."""

import base64
import http.server
import json
import os
import sys
import time
import urllib.parse

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PORT = int(sys.argv[1])


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value):
    return text(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def signed(claims):
    head = {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    message = ".".join(text(json.dumps(part).encode()) for part in (head, claims))
    return f"{message}.{text(KEY.sign(message.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Directory(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if path == "/healthz":
            return self.answer({})
        if path == "/metadata/identity/oauth2/token" and self.headers.get("metadata") == "true":
            expires = str(int(time.time()) + 3600)
            return self.answer({"access_token": os.environ["KEY_OF_EAST"], "expires_on": expires, "expires_in": "3600",
                                "resource": asked["resource"], "token_type": "Bearer"})
        if path == "/keys":
            public = KEY.public_key().public_numbers()
            return self.answer({"keys": [{"kty": "RSA", "use": "sig", "kid": "key-1", "n": number(public.n), "e": number(public.e)}]})
        if path == "/token":
            now = int(time.time())
            claims = {"iss": f"http://127.0.0.1:{PORT}", "aud": "api://tollgate", "iat": now, "nbf": now, "exp": now + 600,
                      "appid": asked["appid"], "oid": asked["oid"], "roles": asked.get("roles", "llm.call").split(",")}
            return self.answer({"access_token": signed(claims)})
        return self.answer({}, 404)

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Directory).serve_forever()
