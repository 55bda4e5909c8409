"""An admission webhook for the fixture's tests: refuses what is named `forbidden`. A plain script: `CERT KEY PORT`."""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Review(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        response = {"uid": request["uid"], "allowed": request["name"] != "forbidden"}
        if not response["allowed"]:
            response["status"] = {"message": "the test's webhook refuses this name"}
        answer = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


if __name__ == "__main__":
    certificate, key, port = sys.argv[1:]
    server = HTTPServer(("", int(port)), Review)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
