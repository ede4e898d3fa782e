// @connectrpc/connect-node: Connect, gRPC and gRPC-Web over both versions of HTTP.
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { run } from "./connect_suite.js";
import { end, registry, url } from "./suite.js";

const node = { baseUrl: url, jsonOptions: { registry } }; // for details in requests
const h2 = { ...node, httpVersion: "2" };
const h1 = { ...node, httpVersion: "1.1" };
await run("connect, proto, HTTP/2", createConnectTransport({ ...h2, useBinaryFormat: true }), { duplex: true });
await run("connect, JSON, HTTP/2", createConnectTransport({ ...h2, useBinaryFormat: false }), { duplex: true });
await run("connect, proto, HTTP/1.1", createConnectTransport({ ...h1, useBinaryFormat: true }), { duplex: false });
await run("connect, JSON, HTTP/1.1", createConnectTransport({ ...h1, useBinaryFormat: false }), { duplex: false });
await run("grpc", createGrpcTransport(h2), { duplex: true });
await run("grpc-web, HTTP/2", createGrpcWebTransport(h2), { duplex: true });
await run("grpc-web, HTTP/1.1", createGrpcWebTransport(h1), { duplex: false });
end();
