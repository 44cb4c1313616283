// A server sends a file to a slow client, over one connection on this machine.
//
//   node http.mjs INPUT OUTPUT [HIGH_WATER_MARK]
//
// The client takes a chunk (64 KiB at most) each millisecond, and writes it to OUTPUT. With backpressure the server reads as
// fast as the client does; without it, what the client did not take yet waits in the response. HIGH_WATER_MARK,
// in bytes, is for the file that is read and for the server's connections.

import { channel } from 'node:diagnostics_channel';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { createServer, get } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { setTimeout } from 'node:timers/promises';

const [input, output, mark] = process.argv.slice(2);
const options = mark === undefined ? {} : { highWaterMark: Number(mark) };
const { size } = await stat(input);

const server = createServer(options, (request, response) => {
  channel('nodekiln:writable').publish(response);
  // With a length the response is not chunked: chunked ones hold back by themselves from Node 26 on.
  response.writeHead(200, { 'Content-Length': size });
  pipeline(createReadStream(input, options), response);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const file = await open(output, 'w');
const { port } = server.address();
const response = await new Promise((answered, failed) => {
  get({ host: '127.0.0.1', port, agent: false }, answered).on('error', failed);
});
for await (const chunk of response) {
  await file.appendFile(chunk);
  await setTimeout(1);
}
await file.close();
server.close();
