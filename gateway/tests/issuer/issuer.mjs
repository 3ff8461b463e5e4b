// An issuer of tokens, real ones: oauth2-mock-server, told what to do over a second port.
//
//   POST /token   { claims, alg, forge }   a token with these claims over the usual ones; null takes a claim out
//   POST /rotate                           another key in place of those there are
//   POST /down, /up                        the issuer stops listening, and listens again at the same port
//
// What `forge` asks for: "none" (no signature), "secret" (HS256 by the public key), "stranger" (an unknown key),
// "unnamed" (no key id), "changed" (claims changed after the signature).

import { createHmac, createPublicKey } from "node:crypto";
import { createServer } from "node:http";
import { OAuth2Server } from "oauth2-mock-server";

const TOKEN = "/tenant-1/oauth2/v2.0/token";
let port = 0;

async function issuer(algorithms) {
  const server = new OAuth2Server(undefined, undefined, { endpoints: { token: TOKEN } });
  for (const alg of algorithms) await server.issuer.keys.generate(alg);
  // What a client asks for over HTTP: for the gateway's callers, as the tests' own tokens are.
  server.service.on("beforeTokenSigning", (token, request) => {
    token.payload.aud = "api://tollgate";
    token.payload.appid = request.body?.client_id;
  });
  return server;
}

async function listen(server) {
  await server.start(port, "127.0.0.1");
  port = server.address().port;
  server.issuer.url = `http://127.0.0.1:${port}`;
}

let current = await issuer(["RS256", "ES256", "EdDSA", "PS384"]);
const stranger = await issuer(["RS256"]);
await listen(current);
stranger.issuer.url = current.issuer.url;

const base64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const decoded = (part) => JSON.parse(Buffer.from(part, "base64url").toString());

async function token({ claims = {}, alg = "RS256", forge = "" }) {
  const { issuer } = forge === "stranger" ? stranger : current;
  const key = issuer.keys.toJSON().find((key) => key.alg === alg);
  const built = await issuer.buildToken({
    kid: key.kid,
    scopesOrTransform: (head, payload) => {
      Object.assign(payload, { aud: "api://tollgate", sub: "subject", appid: "team-a" }, claims);
      for (const name of Object.keys(claims)) if (claims[name] === null) delete payload[name];
      if (forge === "unnamed") delete head.kid;
    },
  });
  const [head, payload, signature] = built.split(".");
  switch (forge) {
    case "none":
      return `${base64({ ...decoded(head), alg: "none" })}.${payload}.`;
    case "secret": {
      const secret = createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" });
      const text = `${base64({ ...decoded(head), alg: "HS256" })}.${payload}`;
      return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
    }
    case "changed":
      return `${head}.${base64({ ...decoded(payload), appid: "team-b" })}.${signature}`;
    default:
      return built;
  }
}

const commands = {
  "/token": token,
  "/rotate": async () => {
    await current.stop();
    current = await issuer(["RS256"]);
    await listen(current);
  },
  "/down": () => current.stop(),
  "/up": () => listen(current),
};

const control = createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", async () => {
    try {
      const answer = await commands[request.url](JSON.parse(body || "{}"));
      response.end(answer ?? "");
    } catch (error) {
      response.writeHead(500).end(String(error.stack));
    }
  });
});
control.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ issuer: current.issuer.url, control: `http://127.0.0.1:${control.address().port}` }));
});
// The test has ended, however it did.
process.stdin.on("end", () => process.exit(0)).resume();
