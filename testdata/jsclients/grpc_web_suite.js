// The checks for grpc-web.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import grpcweb from "grpc-web";
import { Chat, Echo, ErrorInfo, Status, between, check, equal, rejected } from "./suite.js";

// method is a method of a service as grpc-web wants it, by its name in the descriptors.
function method(service, name) {
  const m = service.method[name];
  return new grpcweb.MethodDescriptor(
    `/${service.typeName}/${m.name}`,
    m.methodKind,
    Object,
    Object,
    (request) => toBinary(m.input, create(m.input, request)),
    (answer) => fromBinary(m.output, answer),
  );
}

// run makes the checks with a client.
export async function run(name, client, url) {
  // unary makes a call and gives the answer with what came beside it.
  const unary = (service, rpc, request, metadata = {}) =>
    new Promise((resolve, reject) => {
      const m = method(service, rpc);
      const beside = {};
      const call = client.rpcCall(url + m.getName(), request, metadata, m, (e, answer) => {
        beside.answer = answer;
        return e ? reject(e) : undefined;
      });
      call.on("metadata", (md) => (beside.header = md));
      call.on("status", (s) => (beside.status = s));
      call.on("end", () => resolve(beside));
    });
  // stream collects what a server stream sends.
  const stream = (request, metadata = {}) =>
    new Promise((resolve) => {
      const m = method(Chat, "listen");
      const got = { texts: [] };
      const call = client.serverStreaming(url + m.getName(), request, metadata, m);
      call.on("data", (answer) => got.texts.push(answer.text));
      call.on("status", (s) => (got.status = s));
      call.on("error", (e) => resolve({ ...got, error: e }));
      call.on("end", () => resolve(got));
    });

  await check(name + "/unary", async () => {
    const { answer, header, status } = await unary(
      Echo, "call", { text: "häuser & rocks", number: 9007199254740993n }, { "x-shop": "7", deadline: String(Date.now() + 14000) });
    equal([answer.text, answer.number], ["häuser & rocks", 9007199254740993n], "answer");
    equal(answer.metadata["x-shop"], "7", "metadata");
    equal(header["x-instance"], "a", "header");
    equal(status.metadata["x-cost"], "3", "trailer");
    between(Number(answer.deadline.seconds) + answer.deadline.nanos / 1e9, 1, 14, "deadline");
  });

  await check(name + "/large unary", async () => {
    const { answer } = await unary(Echo, "call", { text: "x".repeat(300_000), fill: 400_000 });
    equal([answer.text.length, answer.filler.length], [300_000, 400_000], "sizes");
  });

  await check(name + "/error with details", async () => {
    const detail = anyPack(ErrorInfo, create(ErrorInfo, { reason: "SOLD_OUT", domain: "shop" }));
    const e = await rejected(unary(Echo, "fail", { code: 9, message: "sold ☃ out", details: [detail] }));
    equal([e.code, e.message], [9, "sold ☃ out"], "status");
    const bytes = Uint8Array.from(atob(e.metadata["grpc-status-details-bin"]), (c) => c.charCodeAt(0));
    const details = fromBinary(Status, bytes).details.map((d) => fromBinary(ErrorInfo, d.value));
    equal(details.map((d) => [d.reason, d.domain]), [["SOLD_OUT", "shop"]], "details");
  });

  await check(name + "/deadline", async () => {
    const e = await rejected(unary(Echo, "wait", { time: { seconds: 20n, nanos: 0 } }, { deadline: String(Date.now() + 500) }));
    equal(e.code, 4, "code");
  });

  await check(name + "/server stream", async () => {
    const got = await stream({ room: "head.3" });
    equal(got.texts, ["message 0", "message 1", "message 2"], "messages");
    equal([got.status?.code, got.status?.metadata["x-cost"]], [0, "3"], "status and trailer");
  });

  await check(name + "/server stream that fails", async () => {
    const got = await stream({ room: "2.fail7" });
    equal(got.texts, ["message 0", "message 1"], "messages");
    equal([got.error?.code, got.error?.message], [7, "asked to"], "status");
  });
}
