// @connectrpc/connect-web, over the fetch of Node.
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { run } from "./connect_suite.js";
import { end, registry, url } from "./suite.js";

await run("connect, JSON", createConnectTransport({ baseUrl: url, jsonOptions: { registry } }), { duplex: false });
await run("connect, proto", createConnectTransport({ baseUrl: url, useBinaryFormat: true }), { duplex: false });
await run("grpc-web", createGrpcWebTransport({ baseUrl: url }), { duplex: false });
end();
