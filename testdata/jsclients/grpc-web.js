// grpc-web, over the XMLHttpRequest of xhr2.
import grpcweb from "grpc-web";
import XMLHttpRequest from "xhr2";
import { run } from "./grpc_web_suite.js";
import { end, url } from "./suite.js";

globalThis.XMLHttpRequest = XMLHttpRequest;
await run("text", new grpcweb.GrpcWebClientBase({ format: "text" }), url);
await run("binary", new grpcweb.GrpcWebClientBase({ format: "binary" }), url);
end();
