// Serves part of Kit.Echo on the port that is given, in bodies of version 1, 3 and 5, and says "ready".
'use strict';

const net = require('net');
const Tars = require('@tars/rpc');
const Stream = require('@tars/stream');

const { TUP_SIMPLE, TUP_COMPLEX, JSON_VERSION } = Stream.Tup;
let notes = 0;

// The functions: how parameters are read and results written, and what is done.
const functions = {
  add: {
    params: [['a', 1, 'Int32'], ['b', 2, 'Int32']], ret: 'Int32',
    run: (current, p) => current.sendResponse(p.a + p.b),
  },
  hello: {
    params: [['name', 1, 'String']], ret: 'String',
    run: (current, p) => current.sendResponse('hello ' + p.name),
  },
  fail: {
    params: [['code', 1, 'Int32'], ['message', 2, 'String']], ret: 'Int32',
    run: (current, p) => current.sendErrorResponse(p.code, p.message),
  },
  slow: {
    params: [['ms', 1, 'Int32']], ret: 'Int32',
    run: (current, p) => setTimeout(() => current.sendResponse(p.ms), p.ms),
  },
  note: {
    params: [['text', 1, 'String']],
    run: (current) => { notes++; current.sendResponse(); },
  },
  noteCount: { params: [], ret: 'Int32', run: (current) => current.sendResponse(notes) },
  meta: {
    params: [['prefix', 1, 'String']], ret: ['List', Stream.List(Stream.String)], outs: [],
    run: (current, p) => {
      const list = new Stream.List(Stream.String);
      const context = current.getContext();
      for (const k of Object.keys(context.toObject()).sort()) list.push(p.prefix + k + '=' + context.get(k));
      current.setResponseContext({ 'resp-ctx': p.prefix });
      const out = new Stream.Map(Stream.String, Stream.String);
      current.sendResponse(list, out, out);
    },
    write: (os, rest) => { os.writeMap(2, rest[0]); os.writeMap(3, rest[1]); },
  },
};

const Servant = function () { this._name = undefined; this._worker = undefined; };
Servant.prototype.initialize = function () {};
Servant.prototype.onDispatch = function (current, name, buffer) {
  const f = functions[name];
  if (name === 'tars_ping') {
    const os = new Stream.TarsOutputStream();
    os.writeInt32(0, 0);
    current.doResponse(os.getBinBuffer());
    return Tars.error.SUCCESS;
  }
  if (!f) return Tars.error.SERVER.FUNC_NOT_FOUND;
  const version = current.getRequestVersion();
  const p = {};
  if (version === JSON_VERSION) {
    Object.assign(p, JSON.parse(buffer.toNodeBuffer().toString()));
  } else if (version === TUP_SIMPLE || version === TUP_COMPLEX) {
    const tup = new Stream.UniAttribute();
    tup.tupVersion = version;
    tup.decode(buffer);
    for (const [key, , type] of f.params) p[key] = tup['read' + type](key);
  } else {
    const is = new Stream.TarsInputStream(buffer);
    for (const [key, tag, type] of f.params) p[key] = is['read' + type](tag, true);
  }
  current.sendResponse = function (ret, ...rest) {
    const [type] = [].concat(f.ret);
    if (version === JSON_VERSION) {
      current.doResponse(new Stream.BinBuffer(Buffer.from(JSON.stringify(f.ret ? { tars_ret: ret } : {}))));
    } else if (version === TUP_SIMPLE || version === TUP_COMPLEX) {
      const tup = new Stream.UniAttribute();
      tup.tupVersion = version;
      if (f.ret) tup['write' + type]('', ret);
      current.doResponse(tup.encode());
    } else {
      const os = new Stream.TarsOutputStream();
      if (f.ret) os['write' + type](0, ret);
      if (f.write) f.write(os, rest);
      current.doResponse(os.getBinBuffer());
    }
  };
  f.run(current, p);
  return Tars.error.SUCCESS;
};

const server = Tars.server.createServer(Servant);
server.start({
  name: 'Kit.EchoServer.EchoObjAdapter', servant: 'Kit.EchoServer.EchoObj',
  endpoint: 'tcp -h 127.0.0.1 -p ' + process.argv[2] + ' -t 10000', protocol: 'tars', maxconns: 1024,
});
const probe = () => net.connect(+process.argv[2], '127.0.0.1')
  .on('connect', function () { this.destroy(); console.log('ready'); })
  .on('error', () => setTimeout(probe, 20));
probe();
process.stdin.on('end', () => process.exit(0)).resume();
