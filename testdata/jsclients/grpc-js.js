// @grpc/grpc-js, with the services of @grpc/proto-loader.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ErrorInfo, Status, between, check, end, equal, rejected, set, url } from "./suite.js";

const services = grpc.loadPackageDefinition(loader.loadFileDescriptorSetFromBuffer(set, { longs: String, defaults: true }));
const address = new URL(url).host;
const plain = grpc.credentials.createInsecure();
const echo = new services.demo.echo.v1.Echo(address, plain);
const chat = new services.demo.chat.v1.Chat(address, plain);
const details = (bytes) => fromBinary(Status, bytes).details.map((d) => fromBinary(ErrorInfo, d.value));

// unary makes a call and gives the answer with what came beside it.
const unary = (method, request, metadata = new grpc.Metadata(), options = {}) =>
  new Promise((resolve, reject) => {
    const beside = {};
    const call = echo[method](request, metadata, options, (e, answer) => (e ? reject(e) : (beside.answer = answer)));
    call.on("metadata", (md) => (beside.header = md));
    call.on("status", (s) => (beside.answer ? resolve({ ...beside, trailer: s.metadata }) : undefined));
  });

// received collects what a call sends, and how it ends.
const received = (call) =>
  new Promise((resolve) => {
    const got = { texts: [] };
    call.on("data", (m) => got.texts.push(m.text));
    call.on("error", () => {}); // status tells
    call.on("status", (s) => resolve({ ...got, status: s }));
  });

await check("unary", async () => {
  const metadata = new grpc.Metadata();
  metadata.set("x-shop", "7");
  metadata.set("x-key-bin", Buffer.from([0, 255]));
  const { answer, header, trailer } = await unary(
    "call", { text: "häuser & rocks", number: "9007199254740993", data: Buffer.from([0, 255]) }, metadata, { deadline: Date.now() + 14000 });
  equal([answer.text, answer.number, [...answer.data]], ["häuser & rocks", "9007199254740993", [0, 255]], "answer");
  // From a descriptor set the loader makes a map what it is on the wire: entries.
  answer.metadata = Object.fromEntries(answer.metadata.map((e) => [e.key, e.value]));
  equal([answer.metadata["x-shop"], answer.metadata["x-key-bin"]], ["7", "00ff"], "metadata");
  equal([header.get("x-instance"), [...header.get("x-raw-bin")[0]]], [["a"], [0, 255]], "header");
  equal(trailer.get("x-cost"), ["3"], "trailer");
  between(Number(answer.deadline.seconds) + answer.deadline.nanos / 1e9, 1, 14, "deadline");
});

await check("large unary", async () => {
  const { answer } = await unary("call", { text: "x".repeat(300_000), fill: 400_000 });
  equal([answer.text.length, answer.filler.length], [300_000, 400_000], "sizes");
});

await check("error with details", async () => {
  const info = toBinary(ErrorInfo, create(ErrorInfo, { reason: "SOLD_OUT", domain: "shop" }));
  const any = { type_url: "type.googleapis.com/google.rpc.ErrorInfo", value: info };
  const e = await rejected(unary("fail", { code: 9, message: "sold ☃ out", details: [any] }));
  equal([e.code, e.details], [9, "sold ☃ out"], "status");
  equal(details(e.metadata.get("grpc-status-details-bin")[0]).map((d) => [d.reason, d.domain]), [["SOLD_OUT", "shop"]], "details");
});

await check("deadline", async () => {
  const e = await rejected(unary("wait", { time: { seconds: "20", nanos: 0 } }, undefined, { deadline: Date.now() + 300 }));
  equal(e.code, grpc.status.DEADLINE_EXCEEDED, "code");
});

await check("server stream", async () => {
  const got = await received(chat.listen({ room: "head.3" }));
  equal(got.texts, ["message 0", "message 1", "message 2"], "messages");
  equal([got.status.code, got.status.metadata.get("x-cost")], [0, ["3"]], "status and trailer");
});

await check("server stream that fails", async () => {
  const got = await received(chat.listen({ room: "2.fail7" }));
  equal(got.texts, ["message 0", "message 1"], "messages");
  equal([got.status.code, got.status.details], [7, "asked to"], "status");
});

await check("server stream that is left", async () => {
  const call = chat.listen({ room: "1.wait" });
  call.on("data", () => call.cancel());
  const got = await received(call);
  equal([got.texts, got.status.code], [["message 0"], grpc.status.CANCELLED], "messages and code");
});

await check("client stream", async () => {
  const sum = await new Promise((resolve, reject) => {
    const call = chat.import((e, answer) => (e ? reject(e) : resolve(answer)));
    for (let i = 0; i < 5; i++) {
      call.write({ room: "x", text: "12345" });
    }
    call.end();
  });
  equal([sum.messages, sum.bytes], ["5", "25"], "summary");
});

await check("client stream that fails", async () => {
  const e = await rejected(new Promise((resolve, reject) => {
    const call = chat.import((e, answer) => (e ? reject(e) : resolve(answer)));
    call.write({ room: "x", text: "fail 6" });
  }));
  equal([e.code, e.details], [6, "asked to"], "status");
});

await check("both ways", async () => {
  const call = chat.talk();
  const left = ["two", "three"];
  call.on("data", () => (left.length > 0 ? call.write({ room: "x", text: left.shift() }) : call.end()));
  call.write({ room: "x", text: "one" });
  const got = await received(call);
  equal([got.texts, got.status.code], [["one", "two", "three"], 0], "messages and code");
});
end();
