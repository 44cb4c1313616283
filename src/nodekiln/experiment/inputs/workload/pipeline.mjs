// The program of Node's guide on backpressure: a file goes through gzip into another file.
//
//   node pipeline.mjs INPUT OUTPUT [HIGH_WATER_MARK]
//
// Reading is faster than gzip by far. With backpressure the reader waits; without it, nearly all of INPUT waits in
// the gzip stream. HIGH_WATER_MARK, in bytes, is for all three streams.

import { channel } from 'node:diagnostics_channel';
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

const [input, output, mark] = process.argv.slice(2);
const options = mark === undefined ? {} : { highWaterMark: Number(mark) };

const gzip = createGzip(options);
const file = createWriteStream(output, options);

// Whoever measures may ask these for their writableLength.
for (const stream of [gzip, file]) channel('nodekiln:writable').publish(stream);

await pipeline(createReadStream(input, options), gzip, file);
