// Calls the endpoint that is given, in packets of the version that is given, and writes what came of each call as a line of JSON.
// The calls are read as JSON from stdin: [{function, params: [[tag, type, value, name]], ret: type, outs: [[name, tag, type]],
// context, oneway, timeout}], all at once.
'use strict';

const Tars = require('@tars/rpc');
const Stream = require('@tars/stream');

const Proxy = function () { this._name = undefined; this._worker = undefined; };
const list = (type) => Stream.List(Stream[type]);
const read = (is, tag, type) => (type.startsWith('List ')
  ? is.readList(tag, true, list(type.slice(5))).toObject()
  : is['read' + type](tag, true, Stream[type]));

async function main() {
  let text = '';
  for await (const part of process.stdin) text += part;
  const prx = Tars.client.stringToProxy(Proxy, process.argv[2]);
  const version = +process.argv[3];
  const tup = version === Stream.Tup.TUP_SIMPLE || version === Stream.Tup.TUP_COMPLEX;
  if (tup) prx._worker.version = version;
  const invoke = (call, property) => {
    if (tup) {
      const params = new Stream.UniAttribute();
      params.tupVersion = version;
      for (const [, type, value, name] of call.params) params['write' + type](name, value);
      return prx._worker.tup_invoke(call.function, params, property);
    }
    const os = new Stream.TarsOutputStream();
    for (const [tag, type, value] of call.params) os['write' + type](tag, value);
    return prx._worker.tars_invoke(call.function, os.getBinBuffer(), property);
  };
  const all = JSON.parse(text).map((call) => {
    const property = { context: call.context };
    if (call.oneway) property.packetType = 1;
    prx._worker.timeout = call.timeout || 10000;
    return invoke(call, property).then((data) => {
      if (call.oneway) return { oneway: true };
      if (tup) {
        const { tup: results, context } = data.response;
        const list = (type) => Stream.List(Stream[type]);
        const read = (name, type) => (type.startsWith('List ')
          ? results.readList(name, list(type.slice(5))).toObject()
          : results['read' + type](name));
        const out = { context: context.toObject() };
        if (call.ret) out.ret = read('', call.ret);
        for (const [name, , type] of call.outs || []) out[name] = read(name, type);
        return out;
      }
      const is = new Stream.TarsInputStream(data.response.sBuffer);
      const out = { context: data.response.context ? data.response.context.toObject ? data.response.context.toObject() : data.response.context : {} };
      if (call.ret) out.ret = read(is, 0, call.ret);
      for (const [name, tag, type] of call.outs || []) out[name] = read(is, tag, type);
      return out;
    }, (data) => ({ code: data.error.code, message: data.error.message }));
  });
  for (const one of await Promise.all(all)) console.log(JSON.stringify(one));
  process.exit(0);
}

main();
