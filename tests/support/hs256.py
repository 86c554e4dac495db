"""JSON Web Tokens of HS256, for tests of servers that have the secret."""
import base64
import hashlib
import hmac
import json


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mac(secret, text):
    return hmac.new(secret, text, hashlib.sha256).digest()


def unsigned(algorithm, claims):
    """Header and claims, as they are signed."""
    return ".".join(base64url(json.dumps(part).encode())
                    for part in ({"alg": algorithm}, claims)).encode()


def token(secret, **claims):
    text = unsigned("HS256", claims)
    return text.decode() + "." + base64url(mac(secret, text))
