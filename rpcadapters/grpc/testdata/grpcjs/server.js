// A gRPC server on grpc-js with its defaults. Its one method waits for as many milliseconds as the request says in digits and
// sends the request back. It ends when its input does.
'use strict';
const grpc = require('@grpc/grpc-js');

const same = (b) => b;
const server = new grpc.Server();
server.addService({
  wait: {
    path: '/test.v1.Test/Wait',
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  },
}, {
  wait: (call, done) => {
    setTimeout(() => done(null, call.request), Number(call.request.toString()));
  },
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (err, port) => {
  if (err) {
    throw err;
  }
  console.log(`listening on 127.0.0.1:${port}`);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
