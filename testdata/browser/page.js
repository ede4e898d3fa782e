// The page that a browser makes calls from. Its origin is not the gateway's; ?leave=no says that it may not call.
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import grpcweb from "grpc-web";
import { run as connect } from "./connect_suite.js";
import { run as grpcWeb } from "./grpc_web_suite.js";
import { check, end, equal, registry, rejected, url } from "./suite.js";

// events collects what an EventSource sends until it ends or breaks.
const events = (path) =>
  new Promise((resolve) => {
    const source = new EventSource(url + path);
    const got = { texts: [] };
    const over = (how) => (e) => {
      source.close();
      resolve({ ...got, [how]: e.data === undefined ? null : JSON.parse(e.data) });
    };
    source.onmessage = (e) => got.texts.push(JSON.parse(e.data).text);
    source.addEventListener("end", over("end"));
    source.addEventListener("error", over("error"));
  });

// talk says things in a room, each once the one before was answered, and collects the answers until the WebSocket closes.
const talk = (room, texts) =>
  new Promise((resolve) => {
    const left = [...texts];
    const got = { texts: [] };
    const ws = new WebSocket(url.replace("http", "ws") + `/v1/rooms/${room}:talk`, ["causeway.json"]);
    const next = () => ws.send(left.length > 0 ? JSON.stringify({ text: left.shift() }) : "");
    ws.onopen = () => {
      got.protocol = ws.protocol;
      next();
    };
    ws.onmessage = (e) => {
      const m = JSON.parse(e.data);
      if (m["@error"]) {
        got.error = m["@error"];
        return;
      }
      got.texts.push(m.text);
      next();
    };
    ws.onclose = (e) => resolve({ ...got, code: e.code, reason: e.reason });
  });

const json = { "content-type": "application/json" };

async function allowed() {
  const format = { baseUrl: url, jsonOptions: { registry } };
  await connect("connect, JSON", createConnectTransport(format), { duplex: false });
  await connect("connect, proto", createConnectTransport({ ...format, useBinaryFormat: true }), { duplex: false });
  await connect("connect, grpc-web", createGrpcWebTransport(format), { duplex: false });
  await grpcWeb("grpc-web, text", new grpcweb.GrpcWebClientBase({ format: "text" }), url);
  await grpcWeb("grpc-web, binary", new grpcweb.GrpcWebClientBase({ format: "binary" }), url);

  await check("REST/simple request", async () => {
    const r = await fetch(url + "/v1/echo/hello");
    equal([r.status, (await r.json()).text], [200, "hello"], "answer");
    equal([r.headers.get("grpc-metadata-x-instance"), r.headers.get("grpc-trailer-x-cost")], ["a", "3"], "headers");
    equal(r.headers.get("x-request-id")?.length, 32, "length of the request id");
  });
  await check("REST/request with headers", async () => {
    const r = await fetch(url + "/v1/echo", {
      method: "POST",
      headers: { ...json, authorization: "Bearer x", "grpc-metadata-accept-language": "de" },
      body: '{"text": "hello"}',
    });
    const answer = await r.json();
    equal([r.status, answer.text, answer.metadata.authorization], [200, "hello", "Bearer x"], "answer");
  });
  await check("REST/error", async () => {
    const r = await fetch(url + "/v1/fail", { method: "POST", headers: json, body: '{"code": 5, "message": "none"}' });
    equal([r.status, (await r.json()).message], [404, "none"], "answer");
  });
  await check("REST/no route", async () => {
    const r = await fetch(url + "/v1/none");
    equal([r.status, (await r.json()).details[0].reason], [404, "ROUTE_NOT_FOUND"], "answer");
  });
  await check("REST/a header that nobody takes", async () => {
    const e = await rejected(fetch(url + "/v1/echo/hello", { headers: { "x-nobody": "1" } }));
    equal(e instanceof TypeError, true, "type");
  });
  await check("REST/credentials, which have no leave", async () => {
    const e = await rejected(fetch(url + "/v1/echo/hello", { credentials: "include" }));
    equal(e instanceof TypeError, true, "type");
  });
  await check("NDJSON", async () => {
    const r = await fetch(url + "/v1/rooms/3/messages", { headers: { accept: "application/x-ndjson" } });
    equal((await r.text()).split("\n").filter((line) => line.includes("message ")).length, 3, "messages");
  });

  await check("SSE/end", async () => {
    equal(await events("/v1/rooms/head.3/messages"), { texts: ["message 0", "message 1", "message 2"], end: { code: 0 } }, "events");
  });
  await check("SSE/error", async () => {
    const got = await events("/v1/rooms/2.fail7/messages");
    equal([got.texts, got.error?.code, got.error?.message], [["message 0", "message 1"], 7, "asked to"], "events");
  });

  await check("WebSocket/both ways", async () => {
    const got = await talk("x", ["one", "two", "three"]);
    equal(got, { texts: ["one", "two", "three"], protocol: "causeway.json", code: 1000, reason: "" }, "talk");
  });
  await check("WebSocket/error", async () => {
    const got = await talk("x", ["one", "fail 6"]);
    equal([got.texts, got.error?.message, got.code, got.reason], [["one"], "asked to", 4006, "asked to"], "talk");
  });
}

async function refused() {
  const post = (path, headers) => fetch(url + path, { method: "POST", headers, body: "{}" });
  for (const [name, call] of Object.entries({
    "REST": () => post("/v1/echo", json),
    "REST, simple": () => fetch(url + "/v1/echo/hello"),
    "Connect": () => post("/demo.echo.v1.Echo/Call", { ...json, "connect-protocol-version": "1" }),
    "gRPC-Web": () => post("/demo.echo.v1.Echo/Call", { "content-type": "application/grpc-web", "x-grpc-web": "1" }),
  })) {
    await check(name, async () => {
      equal((await rejected(call())) instanceof TypeError, true, "type");
    });
  }
  await check("SSE", async () => {
    equal(await events("/v1/rooms/head.3/messages"), { texts: [], error: null }, "events");
  });
  await check("WebSocket", async () => {
    equal(await talk("x", ["one"]), { texts: [], code: 1006, reason: "" }, "talk");
  });
}

await (new URLSearchParams(location.search).get("leave") === "no" ? refused() : allowed());
end();
