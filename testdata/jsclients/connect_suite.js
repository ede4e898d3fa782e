// The checks for clients of Connect, whatever protocol their transport speaks.
import { create } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { Chat, Echo, ErrorInfo, between, check, equal, rejected } from "./suite.js";

// run makes the checks over a transport. duplex: requests can be streamed, and answered while they are.
export async function run(name, transport, { duplex }) {
  const echo = createClient(Echo, transport);
  const chat = createClient(Chat, transport);

  await check(name + "/unary", async () => {
    let header, trailer;
    const answer = await echo.call(
      { text: "häuser & rocks", number: 9007199254740993n, data: new Uint8Array([0, 255]) },
      { headers: { "x-shop": "7", "x-key-bin": "AP8" }, onHeader: (h) => (header = h), onTrailer: (t) => (trailer = t), timeoutMs: 14000 },
    );
    equal(answer.text, "häuser & rocks", "text");
    equal(answer.number, 9007199254740993n, "number");
    equal([...answer.data], [0, 255], "data");
    equal(answer.metadata["x-shop"], "7", "metadata");
    equal(answer.metadata["x-key-bin"], "00ff", "binary metadata");
    equal(header.get("x-instance"), "a", "header");
    equal(header.get("x-raw-bin"), "AP8", "binary header");
    equal(trailer.get("x-cost"), "3", "trailer");
    between(Number(answer.deadline.seconds) + answer.deadline.nanos / 1e9, 1, 14, "deadline");
  });

  await check(name + "/large unary", async () => {
    const answer = await echo.call({ text: "x".repeat(300_000), fill: 400_000 });
    equal([answer.text.length, answer.filler.length], [300_000, 400_000], "sizes");
  });

  await check(name + "/error with details", async () => {
    const detail = create(ErrorInfo, { reason: "SOLD_OUT", domain: "shop" });
    const e = await rejected(echo.fail({ code: 9, message: "sold ☃ out", details: [anyPack(ErrorInfo, detail)] }));
    equal(e instanceof ConnectError, true, "type");
    equal([e.code, e.rawMessage], [Code.FailedPrecondition, "sold ☃ out"], "status");
    equal(e.findDetails(ErrorInfo).map((d) => [d.reason, d.domain]), [["SOLD_OUT", "shop"]], "details");
  });

  await check(name + "/deadline", async () => {
    const e = await rejected(echo.wait({ time: { seconds: 20n, nanos: 0 } }, { timeoutMs: 200 }));
    equal(Code[e.code], "DeadlineExceeded", "code");
  });

  await check(name + "/no such method", async () => {
    const e = await rejected(chat.listen({ room: "fail12" })[Symbol.asyncIterator]().next());
    equal([Code[e.code], e.rawMessage], ["Unimplemented", "asked to"], "status");
  });

  await check(name + "/server stream", async () => {
    const texts = [];
    let trailer;
    for await (const m of chat.listen({ room: "head.3" }, { onTrailer: (t) => (trailer = t) })) {
      texts.push(m.text);
    }
    equal(texts, ["message 0", "message 1", "message 2"], "messages");
    equal(trailer.get("x-cost"), "3", "trailer");
  });

  await check(name + "/server stream that fails", async () => {
    const texts = [];
    const e = await rejected((async () => {
      for await (const m of chat.listen({ room: "2.fail7" })) {
        texts.push(m.text);
      }
    })());
    equal(texts, ["message 0", "message 1"], "messages");
    equal([Code[e.code], e.rawMessage], ["PermissionDenied", "asked to"], "status");
  });

  await check(name + "/server stream that is left", async () => {
    const leave = new AbortController();
    const e = await rejected((async () => {
      for await (const m of chat.listen({ room: "1.wait" }, { signal: leave.signal })) {
        equal(m.text, "message 0", "message");
        leave.abort();
      }
    })());
    equal(Code[e.code], "Canceled", "code");
  });

  if (!duplex) {
    return;
  }

  await check(name + "/client stream", async () => {
    const sum = await chat.import((async function* () {
      for (let i = 0; i < 5; i++) {
        yield { room: "x", text: "12345" };
      }
    })());
    equal([sum.messages, sum.bytes], [5n, 25n], "summary");
  });

  await check(name + "/client stream that fails", async () => {
    const e = await rejected(chat.import((async function* () {
      yield { room: "x", text: "fail 6" };
    })()));
    equal([Code[e.code], e.rawMessage], ["AlreadyExists", "asked to"], "status");
  });

  await check(name + "/both ways", async () => {
    let answered;
    const said = [];
    for await (const m of chat.talk((async function* () {
      for (const text of ["one", "two", "three"]) {
        const answer = new Promise((resolve) => (answered = resolve));
        yield { room: "x", text };
        await answer; // each is answered before the next is said
      }
    })())) {
      said.push(m.text);
      answered();
    }
    equal(said, ["one", "two", "three"], "messages");
  });
}
