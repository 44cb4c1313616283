// A file is sent to somebody who stops listening for two seconds, then takes all of it.
//
//   node socket.mjs INPUT OUTPUT [HIGH_WATER_MARK]
//
// With backpressure the sender fills the kernel's buffers and waits; without it, it reads on, and INPUT waits in the
// socket. HIGH_WATER_MARK, in bytes, is for the file that is read and for the sender's socket.

import { channel } from 'node:diagnostics_channel';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setTimeout } from 'node:timers/promises';

const STALL = 2000; // milliseconds

const [input, output, mark] = process.argv.slice(2);
const options = mark === undefined ? {} : { highWaterMark: Number(mark) };

const server = createServer(options, (socket) => {
  channel('nodekiln:writable').publish(socket);
  pipeline(createReadStream(input, options), socket);
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const file = await open(output, 'w');
const client = connect(server.address().port, '127.0.0.1');
await setTimeout(STALL);
for await (const chunk of client) await file.appendFile(chunk);
await file.close();
server.close();
