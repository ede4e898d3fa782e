// Reads lines of JSON, {structs, root, members: hex}, and answers each with the hex of the same members, read and written
// again by @tars/stream, or with "error: " and why not. With tup the members are in a TUP body, as parameters by name. With json
// the answer is what the SDK makes of the members in JSON; with text, which is JSON, it is the hex of the members in that.
'use strict';

const Tars = require('@tars/stream');

const scalars = {
  BOOL: ['Boolean', Tars.Boolean], BYTE: ['Int8', Tars.Int8], SHORT: ['Int16', Tars.Int16], INT: ['Int32', Tars.Int32],
  LONG: ['Int64', Tars.Int64], UNSIGNED_BYTE: ['UInt8', Tars.UInt8], UNSIGNED_SHORT: ['UInt16', Tars.UInt16],
  UNSIGNED_INT: ['UInt32', Tars.UInt32], FLOAT: ['Float', Tars.Float], DOUBLE: ['Double', Tars.Double],
  STRING: ['String', Tars.String], ENUM: ['Int32', Tars.Int32], BYTES: ['Bytes', Tars.BinBuffer],
};

// classOf makes what the code generator makes of a struct.
function classOf(name, structs, classes) {
  if (classes[name]) return classes[name];
  const C = function () {
    Object.defineProperty(this, '_classname', { value: name });
    for (const m of structs[name]) {
      const type = typeOf(m.type, structs, classes);
      this[m.name] = ['LIST', 'MAP'].includes(m.type.kind) ? type : ['STRUCT', 'BYTES'].includes(m.type.kind) ? new type() : m.def;
    }
  };
  classes[name] = C;
  C._classname = name;
  C._write = (os, tag, value) => os.writeStruct(tag, value);
  C._read = (is, tag, def) => is.readStruct(tag, true, def);
  C._readFrom = (is) => {
    const o = new C();
    readMembers(is, structs[name], o, structs, classes);
    return o;
  };
  C.prototype._writeTo = function (os) { writeMembers(os, structs[name], this, structs, classes); };
  C.new = C.create = () => new C();
  C.prototype.toObject = function () { return objectOf(structs[name], this); };
  C.prototype.readFromObject = function (json) { readObject(structs[name], json, this, structs, classes); return this; };
  C.prototype._equal = function (other) { return this._genKey() === other._genKey(); };
  C.prototype._genKey = function () { return JSON.stringify(this); };
  return C;
}

function typeOf(t, structs, classes) {
  switch (t.kind) {
    case 'LIST': return Tars.List(typeOf(t.elem, structs, classes));
    case 'MAP': return Tars.Map(typeOf(t.key, structs, classes), typeOf(t.elem, structs, classes));
    case 'STRUCT': return classOf(t.name, structs, classes);
    default: return scalars[t.kind][1];
  }
}

const suffix = (t) => ({ LIST: 'List', MAP: 'Map', STRUCT: 'Struct' }[t.kind] || scalars[t.kind][0]);

function readMembers(is, members, into, structs, classes) {
  for (const m of members) {
    const type = typeOf(m.type, structs, classes);
    const last = ['LIST', 'MAP', 'STRUCT', 'BYTES'].includes(m.type.kind) ? type : m.def;
    into[m.name] = is['read' + suffix(m.type)](m.tag, m.require, last);
  }
}

function writeMembers(os, members, from) {
  for (const m of members) os['write' + suffix(m.type)](m.tag, from[m.name]);
}

function objectOf(members, from) {
  const out = {};
  for (const m of members) out[m.name] = from[m.name].toObject ? from[m.name].toObject() : from[m.name];
  return out;
}

// readObject does what generated code does with the members that are there.
function readObject(members, json, into, structs, classes) {
  for (const m of members) {
    if (!Object.prototype.hasOwnProperty.call(json, m.name)) continue;
    if (into[m.name] && into[m.name].readFromObject) into[m.name].readFromObject(json[m.name]);
    else into[m.name] = json[m.name];
  }
}

function roundTrip(job) {
  const classes = {};
  const members = job.structs[job.root];
  const held = {};
  if (job.text) {
    const from = new (classOf(job.root, job.structs, classes))().readFromObject(JSON.parse(job.text));
    const os = new Tars.TarsOutputStream();
    writeMembers(os, members, from);
    return os.getBinBuffer().toNodeBuffer().toString('hex');
  }
  const data = new Tars.BinBuffer(Buffer.from(job.members, 'hex'));
  if (job.tup) {
    const tup = new Tars.UniAttribute();
    tup.tupVersion = job.tup;
    tup.decode(data);
    for (const m of members) held[m.name] = tup['read' + suffix(m.type)](m.key, typeOf(m.type, job.structs, classes));
    const out = new Tars.UniAttribute();
    out.tupVersion = job.tup;
    for (const m of members) out['write' + suffix(m.type)](m.key, held[m.name]);
    return out.encode().toNodeBuffer().toString('hex');
  }
  readMembers(new Tars.TarsInputStream(data), members, held, job.structs, classes);
  if (job.json) return JSON.stringify(objectOf(members, held));
  const os = new Tars.TarsOutputStream();
  writeMembers(os, members, held);
  return os.getBinBuffer().toNodeBuffer().toString('hex');
}

for (const line of require('fs').readFileSync(0, 'utf8').split('\n')) {
  if (!line) continue;
  try {
    console.log(roundTrip(JSON.parse(line)));
  } catch (e) {
    console.log('error: ' + (e.message || e));
  }
}
