"""Certificates that a test makes for itself, by the openssl program."""
import os
import subprocess


def make_certificate(folder, name="a.example", file=None, rsa=False, days=2, issuer=None):
    """A file with a certificate of this name and its key behind it; `issuer`, another such file,
    signs it, or it signs itself. Returns its path."""
    path = os.path.join(folder, file or f"{name}.pem")
    key = os.path.join(folder, f"{os.path.basename(path)}.key")
    kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    signed = [] if issuer is None else ["-CA", issuer, "-CAkey", issuer]
    subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-keyout", key, "-out",
                    path + ".new", "-days", str(days), "-subj", f"/CN={name}", "-addext",
                    f"subjectAltName=DNS:{name},IP:127.0.0.1", *signed],
                   check=True, capture_output=True)
    with open(path + ".new", "a", encoding="ascii") as whole, open(key, encoding="ascii") as own:
        whole.write(own.read())
    os.rename(path + ".new", path)
    return path
